"""What is handed to CVAT and Label Studio, and what comes back from them."""

from __future__ import annotations

import contextlib
import json
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from fleet.labelling.brush_runs import BrushError, decode_brush, encode_brush
from fleet.labelling.cvat import CvatWriter, ExportError, LabelledMask, cvat_labels, read_cvat
from fleet.labelling.label_studio import label_studio_config, label_studio_task, read_label_studio
from fleet.labelling.prelabels import Labels, Prelabel, PrelabelBox, with_unknown
from training.data.label_set_file import LabelSetClass

LABELS = Labels((LabelSetClass("road", (128, 64, 128), (0,)), LabelSetClass("sky <&>", (70, 130, 180), (1,))))
IDS = {name: number for name, (number, _) in LABELS.masks.items()}
BOX = PrelabelBox(1, 2, 3, 2, "7", 0.75)


def seen() -> Prelabel:
    """A frame of 5x8 pixels with both classes and an unknown object."""
    ids = np.zeros((5, 8), np.uint8)
    ids[:2] = 1
    ids[2:4, 1:4] = 255
    return Prelabel("drive-12", ids, (BOX,))


def annotations_of(frame: Prelabel) -> bytes:
    writer = CvatWriter(LABELS, "task")
    writer.add(frame, ".png")
    return writer.text()


# -- CVAT -------------------------------------------------------------------------------------------------------------


def test_an_annotations_file_has_the_parts_that_cvat_describes() -> None:
    root = ElementTree.fromstring(annotations_of(seen()))
    assert root.findtext("version") == "1.1"
    listed = [label.findtext("name") for label in root.iterfind("meta/task/labels/label")]
    assert listed == ["road", "sky <&>", "unknown", "obstacle"]
    (image,) = root.iterfind("image")
    assert image.attrib == {"id": "0", "name": "drive-12.png", "width": "8", "height": "5"}
    sky = next(mask for mask in image.iterfind("mask") if mask.get("label") == "sky <&>")
    # Two whole rows: no pixel before them, then 16.
    assert {name: sky.get(name) for name in ("left", "top", "width", "height", "rle")} == {
        "left": "0", "top": "0", "width": "8", "height": "2", "rle": "0, 16",
    }  # fmt: skip
    (box,) = image.iterfind("box")
    assert [box.get(name) for name in ("label", "xtl", "ytl", "xbr", "ybr")] == [
        "obstacle",
        "1.00",
        "2.00",
        "4.00",
        "4.00",
    ]


def test_the_labels_of_a_task_are_those_of_the_masks_and_one_for_boxes() -> None:
    found = json.loads(cvat_labels(LABELS))
    assert [(label["name"], label["type"]) for label in found] == [
        ("road", "mask"), ("sky <&>", "mask"), ("unknown", "mask"), ("obstacle", "rectangle"),
    ]  # fmt: skip
    assert found[0]["color"] == "#804080"


