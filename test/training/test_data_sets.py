"""Every registered data set, read from a tiny tree in the layout in which its authors publish it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from synthetic_camvid import write_camvid

from training.data.held_out import HeldOut
from training.data.label_set import CAMVID, CITYSCAPES, STREET_HAZARDS, LabelClass
from training.data.labelled_frames import BrokenFrameError
from training.data.registry import DATA_SETS, open_data_set, registered
from training.data.sets.mapillary_vistas import CLASS_ID, NAMES_OF, WITHOUT_CLASS
from training.data.sets.smiyc_lostandfound import FRAMES, WITHOUT_LABELS

IMAGE = None
V = 255
Tree = dict[str, "list[int] | str | None"]


def write_tree(root: Path, tree: Tree) -> Path:
    """Paths below `root`: a list is a label file of one row, a text is itself, IMAGE is a picture of 1x4 pixels."""
    for name, content in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content)
        elif content is None:
            Image.fromarray(np.full((1, 4, 3), 100, np.uint8)).save(path)
        else:
            Image.fromarray(np.array([content], np.uint8)).save(path)
    return root


@dataclass(frozen=True)
class Case:
    """A tree, and the (labels, anomaly) that each frame of the split must have."""

    data_set: str
    tree: Tree
    frames: dict[str, tuple[list[int], list[int]]]
    classes: tuple[LabelClass, ...] = CITYSCAPES
    split: str | None = None
    id: str = field(default="", kw_only=True)


def vistas_config(*names: str) -> str:
    return json.dumps({"version": 1.2, "labels": [{"name": name, "readable": name} for name in names]})


NO_CLASS = [V, V, V, V]
ROAD_CAR_VOID = ([0, 13, V, V], [0, 0, V, V])
OWN_CLASSES = """
name: Garden
licence: ours
splits: {test: {images: pictures, masks: masks, frames: elsewhere.txt}}
classes:
  - {name: lawn, ids: [4], colour: [0, 200, 0], drivable: true}
  - {name: hedge, ids: [9], colour: [0, 90, 0]}
