"""The truth file that a team writes: what is read from it, and what each fault is called."""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.metrics.obstacles.truth import ObstacleTruth, ObstacleTruthError
from training.metrics.obstacles.truth_file import FORMAT, FileTruth, open_truth

PALLET = {
    "id": "1",
    "kind": "pallet",
    "box": [10, 20, 4, 3],
    "footprint": [[12.0, 0.0], [12.0, 1.0], [13.0, 1.0], [13.0, 0.0]],
    "height_m": 0.15,
}
TRUTH: dict[str, Any] = {
    "format": FORMAT,
    "version": 1,
    "cameras": [{"name": "front", "position": [2.0, 0.5]}, {"name": "rear"}],
    "frames": [
        {"stamp_ns": 1000, "camera": "front", "objects": [PALLET, {"id": "2", "kind": "tyre", "box": [0, 0, 2, 2]}]},
        {"stamp_ns": 2000, "camera": "front", "objects": []},
        {"stamp_ns": 1000, "camera": "rear", "objects": [{"id": "1", "kind": "dog", "footprint": [[-5, 0]]}]},
    ],
}
SIZE = (48, 64)


def written(folder: Path, truth: Any) -> Path:
    path = folder / "truth.json"
    path.write_text(truth if isinstance(truth, str) else json.dumps(truth))
    return path


def test_a_file_gives_pixels_places_and_ranges(tmp_path: Path) -> None:
    truth: ObstacleTruth = open_truth(written(tmp_path, TRUTH))
    frame = truth.frame("front", 1000, SIZE)
    assert frame is not None
    pallet, tyre = frame.objects
    assert pallet.pixels is not None
    picture = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE)
    assert np.array_equal(pallet.pixels.values(picture), picture[20:23, 10:14].ravel())
    # From (2, 0.5) to the near edge at x = 12.
    assert pallet.range_m == pytest.approx(10.0)
    assert (pallet.kind, pallet.height_m, tyre.footprint, tyre.range_m) == ("pallet", 0.15, None, None)
    empty, unknown = truth.frame("front", 2000, SIZE), truth.frame("rear", 2000, SIZE)
    assert empty is not None
    assert empty.objects == ()
    assert unknown is None
    rear = truth.frame("rear", 1000, SIZE)
    assert rear is not None
    assert (rear.objects[0].pixels, rear.objects[0].range_m) == (None, 5.0)
    assert truth.frame_count() == 3


def test_the_examples_of_the_page_and_of_the_help_are_read() -> None:
    from training.evaluate_obstacles import __main__ as command

    page = (Path(__file__).parents[2] / "docs" / "measuring.md").read_text()
    [example] = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    in_help = command.__doc__ or ""
    for text in (example, in_help[in_help.index("{") : in_help.rindex("}") + 1]):
        truth = FileTruth(Path("truth.json"), json.loads(text))
        [camera] = json.loads(text)["cameras"]
        frame = truth.frame(camera["name"], 1_700_000_000_200_000_000, (480, 640))
        assert frame is not None
        assert frame.objects[0].range_m == pytest.approx(10.5, abs=0.1)


def test_a_box_over_the_edge_is_cut_and_one_outside_is_named(tmp_path: Path) -> None:
    truth = copy.deepcopy(TRUTH)
    truth["frames"][0]["objects"][0]["box"] = [60, 46, 10, 10]
    read = open_truth(written(tmp_path, truth))
    frame = read.frame("front", 1000, SIZE)
    assert frame is not None
    assert frame.objects[0].pixels is not None
    assert frame.objects[0].pixels.count == 4 * 2
    with pytest.raises(
        ObstacleTruthError,
        match=r"truth\.json: frames\[0\]\.objects\[0\]: 'box' is .*outside the frame of 50 x 40 pixels",
    ):
        read.frame("front", 1000, (40, 50))


