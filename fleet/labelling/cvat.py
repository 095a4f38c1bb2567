"""CVAT's own format of images, version 1.1 (`annotations.xml`): written with what the network sees, and read back.

https://docs.cvat.ai/docs/other/xml_format describes it. A `mask` has the box around its pixels, and the lengths of its
runs within the box, row by row, beginning with one of pixels that do not belong to it.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import cv2
import numpy as np
from numpy.typing import NDArray

from fleet.labelling.prelabels import Colour, Labels, Prelabel
from ros_ood_perception.bundle.description import UNLABELLED_ID
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.plain_file import read_plain_file
from ros_ood_perception.shown_text import printable

VERSION = "1.1"
ANNOTATIONS = "annotations.xml"
LARGEST_BYTES = 1 << 30
MOST_PIXELS = 8192 * 8192
HINTS = ("box", "tag")
"""Shapes that are hints for the person who labels, and are not read back."""


class ExportError(PerceptionError, ValueError):
    """The file of a labelling tool cannot be read. The message names it, the frame, and the remedy."""


@dataclass(frozen=True)
class LabelledMask:
    """What a person labelled in one frame.

    Attributes:
        name: of the frame.
        ids: (H, W) uint8, class ids; `UNLABELLED_ID` where it is unknown.
        labelled: (H, W) bool, where a label was given.
    """

    name: str
    ids: NDArray[np.uint8]
    labelled: NDArray[np.bool_]


def cvat_labels(labels: Labels) -> str:
    """The labels as the "Raw" editor of a task or project takes them."""
    found = [
        {"name": name, "color": _hex(colour), "type": "mask", "attributes": []}
        for name, (_, colour) in labels.masks.items()
    ]
    found.append({"name": labels.obstacle, "color": _hex((255, 255, 255)), "type": "rectangle", "attributes": []})
    return json.dumps(found, indent=1) + "\n"


class CvatWriter:
    """Collects the frames of `annotations.xml`."""

    def __init__(self, labels: Labels, task: str) -> None:
        self._labels = labels
        self._root = Element("annotations")
        SubElement(self._root, "version").text = VERSION
        described = SubElement(SubElement(self._root, "meta"), "task")
        SubElement(described, "name").text = printable(task)
        self._size = SubElement(described, "size")
        SubElement(described, "mode").text = "annotation"
        listed = SubElement(described, "labels")
        shown = {name: (colour, "mask") for name, (_, colour) in labels.masks.items()}
        for name, (colour, kind) in (shown | {labels.obstacle: ((255, 255, 255), "rectangle")}).items():
            label = SubElement(listed, "label")
            SubElement(label, "name").text = name
            SubElement(label, "color").text = _hex(colour)
            SubElement(label, "type").text = kind
            SubElement(label, "attributes")
        self._frames = 0

    def add(self, frame: Prelabel, ending: str) -> None:
        """Add a frame. `ending` is that of its image."""
        height, width = frame.ids.shape
        name = f"{frame.name}{ending}"
        image = SubElement(self._root, "image", id=str(self._frames), name=name, width=str(width), height=str(height))
        shape = {"occluded": "0", "source": "auto", "z_order": "0"}
        for label, (number, _) in self._labels.masks.items():
            if (mask := frame.ids == number).any():
                SubElement(image, "mask", {"label": label, **shape, **_runs(mask)})
        for box in frame.boxes:
            corners = {"xtl": box.x, "ytl": box.y, "xbr": box.x + box.width, "ybr": box.y + box.height}
            placed = {key: f"{value:.2f}" for key, value in corners.items()}
            SubElement(image, "box", {"label": self._labels.obstacle, **shape, **placed, "z_order": "1"})
        self._frames += 1

    def text(self) -> bytes:
        """The file, UTF-8."""
        self._size.text = str(self._frames)
        ElementTree.indent(self._root, " ")
        written: bytes = ElementTree.tostring(self._root, encoding="utf-8", xml_declaration=True)
        return written + b"\n"


def read_cvat(path: Path, ids: Mapping[str, int]) -> Iterator[LabelledMask]:
    """The frames of an export "CVAT for images 1.1": the file, or the zip with it.

    Masks and polygons are drawn in their order from back to front. Boxes are hints, and are not read.

    Args:
        ids: name of each label of pixels to its id in the masks.

    Raises:
        ExportError: it is no such file, or has a shape or a label that is not read.
        OSError: with the path.
    """
    try:
        root = ElementTree.fromstring(_contents(path))
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ExportError(f"{path}: is not XML ({error}); export as 'CVAT for images 1.1'") from error
    if root.tag != "annotations" or root.find("track") is not None:
        raise ExportError(f"{path}: has no images of CVAT; export as 'CVAT for images 1.1'")
    for image in root.iter("image"):
        yield _labelled(path, image, ids)


def _contents(path: Path) -> bytes:
    data = read_plain_file(path, LARGEST_BYTES)
    if zipfile.is_zipfile(io.BytesIO(data)):
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                if archive.getinfo(ANNOTATIONS).file_size > LARGEST_BYTES:
                    raise ExportError(f"{path}: {ANNOTATIONS} in it is larger than {LARGEST_BYTES} bytes")
                data = archive.read(ANNOTATIONS)
        except (KeyError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            # NotImplementedError, of a compression that zipfile does not know, is a RuntimeError.
            raise ExportError(
                f"{path}: holds no readable {ANNOTATIONS} ({error}); export as 'CVAT for images 1.1'"
            ) from error
    if b"<!DOCTYPE" in data.replace(b"\0", b""):  # without the zeros of UTF-16
        # Entities could name other files, or grow without bound. CVAT writes none.
        raise ExportError(f"{path}: has a document type, which CVAT does not write; export it again")
    return data


def _labelled(path: Path, image: Element, ids: Mapping[str, int]) -> LabelledMask:
    name = PurePosixPath(image.get("name", "")).stem
    where = f"{path}: image '{printable(name)}'"
    height, width = (_whole(where, image, side, 1) for side in ("height", "width"))
    if height * width > MOST_PIXELS:
        raise ExportError(f"{where}: has {height}x{width} pixels; at most {MOST_PIXELS} are read")
    found = np.full((height, width), UNLABELLED_ID, np.uint8)
    labelled = np.zeros((height, width), np.bool_)
    shapes = [shape for shape in image if shape.tag not in HINTS]
    for shape in sorted(shapes, key=lambda shape: _whole(where, shape, "z_order", -(10**6), "0")):
        label = shape.get("label", "")
        if label not in ids:
            raise ExportError(f"{where}: the label '{printable(label)}' is none of {', '.join(ids)}; rename it")
        mask = _drawn(where, shape, (height, width))
        found[mask], labelled[mask] = ids[label], True
    return LabelledMask(name, found, labelled)


def _drawn(where: str, shape: Element, size: tuple[int, int]) -> NDArray[np.bool_]:
    if shape.tag == "mask":
        return _mask(where, shape, size)
    if shape.tag != "polygon":
        raise ExportError(
            f"{where}: has a {printable(shape.tag)}; masks and polygons are read. Turn it into one of them"
        )
    try:
        points = [[float(value) for value in pair.split(",")] for pair in shape.get("points", "").split(";")]
        if any(len(point) != 2 for point in points):
            raise ValueError
    except ValueError as error:
        raise ExportError(f"{where}: has a polygon with points that are not x,y;x,y") from error
    corners = np.round(np.array(points, np.float64))
    if not np.isfinite(corners).all() or np.abs(corners).max() > 1e6:
        raise ExportError(f"{where}: has a polygon far outside the image")
    drawn = np.zeros(size, np.uint8)
    cv2.fillPoly(drawn, [corners.astype(np.int32)], 1)
    return drawn > 0


def _mask(where: str, shape: Element, size: tuple[int, int]) -> NDArray[np.bool_]:
    left, top = (_whole(where, shape, side, 0) for side in ("left", "top"))
    width, height = (_whole(where, shape, side, 1) for side in ("width", "height"))
    if top + height > size[0] or left + width > size[1]:
        raise ExportError(f"{where}: has a mask that leaves the image")
    try:
        runs = [int(run) for run in shape.get("rle", "").split(",")]
    except ValueError as error:
        raise ExportError(f"{where}: has a mask whose rle is no list of whole numbers") from error
    if min(runs) < 0 or sum(runs) != height * width:
        raise ExportError(f"{where}: has a mask with runs of {sum(runs)} pixels in a box of {width}x{height}")
    drawn = np.zeros(size, np.bool_)
    values = np.arange(len(runs)) % 2 == 1
    drawn[top : top + height, left : left + width] = np.repeat(values, runs).reshape(height, width)
    return drawn


def _runs(mask: NDArray[np.bool_]) -> dict[str, str]:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    top, left = int(rows[0]), int(columns[0])
    part = mask[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]
    flat = part.ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=False))
    runs = np.diff(edges, prepend=0, append=flat.size)
    # A run of no pixels at the end: the last edge is where the mask ends.
    shown = ", ".join(map(str, runs.tolist() if runs[-1] else runs[:-1].tolist()))
    return {"rle": shown, "left": str(left), "top": str(top), "width": str(part.shape[1]), "height": str(part.shape[0])}


def _whole(where: str, element: Element, name: str, least: int, default: str = "") -> int:
    try:
        value = int(element.get(name, default))
    except ValueError as error:
        raise ExportError(f"{where}: {name} is '{printable(element.get(name, default))}', no whole number") from error
    if value < least:
        raise ExportError(f"{where}: {name} is {value}; at least {least} is possible")
    return value


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
