from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from synthetic_camvid import write_camvid

from training.data.augmentation import AugmentationConfig, class_mixed, random_crop, recoloured
from training.data.labelled_frames import BrokenFrameError, read_image, read_label_map
from training.data.sets.camvid import CamVid
from training.data.sets.images_and_masks import ImagesAndMasks
from training.data.training_crops import AddressSampler, TrainingCrops
from training.joint.sources import CropsOfFolder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_camvid(tmp_path / "camvid")


def test_the_real_frames_are_read(camvid: Path) -> None:
    sizes = {split: len(CamVid(camvid / split)) for split in ("train", "val", "test")}
    assert sizes == {"train": 367, "val": 101, "test": 233}
    frame = CamVid(camvid / "train")[0]
    assert frame.image.shape == (360, 480, 3)
    assert frame.labels.shape == (360, 480)
    assert set(np.unique(frame.labels).tolist()) <= {*range(11), 255}
    # Sky is the brightest class of a day-time frame, and at the top of it.
    assert frame.image[frame.labels == 0].mean() > frame.image[frame.labels == 3].mean()


@pytest.mark.parametrize("data_set", ["camvid/val", "camvid_static", "smiyc_anomaly_val", "smiyc_obstacle_val"])
def test_pixels_and_labels_are_those_that_pillow_reads(real_frames: Callable[[str], Path], data_set: str) -> None:
    """Published values of metrics were computed on Pillow's pixels, those of WebP included."""
    folder = real_frames(data_set)
    images = sorted((folder / "images").iterdir())[::7]
    assert len(images) >= 2
    for path in images:
        assert np.array_equal(read_image(path), np.array(Image.open(path).convert("RGB"))), path
    for path in sorted(path for kind in folder.glob("labels*") for path in kind.glob("*.png"))[::7]:
        if (stored := Image.open(path)).mode in ("L", "P"):
            assert np.array_equal(read_label_map(path), np.asarray(stored)), path


def test_void_becomes_255_and_the_image_is_rgb(tree: Path) -> None:
    frames = CamVid(tree / "train")
    raw = cv2.imread(str(tree / "train" / "labels" / f"{frames[0].name}.png"), cv2.IMREAD_UNCHANGED)
    bgr = cv2.imread(str(tree / "train" / "images" / f"{frames[0].name}.png"))
    np.testing.assert_array_equal(frames[0].labels, np.where(raw == 11, 255, raw))
    np.testing.assert_array_equal(frames[0].image, bgr[..., ::-1])


def test_a_coloured_label_file_is_refused(tree: Path) -> None:
    cv2.imwrite(str(tree / "train" / "labels" / "train_000.png"), np.zeros((96, 128, 3), np.uint8))
    with pytest.raises(BrokenFrameError, match=r"train_000\.png: a label file must hold one 8-bit value a pixel.* RGB"):
        CamVid(tree / "train")[0]


