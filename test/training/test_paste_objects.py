"""Rendered unknown objects in labelled frames: what networks are chosen by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from synthetic_camvid import write_camvid

from training.data.labelled_frames import ANOMALY
from training.data.registry import open_data_set
from training.data.sets.images_and_masks import ImagesAndMasks
from training.paste_objects import main

COLOUR = (250, 5, 240)


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """One frame with an object of 40 x 20 pixels in COLOUR, one that its frame cuts off, and a speck."""
    folder = tmp_path / "objects"
    image, mask = np.zeros((120, 160, 3), np.uint8), np.zeros((120, 160), np.uint8)
    for area in (np.s_[50:70, 60:100], np.s_[100:120, 0:40], np.s_[10:13, 10:13]):
        mask[area] = ANOMALY
    image[50:70, 60:100] = COLOUR
    for name, picture in (("images", image), ("labels_masks", mask)):
        (folder / name).mkdir(parents=True)
        Image.fromarray(picture).save(folder / name / "1.png")
    return folder


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    return write_camvid(tmp_path / "camvid", frames=12) / "val"


def paste(frames: Path, objects: Path, out: Path, *more: str) -> int:
    return main(["--data", f"camvid:{frames}", "--objects", str(objects), "--out", str(out), *more])


def test_whole_objects_stand_on_the_ground_and_the_mask_is_where_they_are(
    frames: Path, objects: Path, tmp_path: Path
) -> None:
    assert paste(frames, objects, tmp_path / "out") == 0
    pasted, before = ImagesAndMasks(tmp_path / "out"), open_data_set("camvid", frames)
    assert len(pasted) == len(before) == 12
    changed = 0
    for new, old in zip(pasted, before, strict=True):
        there = new.anomaly == ANOMALY
        changed += there.any()
        on_ground = np.isin(old.labels, (3, 4)).any()
        assert there.any() == on_ground
        # The blur of the outline reaches a few pixels beyond it.
        near = np.abs(new.image.astype(int) - COLOUR).max(axis=2) <= 8
        assert not near[~there].any()
        assert not there.any() or near[there].mean() > 0.5
        np.testing.assert_array_equal(new.anomaly[~there], old.anomaly[~there])
    assert changed > 6


def test_the_same_seed_gives_the_same_files_and_another_gives_others(
    frames: Path, objects: Path, tmp_path: Path
) -> None:
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert paste(frames, objects, tmp_path / name, "--seed", seed) == 0
    names = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.png"))
    contents = {key: [(tmp_path / key / name).read_bytes() for name in names] for key in "abc"}
    assert contents["a"] == contents["b"] != contents["c"]


def test_without_objects_or_ground_it_says_what_to_do(
    frames: Path, objects: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for mask in (objects / "labels_masks").glob("*.png"):
        Image.fromarray(np.zeros((120, 160), np.uint8)).save(mask)
    assert paste(frames, objects, tmp_path / "out") == 2
    assert "no object of 200 pixels or more, wholly inside its frame, in it" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["--data", f"images_and_masks:{objects}", "--objects", str(objects), "--out", str(tmp_path / "o")]) == 2
    assert "has none of the classes road, pavement, sidewalk" in capsys.readouterr().err
