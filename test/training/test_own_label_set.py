"""A set of one's own without Python: `classes.yaml`, its errors, and the way from its frames to a measured bundle."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from own_frames import COLOURS, IDS, MASK_COLOURS, NAMES, VOID, description, of_colours, write_own
from PIL import Image
from test_train_segmenter import train

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.files.strict_yaml import SchemaError
from training.calibrate import main as calibrate
from training.data.arguments import data_argument, open_frames
from training.data.held_out import HeldOut
from training.data.label_table import count_labels, print_label_table
from training.data.labelled_frames import BrokenFrameError
from training.data.registry import open_data_set
from training.evaluate import main as evaluate
from training.export import main as export
from training.init_labels import main as init_labels


def rewrite(folder: Path, **changes: Any) -> None:
    (folder / "classes.yaml").write_text(yaml.safe_dump(description(**changes)))


@pytest.mark.parametrize("content", [description(), of_colours()], ids=["ids", "colours"])
def test_the_masks_of_a_set_become_its_classes(content: dict[str, Any], tmp_path: Path) -> None:
    folder = write_own(tmp_path / "yard", content)
    frames = open_data_set("folder", folder, "train")
    assert (frames.title, frames.terms, len(frames)) == ("Yard", "ours", 6)
    assert [(c.name, c.colour, c.drivable) for c in frames.classes] == [
        (name, colour, name == "gravel") for name, colour in zip(NAMES, COLOURS, strict=True)
    ]
    for index, frame in enumerate(frames):
        stored = np.asarray(Image.open(folder / "masks" / f"{frame.name}.png"))
        for class_id in range(3):
            there = stored == IDS[class_id] if stored.ndim == 2 else (stored == MASK_COLOURS[class_id]).all(-1)
            assert np.array_equal(frame.labels == class_id, there)
        assert np.array_equal(frames.labels(index), frame.labels)
        assert np.array_equal(frame.anomaly, np.where(frame.labels == 255, 255, 0))


def test_a_palette_counts_by_its_index_among_ids_and_by_its_colour_among_colours(tmp_path: Path) -> None:
    for name, content in (("ids", description()), ("colours", of_colours())):
        folder = write_own(tmp_path / name, content)
        before = open_data_set("folder", folder, "val")[0].labels
        mask = folder / "masks" / "frame006.png"
        stored = np.asarray(Image.open(mask))
        numbers = (
            stored if name == "ids" else np.argmax((stored[..., None, :] == [*MASK_COLOURS, (0,) * 3]).all(-1), -1)
        )
        picture = Image.fromarray(numbers.astype(np.uint8), "P")
        picture.putpalette([c for colour in ([(9, 9, 9)] * 256 if name == "ids" else MASK_COLOURS) for c in colour])
        picture.save(mask)
        assert np.array_equal(open_data_set("folder", folder, "val")[0].labels, before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes[1].ids": [3]}, "ids: 3 is there twice (of gravel and of grass)"),
        ({"ignored_ids": [7]}, "ids: 7 is there twice (of grass and of ignored_ids)"),
        ({"classes[1].name": "gravel"}, "name: 'gravel' is there twice"),
        ({"classes[1].colour": [120, 110, 100]}, "colour: [120, 110, 100] is there twice (of gravel and of grass)"),
        ({"classes[0].ids": [256]}, "in 'classes[0]': ids is [256]; numbers from 0 to 255"),
        ({"classes[0].colour": [1, 2, -1]}, "in 'classes[0]': colour is [1, 2, -1]; numbers from 0 to 255"),
        ({"classes[0].colour": [1, 2]}, "the field 'classes[0].colour' must be a list of 3"),
        ({"classes[0].ids": []}, "the class 'gravel' has neither ids nor mask_colours"),
        ({"classes[1].mask_colours": [[1, 2, 3]]}, "the class 'grass' has both ids and mask_colours"),
        ({"ignored_colours": [[0, 0, 0]]}, "ignored_colours is [(0, 0, 0)], but the masks hold ids"),
        ({"classes[2].id": 4}, "unknown key(s) classes[2].id; the field 'classes[2]' can have name, colour, ids"),
        ({"splits.val.mask": "x"}, "unknown key(s) splits.val.mask"),
        ({"licence": ""}, "licence is ''; give 1 to 200 printable characters"),
        ({"classes": []}, "classes has 0 entries; 2 to 254 are possible"),
        ({"splits": {}}, "splits is empty; give at least one"),
        ({"mask_ending": ".jpg"}, "mask_ending '.jpg'"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_a_mistake_in_the_file_is_named_with_its_field_and_value(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    content: Any = description()
    for field, value in changes.items():
        *above, last = re.findall(r"\w+", field)
        place = content
        for name in above:
            place = place[int(name) if name.isdigit() else name]
        place[last] = value
    file = write_own(tmp_path / "yard", frames=2) / "classes.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(SchemaError, match=rf"^{re.escape(str(file))}: .*{re.escape(message)}"):
        open_data_set("folder", file.parent, "val")


def test_a_value_that_no_class_has_is_named_with_its_file_and_the_remedy(tmp_path: Path) -> None:
    ids, colours = write_own(tmp_path / "ids"), write_own(tmp_path / "colours", of_colours())
    for folder, value, shown, field in (
        (ids, 42, "label value(s) [42]; Yard has 3, 7, 9, 255", "ids"),
        (colours, (1, 2, 3), "colour(s) [1, 2, 3]; Yard has none of them", "mask_colours"),
    ):
        mask = folder / "masks" / "frame006.png"
        pixels = np.asarray(Image.open(mask)).copy()
        pixels[5, 5] = value
        Image.fromarray(pixels).save(mask)
        frames = open_data_set("folder", folder, "val")
        pattern = rf"{re.escape(f'{mask}: {shown}')}.*Add it to a class \({field}\) or to ignored_.*classes.yaml"
        for read in (lambda f=frames: f[0], lambda f=frames: f.labels(0)):
            with pytest.raises(BrokenFrameError, match=pattern):
                read()


def test_masks_that_are_missing_or_not_png_are_named(tmp_path: Path) -> None:
    folder = write_own(tmp_path / "yard", of_colours())
    mask = folder / "masks" / "frame006.png"
    Image.open(mask).save(mask.with_suffix(".jpg"))
    (folder / "masks" / "frame006.jpg").replace(mask)
    with pytest.raises(BrokenFrameError, match=rf"{re.escape(str(mask))}: .*a JPEG.*it must be PNG"):
        open_data_set("folder", folder, "val")[0]
    mask.unlink()
    with pytest.raises(FileNotFoundError, match=f"{mask}: no labels for"):
        open_data_set("folder", folder, "val")


def test_splits_are_lists_or_folders_and_none_is_guessed(tmp_path: Path) -> None:
    folder = write_own(tmp_path / "yard")
    with pytest.raises(ValueError, match=r"has the splits train, val; say which with @SPLIT"):
        open_data_set("folder", folder)
    with pytest.raises(ValueError, match=r"has no split 'test'; it has train, val"):
        open_data_set("folder", folder, "test")
    (folder / "val.txt").write_text("frame006.png\n")
    with pytest.raises(ValueError, match=r"val.txt, line 1: .*/images has no image of the frame 'frame006.png'"):
        open_data_set("folder", folder, "val")
    (folder / "val.txt").write_text("../images/frame006\n")
    with pytest.raises(ValueError, match=r"val.txt, line 1: .* leads out of"):
        open_data_set("folder", folder, "val")
    (folder / "val.txt").write_text("frame006\nframe001\n")
    with pytest.raises(ValueError, match=r"the frame frame001 is in the splits 'val' and 'train'"):
        open_data_set("folder", folder, "val")
    # Folders, with endings, and the file elsewhere.
    for split, names in (("a", ("frame000", "frame001")), ("b", ("city/frame002",))):
        for name in names:
            for part, ending in (("images", "_cam.png"), ("masks", "_ids.png")):
                target = tmp_path / "moved" / split / part / f"{name}{ending}"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(folder / part / f"{Path(name).name}.png", target)
    (tmp_path / "moved" / "b.txt").write_text("city/frame002\n")
    splits = {s: {"images": f"{s}/images", "masks": f"{s}/masks"} for s in "ab"}
    splits["b"]["frames"] = "b.txt"
    file = tmp_path / "elsewhere.yaml"
    endings = {"image_ending": "_cam.png", "mask_ending": "_ids.png"}
    file.write_text(yaml.safe_dump(description(root="moved", splits=splits, **endings)))
    frames = open_frames(data_argument(f"folder:{file}@a"), ())
    assert [paths.name for paths in frames.files] == ["frame000", "frame001"]
    assert (frames[0].labels != 255).any()
    assert [paths.name for paths in open_frames(data_argument(f"folder:{file}@b"), ()).files] == ["city/frame002"]
    shutil.copy(folder / "images" / "frame003.png", tmp_path / "moved" / "a" / "images" / "frame003.png")
    with pytest.raises(ValueError, match=r"1 picture\(s\) do not end in '_cam.png', such as frame003.png; correct"):
        open_data_set("folder", file, "a")


def test_a_held_out_class_of_colours_is_an_anomaly(tmp_path: Path) -> None:
    frames = HeldOut(open_data_set("folder", write_own(tmp_path / "yard", of_colours()), "train"), ["shed"]).test
    assert [c.name for c in frames.classes] == ["gravel", "grass"]
    assert any((frame.anomaly == 1).any() for frame in frames)


def test_the_table_says_what_the_labels_mean_and_warns_of_classes_without_pixels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ids of one's own in CamVid's layout: 0 to 2 would be learnt as sky, building and pole."""
    for part in ("images", "labels"):
        (tmp_path / "train" / part).mkdir(parents=True)
    pixels = np.repeat(np.array([0, 1, 1, 2], np.uint8), 16).reshape(8, 8)
    for number in range(6):
        cv2.imwrite(str(tmp_path / "train" / "images" / f"{number}.png"), np.zeros((8, 8, 3), np.uint8))
        cv2.imwrite(str(tmp_path / "train" / "labels" / f"{number}.png"), pixels)
    frames = open_data_set("camvid", tmp_path, "train")
    print_label_table([(frames, "train")])
    shown = capsys.readouterr().err
    assert "CamVid (train), 6 frames, all counted" in shown
    assert re.search(r"sky +│ 0 +│ +96 │ +25.00", shown)
    assert re.search(r"building +│ 1 +│ +192 │ +50.00", shown)
    assert re.search(r"road +│ 3 +│ +0 │ +0.00 │ +yes", shown)
    assert "warning: no pixel of road, pavement, tree, sign, fence, car, pedestrian, bicyclist in any frame." in shown
    counts = count_labels(frames, most=3)
    assert (counts.counted, counts.frames, counts.pixels[1], counts.void) == (3, 6, 96, 0)
    assert counts.shown_frames == "6 frames, an even sample of 3 counted"


