"""Label Studio's JSON: tasks with predictions are written, and an export of what was labelled is read back.

https://labelstud.io/guide/predictions and https://labelstud.io/guide/task_format describe it. Boxes and polygons are in
percent of the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import cv2
import numpy as np
from numpy.typing import NDArray

from fleet.labelling.brush_runs import BrushError, decode_brush, encode_brush
from fleet.labelling.cvat import MOST_PIXELS, ExportError, LabelledMask
from fleet.labelling.prelabels import Labels, Prelabel
from ros_ood_perception.bundle.description import UNLABELLED_ID
from ros_ood_perception.files.json_files import read_json
from ros_ood_perception.shown_text import printable

IMAGE, MASKS, BOXES = "image", "class", "obstacles"
"""Names of the tags in the labelling configuration."""
FRAME = "frame"
"""Field of a task's data that names the frame. Label Studio keeps it, and renames uploaded images."""
HINTS = ("rectanglelabels", "choices", "textarea")
"""Kinds of results that are not read back."""


def label_studio_config(labels: Labels) -> str:
    """The labelling configuration of a project, XML."""
    view = Element("View")
    SubElement(view, "Image", name=IMAGE, value=f"${IMAGE}", zoom="true")
    masks = SubElement(view, "BrushLabels", name=MASKS, toName=IMAGE)
    for name, (_, colour) in labels.masks.items():
        SubElement(masks, "Label", value=name, background="#{:02x}{:02x}{:02x}".format(*colour))
    boxes = SubElement(view, "RectangleLabels", name=BOXES, toName=IMAGE)
    SubElement(boxes, "Label", value=labels.obstacle, background="#ffffff")
    ElementTree.indent(view, " ")
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def label_studio_task(frame: Prelabel, labels: Labels, image: str, model: str) -> dict[str, Any]:
    """One task with the network's prediction.

    Args:
        image: where Label Studio finds the image: a path or URL, in which the frame's name is then quoted.
        model: name of the bundle.
    """
    height, width = frame.ids.shape
    shape = {"to_name": IMAGE, "original_width": width, "original_height": height, "image_rotation": 0}
    results: list[dict[str, Any]] = []
    for label, (number, _) in labels.masks.items():
        mask = frame.ids == number
        if mask.any():
            code = {"format": "rle", "rle": encode_brush(mask), MASK_KIND: [label]}
            results.append({"id": f"m{number}", "from_name": MASKS, "type": MASK_KIND, **shape, "value": code})
    for place, box in enumerate(frame.boxes):
        percent: dict[str, float] = {
            "x": 100 * box.x / width,
            "y": 100 * box.y / height,
            "width": 100 * box.width / width,
            "height": 100 * box.height / height,
        }
        value = {"rotation": 0, BOX_KIND: [labels.obstacle], **{key: round(of, 4) for key, of in percent.items()}}
        named = {"id": f"b{place}", "from_name": BOXES, "type": BOX_KIND, "score": round(box.score, 6)}
        results.append({**named, **shape, "value": value})
    prediction = {"model_version": model, "result": results}
    return {"data": {IMAGE: f"{image}{quote(frame.name)}.png", FRAME: frame.name}, "predictions": [prediction]}


MASK_KIND, BOX_KIND, POLYGON_KIND = "brushlabels", "rectanglelabels", "polygonlabels"


def read_label_studio(path: Path, ids: Mapping[str, int]) -> Iterator[LabelledMask]:
    """The labelled frames of an export as JSON. Tasks without an annotation are left out.

    Brush masks and polygons are drawn in their order. Boxes are hints, and are not read.

    Args:
        ids: name of each label of pixels to its id in the masks.

    Raises:
        ExportError: it is no such file, or has a result or a label that is not read.
        JsonFileError, OSError: it cannot be read, with the path.
    """
    tasks = read_json(path)
    if not isinstance(tasks, list):
        raise ExportError(f"{path}: is no list of tasks; export as 'JSON', not as 'JSON-MIN' or COCO")
    for number, task in enumerate(tasks):
        where = f"{path}: task {number}"
        try:
            name = _name(task["data"])
            annotations = [found for found in task["annotations"] if not found.get("was_cancelled")]
            results = annotations[-1]["result"] if annotations else None
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ExportError(f"{where}: has no data or annotations ({error!r}); export as 'JSON'") from error
        if results:
            yield _labelled(f"{where} ('{printable(name)}')", name, results, ids)


def _name(data: Mapping[str, Any]) -> str:
    if FRAME in data:
        return str(data[FRAME])
    return PurePosixPath(unquote(str(data[IMAGE]))).stem


def _labelled(where: str, name: str, results: Any, ids: Mapping[str, int]) -> LabelledMask:
    drawn: list[tuple[str, NDArray[np.bool_]]] = []
    try:
        for result in results:
            if result["type"] not in HINTS:
                drawn.append(_drawn(where, result))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, ExportError):
            raise
        raise ExportError(f"{where}: has a result that cannot be read ({error!r})") from error
    if not drawn:
        raise ExportError(f"{where}: is submitted without a mask; label it, or delete its annotation")
    size = drawn[0][1].shape
    found, labelled = np.full(size, UNLABELLED_ID, np.uint8), np.zeros(size, np.bool_)
    for label, mask in drawn:
        if label not in ids:
            raise ExportError(f"{where}: the label '{printable(label)}' is none of {', '.join(ids)}; rename it")
        if mask.shape != size:
            raise ExportError(f"{where}: has masks of {mask.shape} and {size} pixels (height, width)")
        found[mask], labelled[mask] = ids[label], True
    return LabelledMask(name, found, labelled)


def _drawn(where: str, result: Mapping[str, Any]) -> tuple[str, NDArray[np.bool_]]:
    kind, value = str(result["type"]), result["value"]
    height, width = int(result["original_height"]), int(result["original_width"])
    if not (height > 0 and width > 0 and height * width <= MOST_PIXELS):
        raise ExportError(f"{where}: has a result of {width}x{height} pixels")
    if int(result.get("image_rotation", 0)):
        raise ExportError(f"{where}: its image was rotated; label it upright")
    if kind == MASK_KIND:
        try:
            return str(value[kind][0]), decode_brush(value["rle"], height, width)
        except BrushError as error:
            raise ExportError(f"{where}: {error}") from error
    if kind == POLYGON_KIND:
        corners = np.array(value["points"], np.float64).reshape(-1, 2) * (width / 100, height / 100)
        if not np.isfinite(corners).all() or np.abs(corners).max() > 1e6:
            raise ExportError(f"{where}: has a polygon far outside the image")
        canvas = np.zeros((height, width), np.uint8)
        cv2.fillPoly(canvas, [np.round(corners).astype(np.int32)], 1)
        return str(value[kind][0]), canvas > 0
    raise ExportError(f"{where}: has a result of the kind '{printable(kind)}'; brush masks and polygons are read")
