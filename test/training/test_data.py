from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from synthetic_camvid import write_camvid

from training.data.augmentation import AugmentationConfig, class_mixed, random_crop, recoloured
from training.data.labelled_frames import BrokenFrameError, read_image, read_label_map
from training.data.sets.camvid import CamVid
from training.data.training_crops import AddressSampler, TrainingCrops


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