ignored_ids: [255]
"""
MASK = (NO_CLASS, [0, 1, V, 0])
VISTAS_NAMES = ("construction--flat--road", "object--vehicle--car", "animal--bird", "void--unlabeled")
LAF = "01_Hanns_Klemm_Str_45"

CASES = [
    Case(
        "camvid",
        {
            "val/images/a.png": IMAGE,
            "val/labels/a.png": [3, 8, 11, 255],
            "train/images/b.jpg": IMAGE,
            "train/labels/b.png": [0] * 4,
        },
        {"a": ([3, 8, V, V], [0, 0, V, V])},
        CAMVID,
        "val",
    ),
    Case(
        "cityscapes",
        {
            "leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png": IMAGE,
            "gtFine/val/ulm/ulm_000000_000019_gtFine_labelIds.png": [7, 26, 4, 255],
            "gtFine/val/ulm/ulm_000000_000019_gtFine_color.png": IMAGE,
            "leftImg8bit/val/aachen/aachen_000000_000019_leftImg8bit.png": IMAGE,
            "gtFine/val/aachen/aachen_000000_000019_gtFine_labelIds.png": [33, 0, 11, 29],
            "leftImg8bit/train/bonn/bonn_000000_000019_leftImg8bit.png": IMAGE,
            "gtFine/train/bonn/bonn_000000_000019_gtFine_labelIds.png": [7] * 4,
        },
        {"aachen_000000_000019": ([18, V, 2, V], [0, V, 0, V]), "ulm_000000_000019": ROAD_CAR_VOID},
    ),
    Case(
        "cityscapes",
        {
            "leftImg8bit/train/bonn/bonn_000000_000019_leftImg8bit.png": IMAGE,
            "gtFine/train/bonn/bonn_000000_000019_gtFine_labelIds.png": [7, 26, 14, 16],
        },
        {"bonn_000000_000019": ROAD_CAR_VOID},
        split="train",
        id="cityscapes-train",
    ),
    Case(
        "bdd100k",
        {
            "bdd100k/images/10k/val/a.jpg": IMAGE,
            "bdd100k/labels/sem_seg/masks/val/a.png": [0, 13, 255, 255],
            "bdd100k/labels/sem_seg/colormaps/val/a.png": IMAGE,
            "bdd100k/images/10k/test/b.jpg": IMAGE,
        },
        {"a": ROAD_CAR_VOID},
    ),
    Case(
        "bdd100k",
        {"seg/images/train/a.jpg": IMAGE, "seg/labels/train/a_train_id.png": [0, 13, 255, 255]},
        {"a": ROAD_CAR_VOID},
        split="train",
        id="bdd100k-first-release",
    ),
    Case(
        "kitti",
        {
            "training/image_2/000000_10.png": IMAGE,
            "training/image_2/000000_11.png": IMAGE,
            "training/semantic/000000_10.png": [7, 26, 0, 30],
        },
        {"000000_10": ROAD_CAR_VOID},
    ),
    Case(
        "wilddash2",
        {"wd_public_02/images/ar0000_100000.jpg": IMAGE, "wd_public_02/labels/ar0000_100000.png": [38, 35, 36, 1]},
        {"ar0000_100000": ROAD_CAR_VOID},
    ),
    Case(
        "wilddash2",
        {"images/ar0000_100000.jpg": IMAGE, "labels/ar0000_100000_labelIds.png": [7, 26, 80, 68]},
        {"ar0000_100000": ([0, 13, 1, V], [0, 0, 0, V])},
        id="wilddash2-from-panoptic-labels",
    ),
    Case(
        "mapillary_vistas",
        {
            "config.json": vistas_config(*VISTAS_NAMES),
            "validation/images/a.jpg": IMAGE,
            "validation/labels/a.png": [0, 1, 2, 3],
        },
        {"a": ROAD_CAR_VOID},
    ),
    Case(
        "mapillary_vistas",
        {
            "config_v1.2.json": vistas_config(*VISTAS_NAMES),
            "config_v2.0.json": vistas_config("object--traffic-cone", "human--person--individual", *VISTAS_NAMES),
            "training/images/a.jpg": IMAGE,
            "training/v1.2/labels/a.png": [0] * 4,
            "training/v2.0/labels/a.png": [2, 3, 0, 1],
        },
        {"a": ([0, 13, V, 11], [0, 0, V, 0])},
        split="train",
        id="mapillary_vistas-v2",
    ),
    Case(
        "streethazards",
        {
            "train/images/validation/t4/9.png": IMAGE,
            "train/annotations/validation/t4/9.png": [1, 4, 8, 13],
            "train/images/training/t1/9.png": IMAGE,
            "train/annotations/training/t1/9.png": [1] * 4,
        },
        {"t4_9": ([0, V, 6, 11], [0, V, 0, 0])},
        STREET_HAZARDS,
    ),
    Case(
        "streethazards_test",
        {
            f"test/{kind}/test/{town}/300.png": content
            for town, labels in (("t5", [1, 14, 4, 8]), ("t6", [14, 14, 2, 3]))
            for kind, content in (("images", IMAGE), ("annotations", labels))
        },
        {"t5_300": ([0, V, V, 6], [0, 1, V, 0]), "t6_300": ([V, V, 1, 2], [1, 1, 0, 0])},
        STREET_HAZARDS,
    ),
    Case(
        "smiyc_anomaly",
        {
            "dataset_AnomalyTrack/images/validation0000.jpg": IMAGE,
            "dataset_AnomalyTrack/labels_masks/validation0000_labels_semantic.png": [0, 1, 255, 0],
            "dataset_AnomalyTrack/labels_masks/validation0000_labels_semantic_color.png": IMAGE,
            "dataset_AnomalyTrack/images/zebra0000.jpg": IMAGE,
        },
        {"validation0000": MASK},
        (),
    ),
    Case(
        "smiyc_obstacle",
        {
            f"{folder}/validation_{number}{ending}": content
            for number in (1, 19, 29, 30)
            for folder, ending, content in (
                ("images", ".webp", IMAGE),
                ("labels_masks", "_labels_semantic.png", [0, 1, 255, 0]),
            )
        },
        {"validation_1": MASK, "validation_30": MASK},
        (),
    ),
    Case(
        "smiyc_lostandfound",
        {
            f"leftImg8bit/train/{LAF}/{LAF}_000000_000080_leftImg8bit.png": IMAGE,
            f"gtCoarse/train/{LAF}/{LAF}_000000_000080_gtCoarse_labelIds.png": [0, 1, 2, 255],
            f"gtCoarse/train/{LAF}/{LAF}_000000_000080_gtCoarse_labelTrainIds.png": [0] * 4,
        },
        {f"{LAF}_000000_000080": (NO_CLASS, [V, 0, 1, V])},
        (),
        "train",
    ),
    Case(
        "fishyscapes_lostandfound",
        {
            f"fishyscapes_lostandfound/0000_{LAF}_000000_000080_labels.png": [0, 1, 255, 0],
            "fishyscapes_lostandfound/0001_04_Maurener_Weg_8_000000_000030_labels.png": [0] * 4,
            f"leftImg8bit/train/{LAF}/{LAF}_000000_000080_leftImg8bit.png": IMAGE,
            "leftImg8bit/test/04_Maurener_Weg_8/04_Maurener_Weg_8_000000_000030_leftImg8bit.png": IMAGE,
            "leftImg8bit/test/04_Maurener_Weg_8/04_Maurener_Weg_8_000000_000090_leftImg8bit.png": IMAGE,
        },
        {f"0000_{LAF}_000000_000080": MASK, "0001_04_Maurener_Weg_8_000000_000030": (NO_CLASS, [0] * 4)},
        (),
    ),
    Case(
        "fishyscapes_lostandfound",
        {
            f"fishyscapes_lostandfound/0000_{LAF}_000000_000080_labels.png": [0, 1, 255, 0],
            f"laf_images/{LAF}_000000_000080_leftImg8bit.png": IMAGE,
        },
        {f"0000_{LAF}_000000_000080": MASK},
        (),
        id="fishyscapes_lostandfound-picked-images",
    ),
    Case(
        "fishyscapes_static",
        {"original/0.png": IMAGE, "labels/0.png": [0, 1, 255, 0], "labels_with_ROI/0.png": [0] * 4},
        {"0": MASK},
        (),
        id="fishyscapes_static-composed",
    ),
    Case(
        "road_anomaly",
        {
            "RoadAnomaly_jpg/frame_list.json": '["animals01.jpg"]',
            "RoadAnomaly_jpg/frames/animals01.jpg": IMAGE,
            "RoadAnomaly_jpg/frames/animals01.labels/labels_semantic.png": [0, 2, 255, 1],
            "RoadAnomaly_jpg/frames/not_in_the_list.jpg": IMAGE,
        },
        {"animals01": MASK},
        (),
    ),
    Case(
        "sample_drive",
        {
            "val/images/a.png": IMAGE,
            "val/labels/a.png": [3, 8, 10, 11],
            "val/labels_masks/a.png": [0, 0, 0, 1],
            "train/images/b.png": IMAGE,
            "train/labels/b.png": [0] * 4,
        },
        {"a": ([3, 8, 10, V], [0, 0, 0, V])},
        CAMVID,
        "val",
    ),
    Case(
        "sample_drive_test",
        {"test/images/a.png": IMAGE, "test/labels/a.png": [3, 8, 10, 11], "test/labels_masks/a.png": [0, 0, 0, 1]},
        {"a": ([3, 8, 10, V], [0, 0, 0, 1])},
        CAMVID,
        "test",
    ),
    Case("camvid_static", {"images/a.jpg": IMAGE, "labels/a.png": [0, 1, 255, 0]}, {"a": MASK}, ()),
    Case(
        "images_and_masks",
        {
            "images/a.jpg": IMAGE,
            "masks/a.png": [0, 1, 255, 0],
            "images/b.png": IMAGE,
            "masks/b_labels_semantic.png": [0, 1, 255, 0],
            "images/c.webp": IMAGE,
            "masks/c_mask.png": [0, 1, 255, 0],
        },
        {"a": MASK, "b": MASK, "c": MASK},
        (),
    ),
    Case(
        "folder",
        {
            "classes.yaml": OWN_CLASSES,
            "pictures/a.jpg": IMAGE,
            "pictures/b.png": IMAGE,
            "masks/a.png": [4, 9, 255, 4],
            "masks/b.png": [9, 9, 9, 9],
            "elsewhere.txt": "a\n",
        },
        {"a": ([0, 1, V, 0], [0, 0, V, 0])},
        (LabelClass("lawn", (0, 200, 0), True), LabelClass("hedge", (0, 90, 0))),
        "test",
    ),
    Case(
        "images_and_masks",
        {"dusk/images/a.jpg": IMAGE, "dusk/labels_masks/a.png": [0, 1, 255, 0]},
        {"a": MASK},
        (),
        "dusk",
        id="images_and_masks-in-a-folder-of-the-split",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.id or case.data_set for case in CASES])
def test_a_set_in_its_published_layout_gives_its_frames_classes_and_anomalies(case: Case, tmp_path: Path) -> None:
    frames = open_data_set(case.data_set, write_tree(tmp_path, case.tree), case.split)
    assert frames.classes == case.classes
    assert frames.has_anomalies == any(1 in anomaly for _, anomaly in case.frames.values())
    read = {frame.name: (frame.labels.tolist(), frame.anomaly.tolist()) for frame in frames}
    assert read == {name: ([labels], [anomaly]) for name, (labels, anomaly) in case.frames.items()}
    assert all(frame.image.shape == (1, 4, 3) for frame in frames)


def test_every_registered_set_has_such_a_tree_and_says_what_it_is_and_where_it_is_to_be_had() -> None:
    assert {case.data_set for case in CASES} == {*DATA_SETS}
    for data_set in DATA_SETS.values():
        assert all(getattr(data_set, text) for text in ("title", "terms", "source"))


@pytest.mark.parametrize("name", [name for name in DATA_SETS if name != "images_and_masks"])
def test_a_missing_folder_names_where_the_set_is_to_be_had(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        open_data_set(name, tmp_path / "nowhere")
    assert f"{tmp_path / 'nowhere'}" in str(error.value)
    assert f"available from {DATA_SETS[name].source}" in str(error.value)  # type: ignore[attr-defined]


@pytest.mark.parametrize("case", CASES, ids=[case.id or case.data_set for case in CASES])
def test_folders_without_frames_name_where_the_set_is_to_be_had(case: Case, tmp_path: Path) -> None:
    write_tree(tmp_path, case.tree)
    for path in tmp_path.rglob("*"):
        if path.is_file() and not path.name.startswith("config"):
            path.unlink()
    if case.data_set == "road_anomaly":
        (tmp_path / "RoadAnomaly_jpg" / "frame_list.json").write_text("[]")
    with pytest.raises(FileNotFoundError, match=re.escape(DATA_SETS[case.data_set].source)):  # type: ignore[attr-defined]
        open_data_set(case.data_set, tmp_path, case.split)


@pytest.mark.parametrize("case", CASES, ids=[case.id or case.data_set for case in CASES])
def test_labels_of_another_size_and_unknown_label_values_are_named(case: Case, tmp_path: Path) -> None:
    frames = open_data_set(case.data_set, write_tree(tmp_path, case.tree), case.split)
    labels = frames.files[0].labels
    Image.fromarray(np.zeros((2, 4), np.uint8)).save(labels)
    with pytest.raises(BrokenFrameError, match=rf"{re.escape(str(labels))}: labels are 2x4, the image .* is 1x4"):
        frames[0]
    unknown = next((value for value in range(256) if value not in {*frames.label_map, *frames.anomaly_map}), None)
    if unknown is not None:
        Image.fromarray(np.full((1, 4), unknown, np.uint8)).save(labels)
        with pytest.raises(BrokenFrameError, match=rf"{re.escape(str(labels))}: label value\(s\) \[{unknown}\]"):
            frames[0]


def test_an_unknown_split_names_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Cityscapes has no split 'test'; it has val, train"):
        open_data_set("cityscapes", tmp_path, "test")


def test_the_longest_name_is_meant() -> None:
    assert registered("camvid_static") == "camvid_static"
    assert registered("camvid_night") == "camvid"
    assert registered("smiyc_anomaly_val") == "smiyc_anomaly"
    assert registered("streethazards_test") == "streethazards_test"


@pytest.mark.parametrize("town", ["t5", "t6"])
def test_each_test_town_of_streethazards_is_a_split(town: str, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.data_set == "streethazards_test")
    frames = open_data_set("streethazards_test", write_tree(tmp_path, case.tree), town)
    assert [frame.name for frame in frames] == [f"{town}_300"]


# Mapillary Vistas


def test_vistas_names_are_all_mapped_once_and_v1_2_and_v2_0_are_complete() -> None:
    names = [name for group in NAMES_OF.values() for name in group] + [*WITHOUT_CLASS]
    assert len(names) == len(set(names)) == len(CLASS_ID)
    assert {*NAMES_OF} == {known.name for known in CITYSCAPES}
    # v2.0 has 124 classes; it splits or renames these five of v1.2's 66.
    only_v1 = {
        "human--person",
        "marking--crosswalk-zebra",
        "marking--general",
        "object--billboard",
        "object--traffic-light",
    }
    assert len(set(names) - only_v1) == 124


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (vistas_config("construction--flat--road", "unheard--of"), "class name.*unheard--of.*v1.2 and v2.0"),
        ("{}", "list 'labels'"),
        ("no json", "list 'labels'"),
    ],
)
def test_a_vistas_config_that_is_not_known_is_refused(config: str, message: str, tmp_path: Path) -> None:
    write_tree(
        tmp_path, {"config.json": config, "validation/images/a.jpg": IMAGE, "validation/labels/a.png": [0, 0, 0, 0]}
    )
    with pytest.raises(ValueError, match=rf"config\.json: .*{message}"):
        open_data_set("mapillary_vistas", tmp_path)


def test_vistas_without_the_config_of_its_labels_says_what_it_looked_for(tmp_path: Path) -> None:
    write_tree(
        tmp_path,
        {"config.json": vistas_config(), "validation/images/a.jpg": IMAGE, "validation/v2.0/labels/a.png": [0] * 4},
    )
    with pytest.raises(
        FileNotFoundError, match=r"none of config_v2\.0\.json with validation/v2\.0/labels, .*mapillary"
    ):
        open_data_set("mapillary_vistas", tmp_path)


# Lost and Found


@pytest.mark.parametrize(("split", "count"), [("testNoKnown", 1043), ("testValid", 1186), ("trainValid", 1030)])
def test_the_benchmarks_splits_of_lost_and_found_have_as_many_frames_as_the_benchmark_says(
    split: str, count: int, tmp_path: Path
) -> None:
    # 143 test frames with labels are of the sequence of children: 1186 - 1043.
    part, known = ("test", 143) if split.startswith("test") else ("train", 0)
    names = [f"02_Scene_{number:06d}_000000" for number in range(FRAMES[part] - known)]
    names += [f"15_Rechbergstr_Deckenpfronn_{number:06d}_000000" for number in range(known)]
    for name in names:
        for kind, ending in (("leftImg8bit", "leftImg8bit"), ("gtCoarse", "gtCoarse_labelIds")):
            path = tmp_path / kind / part / name[:-14] / f"{name}_{ending}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    frames = open_data_set("smiyc_lostandfound", tmp_path, split)
    left_out = {names[place] for place in WITHOUT_LABELS[part]}
    assert len(frames) == count
    assert not left_out & {paths.name for paths in frames.files}


def test_a_split_by_place_needs_all_frames_of_lost_and_found(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.data_set == "smiyc_lostandfound")
    with pytest.raises(FileNotFoundError, match=r"1 frames; the split trainValid leaves out frames .* all 1036"):
        open_data_set("smiyc_lostandfound", write_tree(tmp_path, case.tree), "trainValid")


# Fishyscapes

STATIC: Tree = {
    "fs_val_v3/0000_frankfurt_000000_000294_labels.png": [0, 1, 255, 0],
    "leftImg8bit/val/frankfurt/frankfurt_000000_000294_leftImg8bit.png": IMAGE,
}


def write_static(root: Path, **arrays: np.ndarray) -> Path:
    """Fishyscapes Static as published; returns the overlay's path."""
    write_tree(root, STATIC)
    overlay = root / "fs_val_v3" / "0000_frankfurt_000000_000294_rgb.npz"
    np.savez(overlay, **arrays)  # type: ignore[arg-type]
    return overlay