def test_own_frames_become_a_measured_bundle_with_their_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_own(tmp_path / "yard")
    assert train(folder, tmp_path, epochs=2, data={"set": "folder", "workers": 0}) == 0
    assert "Yard (train), 6 frames, all counted" in capsys.readouterr().err
    own = tmp_path / "yard_small"
    assert export([str(tmp_path / "run" / "best.pt"), str(own), "--data", str(folder), "--with"]) == 0
    exported = read_bundle(own).description
    assert [(c.name, c.colour, c.drivable) for c in exported.classes] == [
        (name, colour, name == "gravel") for name, colour in zip(NAMES, COLOURS, strict=True)
    ]
    assert (exported.weights_licence, exported.training.data_sets) == ("ours", ("Yard (train)",))
    assert "drivable_fpr_0.01" in [point.name for point in exported.operating_points]

    val = ("--data", f"folder:{folder}@val")
    assert calibrate([str(own), *val, "--drivable", "grass", "--drivable", "gravel"]) == 0
    description_ = read_bundle(own).description
    assert description_.drivable_ids == (0, 1)
    assert description_.training.measurements[-1].command.endswith("@val --drivable grass --drivable gravel")
    assert calibrate([str(own), *val]) == 0
    captured = capsys.readouterr()
    assert "drivable classes: gravel\n" in captured.out
    assert "Yard (val), 2 frames, all counted" in captured.err
    assert read_bundle(own).description.drivable_ids == (0,)
    assert calibrate([str(own), *val, "--drivable", "road"]) == 2
    assert "--drivable road: the bundle has no such class; it has gravel, grass, shed" in capsys.readouterr().err

    figures = tmp_path / "figures.json"
    assert evaluate([str(own), *val, "--out", str(tmp_path / "out"), "--json", str(figures)]) == 0
    assert set(json.loads(figures.read_text())["sets"]["folder"]["semantic"]["IoU"]) == set(NAMES)

    # Classes that changed after training are noticed, not learnt or measured under other names.
    content = description()
    content["classes"].reverse()
    (folder / "classes.yaml").write_text(yaml.safe_dump(content))
    assert export([str(tmp_path / "run" / "best.pt"), str(tmp_path / "other"), "--data", str(folder)]) == 2
    assert "Yard has the classes shed, grass, gravel; the checkpoint was trained on gravel" in capsys.readouterr().err
    assert train(folder, tmp_path, "--resume", epochs=2, data={"set": "folder", "workers": 0}) == 2
    assert "was trained on the classes gravel, grass, shed; the data has shed, grass, gravel" in capsys.readouterr().err