@given(arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 9)), elements=st.sampled_from([0, 1, 255])))
def test_masks_come_back_from_cvat_pixel_by_pixel(ids: NDArray[np.uint8]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.xml")
        path.write_bytes(annotations_of(Prelabel("f", ids)))
        (found,) = read_cvat(path, IDS)
    np.testing.assert_array_equal(found.ids, ids)
    assert found.labelled.all()


def cvat_file(tmp_path: Path, shapes: str, size: str = 'width="8" height="5"') -> Path:
    path = tmp_path / "annotations.xml"
    path.write_text(
        f'<annotations><version>1.1</version><image id="0" name="images/f.png" {size}>{shapes}</image></annotations>'
    )
    return path


def test_polygons_and_masks_are_drawn_from_back_to_front_and_boxes_are_hints(tmp_path: Path) -> None:
    shapes = (
        '<polygon label="unknown" points="0,0;1,0;1,1;0,1" z_order="2"/>'
        '<polygon label="road" points="0,0;7,0;7,4;0,4" z_order="1"/>'
        '<box label="obstacle" xtl="0" ytl="0" xbr="7" ybr="4" z_order="3"/>'
    )
    (found,) = read_cvat(cvat_file(tmp_path, shapes), IDS)
    expected = np.zeros((5, 8), np.uint8)
    expected[:2, :2] = 255
    np.testing.assert_array_equal(found.ids, expected)


def test_pixels_that_nobody_labelled_are_known_to_be_so(tmp_path: Path) -> None:
    shapes = '<mask label="road" rle="1, 2" left="2" top="4" width="3" height="1"/>'
    (found,) = read_cvat(cvat_file(tmp_path, shapes), IDS)
    assert np.argwhere(found.labelled).tolist() == [[4, 3], [4, 4]]
    assert (found.ids[~found.labelled] == 255).all()


def test_the_zip_of_an_export_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.writestr("annotations.xml", annotations_of(seen()))
    (found,) = read_cvat(tmp_path / "export.zip", IDS)
    np.testing.assert_array_equal(found.ids, seen().ids)


@pytest.mark.parametrize(
    ("shapes", "problem"),
    [
        ('<mask label="truck" rle="0, 1" left="0" top="0" width="1" height="1"/>', "'truck' is none of road"),
        ('<mask label="road" rle="0, 2" left="0" top="0" width="1" height="1"/>', "runs of 2 pixels in a box of 1x1"),
        ('<mask label="road" rle="0, 1" left="8" top="0" width="1" height="1"/>', "leaves the image"),
        ('<mask label="road" rle="x" left="0" top="0" width="1" height="1"/>', "no list of whole numbers"),
        ('<mask label="road" rle="0, 1" left="0" top="0" width="1"/>', "height is ''"),
        ('<polygon label="road" points="1,nan;2,2;3,3"/>', "far outside"),
        ('<polygon label="road" points="1;2"/>', "x,y;x,y"),
        ('<polyline label="road" points="1,1;2,2"/>', "has a polyline"),
    ],
)
def test_a_shape_that_cannot_be_read_is_named(tmp_path: Path, shapes: str, problem: str) -> None:
    with pytest.raises(ExportError, match=problem):
        list(read_cvat(cvat_file(tmp_path, shapes), IDS))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<annotations", "is not XML"),
        ("<annotations><track/></annotations>", "CVAT for images 1.1"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotations/>', "document type"),
    ],
)
def test_another_file_is_refused_with_the_export_to_choose(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(ExportError, match=problem):
        list(read_cvat(tmp_path / "a.xml", IDS))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotations/>'.encode("utf-16"), "document type"),
        (b'<?xml version="1.0" encoding="nowhere"?><annotations/>', "is not XML"),
        (b'<?xml version="1.0" encoding="shift_jis"?><annotations/>', "is not XML"),
    ],
)
def test_an_encoding_hides_no_document_type_and_an_unknown_one_is_named(
    tmp_path: Path, data: bytes, problem: str
) -> None:
    (tmp_path / "a.xml").write_bytes(data)
    with pytest.raises(ExportError, match=problem):
        list(read_cvat(tmp_path / "a.xml", IDS))


def test_a_damaged_zip_is_refused_whatever_byte_is_wrong(tmp_path: Path) -> None:
    whole = tmp_path / "export.zip"
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("annotations.xml", "<annotations>" + "<other/>" * 40 + "</annotations>")
    data = whole.read_bytes()
    for place in range(len(data)):
        whole.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        with contextlib.suppress(ExportError):
            list(read_cvat(whole, IDS))


# -- Label Studio -----------------------------------------------------------------------------------------------------


def test_the_brush_code_is_that_of_label_studios_own_converter() -> None:
    # Made by encode_rle of label_studio_sdk 2.1.2 from the mask below, its values repeated four times.
    code = [0, 0, 0, 24, 57, 27, 252, 96, 23, 255, 227, 0, 0]
    mask = np.array([[0, 1, 1], [1, 1, 0]], bool)
    np.testing.assert_array_equal(decode_brush(code, 2, 3), mask)


@given(arrays(np.bool_, st.tuples(st.integers(1, 7), st.integers(1, 40))))
def test_a_brush_mask_comes_back_pixel_by_pixel(mask: NDArray[np.bool_]) -> None:
    np.testing.assert_array_equal(decode_brush(encode_brush(mask), *mask.shape), mask)


def test_a_run_longer_than_the_code_has_is_split() -> None:
    mask = np.ones((200, 300), bool)
    np.testing.assert_array_equal(decode_brush(encode_brush(mask), 200, 300), mask)


@given(st.lists(st.integers(0, 255), max_size=40))
def test_any_bytes_give_a_mask_or_a_brush_error(code: list[int]) -> None:
    with contextlib.suppress(BrushError):
        assert decode_brush(code, 2, 3).shape == (2, 3)