def test_fishyscapes_static_adds_its_overlay_to_the_frame_of_cityscapes(tmp_path: Path) -> None:
    difference = np.zeros((1, 4, 3), np.int16)
    difference[0, 1] = (-120, 20, 200)
    write_static(tmp_path, rgb=difference)
    (frame,) = open_data_set("fishyscapes_static", tmp_path)
    assert frame.name == "0000_frankfurt_000000_000294"
    assert frame.image[0].tolist() == [[100] * 3, [0, 120, 255], [100] * 3, [100] * 3]
    assert frame.anomaly.tolist() == [MASK[1]]


def test_an_overlay_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    overlay = write_static(tmp_path, rgb=np.zeros((2, 4, 3), np.int16))
    frames = open_data_set("fishyscapes_static", tmp_path)
    for write, message in (
        (lambda: None, r"'rgb' is \(2, 4, 3\), the frame is \(1, 4, 3\)"),
        (lambda: np.savez(overlay, other=np.zeros(1)), "array 'rgb'"),
        (lambda: overlay.write_bytes(b"PK no archive"), "array 'rgb'"),
    ):
        write()
        with pytest.raises(BrokenFrameError, match=rf"_rgb\.npz: .*{message}"):
            frames[0]
    overlay.unlink()
    with pytest.raises(FileNotFoundError, match=r"_rgb\.npz: no such file, but .*_labels\.png needs it.*fishyscapes"):
        open_data_set("fishyscapes_static", tmp_path)