def changed(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    truth = copy.deepcopy(TRUTH)
    change(truth)
    return truth


def first(truth: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = truth["frames"][0]["objects"][0]
    return found


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ("{", r"truth\.json: is not JSON .*give the ground_truth\.json of a sample drive, or a truth file"),
        ('{"format": 1, "format": 2}', r"the key 'format' is there twice; keep one"),
        ('{"version": NaN}', r"NaN is no number of JSON"),
        ("[]", r"must be a mapping with the keys format, version, frames; found \[\]"),
        ({}, r"'format' is None and 'version' None; they must be 'ros_ood_perception/obstacle_truth' and 1"),
        ({**TRUTH, "version": 2}, r"'version' 2; they must be"),
        ({**TRUTH, "version": True}, r"'version' True; they must be"),
        ({**TRUTH, "frame": []}, r"unknown key\(s\) 'frame'; the file can have format, version, cameras, frames"),
        ({**TRUTH, "frames": []}, r"'frames' is empty; list each frame that was looked at"),
        ({**TRUTH, "frames": {}}, r"'frames' must be a list, found \{\}"),
        ({**TRUTH, "frames": [3]}, r"frames\[0\]: the file must be a mapping of names to values, found 3"),
        ({**TRUTH, "cameras": [{"name": "front"}] * 2}, r"cameras\[1\]: 'name' is 'front' again; keep one"),
        ({**TRUTH, "cameras": [{"name": "left"}]}, r"frames\[0\]: 'camera' is 'front'; 'cameras' names 'left'"),
        (changed(lambda t: t["frames"][1].pop("objects")), r"frames\[1\]: the field 'objects' is missing"),
        (changed(lambda t: t["frames"][1].update(stamp_ns=0.5)), r"frames\[1\]: the field 'stamp_ns' is 0\.5"),
        (changed(lambda t: t["frames"][1].update(stamp_ns=-1)), r"frames\[1\]: 'stamp_ns' is -1; it must be the stamp"),
        (changed(lambda t: t["frames"][1].update(stamp_ns=1000)), r"frames\[1\]: .* are those of frames\[0\]; put all"),
        (changed(lambda t: first(t).update(box=[1, 2, 0, 4])), r"frames\[0\]: in 'objects\[0\]': 'box' is .*not empty"),
        (changed(lambda t: first(t).update(box=[1, 2, 3])), r"'objects\[0\]\.box' must be a list of 4"),
        (changed(lambda t: first(t).update(box=[1, 2, 3, 1e9])), r"'box' is .*it must be left, top, width, height"),
        (changed(lambda t: first(t).update(footprint=[])), r"'footprint' has 0 places; it must have 1 to 64"),
        (changed(lambda t: first(t).update(footprint=[[1e9, 0]])), r"'footprint' has .*x, y in metres"),
        (changed(lambda t: first(t).update(range_m=4)), r"has 'footprint' and 'range_m'; give one of them"),
        (changed(lambda t: first(t).update(height_m=-1)), r"'height_m' is -1; it must be from 0 to 10000 metres"),
        (changed(lambda t: first(t).update(id="")), r"'id' is ''; it must be 1 to 100 visible characters"),
        (changed(lambda t: first(t).update(kind="a\x1b[2J")), r"'kind' is 'a\\x1b\[2J'; it must be 1 to 100 visible"),
        (changed(lambda t: first(t).update(size=3)), r"unknown key\(s\) objects\[0\]\.size"),
        (changed(lambda t: first(t).update(id="2")), r"'objects' has the id '2' twice; an object is in a frame once"),
        (
            changed(lambda t: t["frames"][1].update(objects=[{**PALLET, "kind": "tyre"}])),
            r"frames\[1\]: the object '1' has the kind 'tyre', and in frames\[0\] 'pallet'; give another object",
        ),
        (
            changed(lambda t: [first(t).pop(name) for name in ("box", "footprint")]),
            r"frames\[0\]: in 'objects\[0\]': has neither 'box' nor 'footprint'; give the object a box",
        ),
    ],
)
def test_a_fault_is_named_with_file_field_value_and_remedy(truth: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ObstacleTruthError, match=message) as caught:
        open_truth(written(tmp_path, truth))
    assert str(caught.value).startswith(f"{tmp_path}/truth.json")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(ObstacleTruthError, match="is not a file"):
        open_truth(tmp_path / "pipe.json")
    with pytest.raises(OSError, match=r"none\.json"):
        open_truth(tmp_path / "none.json")
    with pytest.raises(OSError, match=r"ground_truth\.json"):
        open_truth(tmp_path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@given(VALUES, st.sampled_from(["frames", "cameras", "frame", "objects", "object", "box", "footprint", "id"]))
def test_any_value_in_any_place_is_read_or_refused_with_a_message(value: Any, place: str) -> None:
    truth = copy.deepcopy(TRUTH)
    if place in ("frames", "cameras"):
        truth[place] = value
    elif place == "frame":
        truth["frames"][0] = value
    elif place == "objects":
        truth["frames"][0]["objects"] = value
    elif place == "object":
        truth["frames"][0]["objects"][0] = value
    else:
        first(truth)[place] = value
    message = "truth.json: "
    try:
        FileTruth(Path("truth.json"), truth)
    except ObstacleTruthError as error:
        message = str(error)
    assert message.startswith("truth.json: ")