def test_missing_folders_and_labels_are_named(tree: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"test/images: no such folder; CamVid is available from http"):
        CamVid(tree / "test")
    (tree / "train" / "labels" / "train_003.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"labels/train_003\.png: no labels for .*train_003\.png"):
        CamVid(tree / "train")


def write_masks(folder: Path, **masks: object) -> Path:
    """`images/NAME.png` and `labels/NAME.png` of 4x4 pixels. A mask is an array, a Pillow image, or None for none."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for name, mask in masks.items():
        cv2.imwrite(str(folder / "images" / f"{name}.png"), np.zeros((4, 4, 3), np.uint8))
        if isinstance(mask, np.ndarray):
            mask = Image.fromarray(mask)
        if isinstance(mask, Image.Image):
            mask.save(folder / "labels" / f"{name}.png")
    return folder


ANOMALY_MASK = np.eye(4, dtype=np.uint8)
IN_PALETTE = Image.frombytes("P", (4, 4), ANOMALY_MASK.tobytes())
IN_PALETTE.putpalette([0, 0, 0, 255, 0, 0])


@pytest.mark.parametrize(
    "mask",
    [Image.fromarray(ANOMALY_MASK.astype(bool)), IN_PALETTE, ANOMALY_MASK, ANOMALY_MASK.astype(np.uint16)],
    ids=["1 bit", "palette", "8 bits", "16 bits"],
)
def test_masks_of_every_depth_hold_0_and_1(tmp_path: Path, mask: object) -> None:
    assert np.array_equal(ImagesAndMasks(write_masks(tmp_path, a=mask))[0].anomaly, ANOMALY_MASK)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.dstack([ANOMALY_MASK] * 3), "this one is RGB: write the class ids as a grey PNG"),
        (np.dstack([ANOMALY_MASK] * 4), "this one is RGBA"),
        (np.dstack([ANOMALY_MASK] * 2), "this one is grey with alpha"),
        (ANOMALY_MASK.astype(np.uint16) * 65535, "label value 65535; ids are 0 to 255"),
        (ANOMALY_MASK * np.uint8(128), r"label value\(s\) \[128\]; images and masks has 0 to 1, 255"),
        (ANOMALY_MASK[:2], "labels are 2x4, the image a.png is 4x4"),
    ],
)
def test_a_mask_without_one_meaning_is_refused_with_the_remedy(
    tmp_path: Path, mask: NDArray[np.uint8], message: str
) -> None:
    with pytest.raises(BrokenFrameError, match=rf"labels/a\.png: .*{message}"):
        ImagesAndMasks(write_masks(tmp_path, a=mask))[0]


def test_two_images_do_not_share_a_mask(tmp_path: Path) -> None:
    folder = write_masks(tmp_path / "stem", a=ANOMALY_MASK)
    (folder / "images" / "a.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.png: has the same name as .*a\.jpg .*remove or rename one"):
        ImagesAndMasks(folder)
    folder = write_masks(tmp_path / "suffix", a=None, a_mask=ANOMALY_MASK)
    with pytest.raises(ValueError, match=r"images/a_mask\.png: has the same labels as .*images/a\.png"):
        ImagesAndMasks(folder)


def test_an_image_with_two_masks_is_refused(tmp_path: Path) -> None:
    folder = write_masks(tmp_path, a=ANOMALY_MASK)
    (folder / "labels" / "a_mask.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"labels/a\.png: a_mask\.png is a mask of the image a as well"):
        ImagesAndMasks(folder)


def test_endings_in_upper_case_are_read_and_a_lossy_mask_is_named(tmp_path: Path) -> None:
    folder = write_masks(tmp_path, a=ANOMALY_MASK)
    for part in ("images", "labels"):
        (folder / part / "a.png").rename(folder / part / "a.PNG")
    assert np.array_equal(ImagesAndMasks(folder)[0].anomaly, ANOMALY_MASK)
    (folder / "labels" / "a.PNG").rename(folder / "labels" / "a.jpg")
    with pytest.raises(
        FileNotFoundError, match=r"labels/a\.png: no labels for .*; a\.jpg is there, but labels must be"
    ):
        ImagesAndMasks(folder)


@pytest.mark.parametrize("ending", ["PNG", "Png"])
def test_a_label_file_is_found_whatever_the_case_of_its_ending(ending: str, tmp_path: Path) -> None:
    folder = write_masks(tmp_path, a=ANOMALY_MASK)
    (folder / "labels" / "a.png").rename(folder / "labels" / f"a.{ending}")
    assert np.array_equal(ImagesAndMasks(folder)[0].anomaly, ANOMALY_MASK)


@pytest.mark.parametrize("there", ["A.png", "a.png.png", "a_label.png", "00a.png"])
def test_missing_labels_are_named_with_the_file_that_may_be_meant(there: str, tmp_path: Path) -> None:
    folder = write_masks(tmp_path, a=ANOMALY_MASK)
    (folder / "labels" / "a.png").rename(folder / "labels" / there)
    with pytest.raises(FileNotFoundError, match=rf"name of its image \(nearest: '{there}'\)"):
        ImagesAndMasks(folder)


def test_what_lies_beside_images_and_masks_is_left_alone(tmp_path: Path) -> None:
    folder = write_masks(tmp_path, a=ANOMALY_MASK)
    for part in ("images", "labels"):
        for name in ("._a.png", ".DS_Store", ".hidden.png", "Thumbs.db", "desktop.ini", "a.xmp", "a.json"):
            (folder / part / name).write_bytes(b"\x00\x05\x16\x07")
        (folder / part / "folder.png").mkdir()
    assert [frame.name for frame in ImagesAndMasks(folder)] == ["a"]
    assert len(CropsOfFolder(folder / "images")._paths) == 1


def test_a_picture_of_a_kind_that_is_not_read_is_a_frame_whose_labels_are_missed(tmp_path: Path) -> None:
    folder = write_masks(tmp_path, a=ANOMALY_MASK)
    (folder / "images" / "b.heic").write_bytes(b"\x00\x00\x00\x20ftypheic")
    with pytest.raises(FileNotFoundError, match=r"labels/b\.png: no labels for .*b\.heic"):
        ImagesAndMasks(folder)


def test_frames_are_in_natural_order(tmp_path: Path) -> None:
    masks = {f"frame{number}": ANOMALY_MASK for number in range(1, 13)}
    folder = write_masks(tmp_path, **masks)
    assert [paths.name for paths in ImagesAndMasks(folder).files] == list(masks)
    assert [paths.name for paths in CamVid(folder).files] == list(masks)
    assert [path.stem for path in CropsOfFolder(folder / "images")._paths] == list(masks)


def test_frames_of_padded_names_keep_their_order(real_frames: Callable[[str], Path]) -> None:
    for split in ("train", "val", "test"):
        frames = CamVid(real_frames(f"camvid/{split}"))
        assert [paths.name for paths in frames.files] == sorted(paths.name for paths in frames.files)


def test_broken_files_are_named(tree: Path) -> None:
    labels = tree / "train" / "labels"
    cv2.imwrite(str(labels / "train_000.png"), np.zeros((5, 5), np.uint8))
    cv2.imwrite(str(labels / "train_001.png"), np.full((96, 128), 12, np.uint8))
    (labels / "train_002.png").write_bytes(b"no image")
    (tree / "train" / "images" / "train_003.png").write_bytes(b"no image")
    frames = CamVid(tree / "train")
    for index, message in enumerate(
        (
            "labels are 5x5, the image train_000.png is 96x128",
            r"label value\(s\) \[12\]; CamVid has 0 to 11, 255",
            "not a decodable image",
            "not a decodable image",
        )
    ):
        with pytest.raises(BrokenFrameError, match=rf"train_00{index}\.png: {message}"):
            frames[index]


@pytest.mark.parametrize("scale", [(0.3, 0.31), (1.0, 1.0), (2.5, 2.6), (0.5, 2.0)])
def test_image_and_labels_stay_together_at_every_scale(scale: tuple[float, float]) -> None:
    # Each label value is also the pixel's grey level, so any shift between the two shows.
    labels = np.kron(np.arange(1, 13, dtype=np.uint8).reshape(3, 4), np.ones((40, 40), np.uint8))
    image = np.repeat(labels[..., None] * np.uint8(20), 3, axis=2)
    config = AugmentationConfig(crop=(96, 128), scale=scale)
    generator = np.random.default_rng(0)
    for _ in range(20):
        crop, crop_labels = random_crop(image, labels, config, generator)
        assert crop.shape == (96, 128, 3)
        assert crop_labels.shape == (96, 128)
        valid = crop_labels != 255
        away_from_edges = np.abs(crop[..., 0].astype(int) - crop_labels.astype(int) * 20) <= 1
        assert away_from_edges[valid].mean() > 0.7


def test_a_frame_smaller_than_the_crop_is_padded_with_ignored_pixels() -> None:
    config = AugmentationConfig(crop=(64, 64), scale=(1.0, 1.0))
    image, labels = np.full((32, 64, 3), 9, np.uint8), np.full((32, 64), 4, np.uint8)
    crop, crop_labels = random_crop(image, labels, config, np.random.default_rng(0))
    assert int((crop_labels == 4).sum()) == 32 * 64
    assert int((crop_labels == 255).sum()) == 32 * 64
    assert (crop == 9).all()


def test_colour_changes_leave_the_labels_alone_and_the_same_seed_gives_the_same_crop(tree: Path) -> None:
    config = AugmentationConfig(
        crop=(64, 64), brightness=0.4, contrast=0.4, saturation=0.5, hue=0.1, gamma=1.6, blur=0.5, noise=6
    )
    frames = CamVid(tree / "train")
    first = TrainingCrops(frames, config, seed=3, passes=2, keep_in_memory=True)
    second = TrainingCrops(frames, config, seed=3, passes=2, keep_in_memory=False)
    assert len(first) == 12
    for address in ((0, 0), (0, 7), (4, 11)):
        for a, b in zip(first[address], second[address], strict=True):
            np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[(0, 1)][0], first[(1, 1)][0])
    assert not np.array_equal(first[(0, 1)][0], first[(0, 7)][0])


def test_class_mix_pastes_whole_classes_of_the_other_crop_and_nothing_ignored() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, (32, 32), np.uint8)
    other = np.where(generator.random((32, 32)) < 0.2, 255, generator.integers(4, 8, (32, 32))).astype(np.uint8)
    image, other_image = np.repeat(labels[..., None], 3, 2), np.repeat(other[..., None], 3, 2)
    mixed, mixed_labels = class_mixed(image, labels, other_image, other, generator)
    np.testing.assert_array_equal(mixed[..., 0], mixed_labels)
    pasted = {c for c in range(4, 8) if (mixed_labels == c).any()}
    assert len(pasted) == 2
    for c in pasted:
        np.testing.assert_array_equal(mixed_labels == c, other == c)
    assert not (mixed_labels == 255).any()
    np.testing.assert_array_equal(mixed_labels[mixed_labels < 4], labels[mixed_labels < 4])


def test_processes_share_an_epoch_without_overlap(tree: Path) -> None:
    crops = TrainingCrops(CamVid(tree / "train"), AugmentationConfig(crop=(32, 32)), 0, 2, False)
    parts = []
    for rank in range(2):
        sampler = AddressSampler(crops, num_replicas=2, rank=rank, seed=1)
        sampler.set_epoch(5)
        parts.append(list(sampler))
    assert {epoch for part in parts for epoch, _ in part} == {5}
    assert sorted(position for part in parts for _, position in part) == list(range(12))


def test_no_change_of_light_changes_nothing() -> None:
    image = np.arange(256 * 3, dtype=np.int64).reshape(16, 16, 3).astype(np.uint8)
    config = AugmentationConfig(brightness=0, contrast=0, saturation=0, hue=0, gamma=1, blur=0, noise=0)
    assert np.array_equal(recoloured(image, config, np.random.default_rng(0)), image)


def test_noise_moves_no_mean() -> None:
    image = np.full((200, 200, 3), 100, np.uint8)
    config = AugmentationConfig(brightness=0, contrast=0, saturation=0, hue=0, gamma=1, blur=0, noise=6)
    shifts = [float(recoloured(image, config, np.random.default_rng(seed)).mean()) - 100 for seed in range(10)]
    assert max(map(abs, shifts)) < 0.1