def test_a_mask_whose_frame_is_missing_is_named(tmp_path: Path) -> None:
    write_tree(tmp_path, {"fishyscapes_lostandfound/0000_04_Maurener_Weg_8_000000_000030_labels.png": [0] * 4})
    with pytest.raises(FileNotFoundError, match=r"04_Maurener_Weg_8_000000_000030_leftImg8bit\.png: no image for"):
        open_data_set("fishyscapes_lostandfound", tmp_path)


# RoadAnomaly


@pytest.mark.parametrize("content", ["no json", '{"frames": []}', "[1]"])
def test_a_frame_list_that_is_no_list_of_names_is_refused(content: str, tmp_path: Path) -> None:
    write_tree(tmp_path, {"frames/a.jpg": IMAGE, "frame_list.json": content})
    with pytest.raises(ValueError, match=r"frame_list\.json: "):
        open_data_set("road_anomaly", tmp_path)


# Sets that are there


@pytest.mark.parametrize(
    ("name", "folder", "count", "size"),
    [
        ("camvid_static", "camvid_static", 101, (360, 480)),
        ("smiyc_anomaly", "smiyc_anomaly_val", 10, (720, 1280)),
        ("smiyc_obstacle", "smiyc_obstacle_val", 30, (1080, 1920)),
        ("images_and_masks", "smiyc_obstacle_val", 30, (1080, 1920)),
    ],
)
def test_the_real_anomaly_sets_are_read(
    camvid: Path, name: str, folder: str, count: int, size: tuple[int, int]
) -> None:
    if not (camvid.parent / folder).is_dir():
        pytest.skip(f"no {folder} beside {camvid}")
    frames = open_data_set(name, camvid.parent / folder)
    assert len(frames) == count
    assert frames.classes == ()
    assert frames.has_anomalies
    frame = next(frame for frame in frames if (frame.anomaly == 1).any())
    assert frame.image.shape == (*size, 3)
    assert (frame.labels == V).all()
    assert {*np.unique(frame.anomaly).tolist()} <= {0, 1, V}