@pytest.mark.parametrize("content", [description(), of_colours()], ids=["ids", "colours"])
def test_a_draft_is_a_set_that_can_be_read(
    content: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_own(tmp_path / "yard", content, frames=10)
    for name in ("classes.yaml", "train.txt", "val.txt"):
        (folder / name).unlink()
    assert init_labels([str(folder)]) == 0
    train_frames, validation = (open_data_set("folder", folder, split) for split in ("train", "val"))
    assert [paths.name for paths in validation.files] == ["frame008", "frame009"]
    assert len(train_frames) == 8
    named = [c.name for c in train_frames.classes]
    if content["classes"][0].get("ids"):
        assert named == ["id 3", "id 7", "id 9"]
        assert train_frames.label_map[VOID] == 255
    else:
        assert set(named) == {f"colour {r} {g} {b}" for r, g, b in [*MASK_COLOURS, (0, 0, 0)]}
    assert count_labels(train_frames).pixels.all()
    capsys.readouterr()
    assert init_labels([str(folder)]) == 2
    assert "train.txt: exists and is not replaced" in capsys.readouterr().err


def test_a_draft_names_what_is_no_label_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert init_labels([str(tmp_path / "empty")]) == 2
    assert "neither it nor a folder in it holds images/" in capsys.readouterr().err
    folder = tmp_path / "by split"
    write_own(folder / "train")
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    Image.fromarray(noise).save(folder / "train" / "masks" / "frame000.png")
    for path in (folder / "train").glob("*.*"):
        path.unlink()
    assert init_labels([str(folder)]) == 2
    assert re.search(r"frame000.png: up to here the masks hold \d+ colours", capsys.readouterr().err)
    (folder / "train" / "masks" / "frame000.png").unlink()
    assert init_labels([str(folder)]) == 2
    assert re.search(r"frame000.png: no such mask; 1 of \d+ masks are missing", capsys.readouterr().err)