def test_a_task_has_the_fields_that_label_studio_describes() -> None:
    task = label_studio_task(seen(), LABELS, "/data/local-files/?d=x/images/", "mine")
    assert task["data"] == {"image": "/data/local-files/?d=x/images/drive-12.png", "frame": "drive-12"}
    (prediction,) = task["predictions"]
    assert prediction["model_version"] == "mine"
    box = next(result for result in prediction["result"] if result["type"] == "rectanglelabels")
    assert (box["original_width"], box["original_height"]) == (8, 5)
    assert box["value"] == {
        "x": 12.5, "y": 40.0, "width": 37.5, "height": 40.0, "rotation": 0, "rectanglelabels": ["obstacle"],
    }  # fmt: skip
    # Every name that a result refers to is one of the configuration, and every label too.
    config = ElementTree.fromstring(label_studio_config(LABELS))
    tags = {element.get("name"): element for element in config}
    for result in prediction["result"]:
        tag = tags[result["from_name"]]
        assert tag.tag.lower() == result["type"]
        assert tag.get("toName") == result["to_name"] == "image"
        assert set(result["value"][result["type"]]) <= {label.get("value") for label in tag}


def export(tmp_path: Path, results: Any, **annotation: Any) -> Path:
    task = {"id": 1, "data": {"image": "/data/upload/1/ab12-f.png", "frame": "f"}}
    path = tmp_path / "export.json"
    path.write_text(json.dumps([{**task, "annotations": [{"result": results, "was_cancelled": False, **annotation}]}]))
    return path


def test_what_was_submitted_unchanged_is_the_prediction(tmp_path: Path) -> None:
    results = label_studio_task(seen(), LABELS, "", "mine")["predictions"][0]["result"]
    (found,) = read_label_studio(export(tmp_path, results), IDS)
    assert isinstance(found, LabelledMask)
    assert found.name == "f"
    np.testing.assert_array_equal(found.ids, seen().ids)


def test_a_polygon_is_drawn_over_what_came_before(tmp_path: Path) -> None:
    size = {"original_width": 10, "original_height": 10, "image_rotation": 0}
    whole = {"points": [[0, 0], [100, 0], [100, 100], [0, 100]], "polygonlabels": ["road"]}
    corner = {"points": [[0, 0], [20, 0], [20, 20], [0, 20]], "polygonlabels": ["unknown"]}
    results = [{"type": "polygonlabels", "value": value, **size} for value in (whole, corner)]
    (found,) = read_label_studio(export(tmp_path, results), IDS)
    assert (found.ids[:3, :3] == 255).all()
    assert (found.ids[3:] == 0).all()


def test_a_task_that_was_skipped_is_no_label(tmp_path: Path) -> None:
    assert list(read_label_studio(export(tmp_path, [], was_cancelled=True), IDS)) == []


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        ({"type": "ellipselabels", "value": {}}, "ellipselabels"),
        ({"type": "brushlabels", "value": {"rle": [0], "brushlabels": ["road"]}}, "ends early"),
        ({"type": "brushlabels", "value": {"rle": ["a"], "brushlabels": ["road"]}}, "no list of bytes"),
        ({"type": "brushlabels", "value": {}}, "cannot be read"),
        ({"type": "rectanglelabels", "value": {}}, "without a mask"),
        (
            {"type": "polygonlabels", "value": {"points": [[0, 0], [1, 1]], "polygonlabels": ["bus"]}},
            "'bus' is none of",
        ),
        ({"type": "polygonlabels", "value": {"points": [[0, 1e99]], "polygonlabels": ["road"]}}, "far outside"),
    ],
)
def test_a_result_that_cannot_be_read_is_named(tmp_path: Path, result: dict[str, Any], problem: str) -> None:
    size = {"original_width": 8, "original_height": 5, "image_rotation": 0}
    with pytest.raises(ExportError, match=problem):
        list(read_label_studio(export(tmp_path, [{**size, **result}]), IDS))


# -- what the network sees --------------------------------------------------------------------------------------------


def test_unknown_is_what_is_anomalous_within_the_box_of_an_obstacle() -> None:
    mask = np.ones((5, 8), bool)
    found = with_unknown(np.zeros((5, 8), np.uint8), mask, [BOX])
    assert np.argwhere(found == 255).min(axis=0).tolist() == [2, 1]
    assert np.argwhere(found == 255).max(axis=0).tolist() == [3, 3]
    assert not with_unknown(np.zeros((5, 8), np.uint8), ~mask, [BOX]).any()