# Held-out classes


@pytest.fixture
def make_camvid(tmp_path: Path) -> Callable[..., Path]:
    def make(**labels: list[int]) -> Path:
        for name, values in labels.items():
            write_tree(tmp_path, {f"images/{name}.png": IMAGE, f"labels/{name}.png": values})
        return tmp_path

    return make


def test_held_out_classes_become_anomalies_of_the_frames_that_show_them(make_camvid: Callable[..., Path]) -> None:
    frames = open_data_set("camvid", make_camvid(a=[0, 5, 9, 11], b=[3, 4, 10, 11], c=[6, 8, 8, 10], d=[1, 2, 3, 6]))
    calls: list[tuple[int, int]] = []
    held_out = HeldOut(frames, ["tree", "bicyclist"], lambda done, of: calls.append((done, of)))
    names = [known.name for known in CAMVID if known.name not in ("tree", "bicyclist")]

    training = held_out.training
    assert [known.name for known in training.classes] == names
    assert [(frame.name, frame.labels[0].tolist(), frame.anomaly[0].tolist()) for frame in training] == [
        ("d", [1, 2, 3, 5], [0, 0, 0, 0])
    ]
    assert not training.has_anomalies

    test = held_out.test
    assert test.classes == training.classes
    assert test.has_anomalies
    assert test.title == "CamVid with tree, bicyclist"
    assert [(frame.name, frame.labels[0].tolist(), frame.anomaly[0].tolist()) for frame in test] == [
        ("a", [0, V, 8, V], [0, 1, 0, V]),
        ("b", [3, 4, V, V], [0, 0, 1, V]),
        ("c", [5, 7, 7, V], [0, 0, 0, 1]),
    ]
    # Chosen by frames that it is not tested on.
    assert [frame.name for frame in held_out.validation] == ["d"]
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_where_every_frame_shows_a_held_out_class_its_pixels_are_void_for_validation(
    make_camvid: Callable[..., Path],
) -> None:
    frames = open_data_set("camvid", make_camvid(a=[0, 5, 9, 11], b=[3, 4, 10, 5]))
    validation = HeldOut(frames, ["tree"]).validation
    assert not validation.has_anomalies
    assert validation.title == "CamVid with tree void"
    assert "tree" not in [known.name for known in validation.classes]
    assert [(frame.name, frame.labels[0].tolist(), frame.anomaly[0].tolist()) for frame in validation] == [
        ("a", [0, V, 8, V], [0, V, 0, V]),
        ("b", [3, 4, 9, V], [0, 0, 0, V]),
    ]


def test_anomalies_that_a_set_has_already_stay_anomalies(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.data_set == "streethazards_test")
    frames = open_data_set("streethazards_test", write_tree(tmp_path, case.tree))
    (frame,) = HeldOut(frames, ["road"]).test
    assert frame.anomaly.tolist() == [[0, 1, V, 1]]
    assert HeldOut(frames, ["road"]).training.has_anomalies


def test_what_cannot_be_held_out_is_refused(make_camvid: Callable[..., Path]) -> None:
    frames = open_data_set("camvid", make_camvid(a=[0, 5, 9, 11]))
    with pytest.raises(ValueError, match=r"CamVid has no class bicycle, dog; it has sky, building, .*bicyclist"):
        HeldOut(frames, ["bicycle", "dog", "car"])
    for names in ([], [known.name for known in CAMVID]):
        with pytest.raises(ValueError, match=f"{len(names)} of 11 classes of CamVid held out"):
            HeldOut(frames, names)
    with pytest.raises(ValueError, match="no frame of CamVid shows bicyclist"):
        _ = HeldOut(frames, ["bicyclist"]).test
    with pytest.raises(ValueError, match="every frame of CamVid shows car or tree"):
        _ = HeldOut(frames, ["car", "tree"]).training


def test_a_set_without_classes_has_none_to_hold_out(tmp_path: Path) -> None:
    write_tree(tmp_path, {"images/a.jpg": IMAGE, "masks/a.png": [0, 1, 0, 0]})
    with pytest.raises(ValueError, match="images and masks has no class car; it has no classes"):
        HeldOut(open_data_set("images_and_masks", tmp_path), ["car"])


def test_no_frame_is_in_both_parts_or_in_neither(tmp_path: Path) -> None:
    frames = open_data_set("camvid", write_camvid(tmp_path), "train")
    held_out = HeldOut(frames, ["bicyclist"])
    parts = [{paths.name for paths in part.files} for part in (held_out.training, held_out.test)]
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] == {paths.name for paths in frames.files}
