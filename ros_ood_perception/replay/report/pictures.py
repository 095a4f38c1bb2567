"""The pictures of a report: encoded for the page, with what was found drawn or as outlines."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.messages.overlay import ANOMALY_COLOUR, overlay_picture, semantic_picture
from ros_ood_perception.recordings.results import DetectedBox

JPEG_QUALITY = 80
LEAST_OUTLINE_PX = 6.0
"""Outlines of a smaller area, in pixels of the page's picture, are not drawn."""

Picture = NDArray[np.uint8]
Colours = Sequence[tuple[int, int, int]]


def narrowed(image: NDArray[Any], width: int, interpolation: int = cv2.INTER_AREA) -> NDArray[Any]:
    """An image (H, W) or (H, W, 3) at most `width` pixels wide, of the same type."""
    if image.shape[1] <= width:
        return image
    size = (width, max(round(image.shape[0] * width / image.shape[1]), 1))
    resized: NDArray[Any] = cv2.resize(image, size, interpolation=interpolation)
    return resized


def encoded(rgb: Picture, ending: str) -> str:
    """(H, W, 3) uint8 RGB as Base64 of a JPEG or PNG; ending `.jpg` or `.png`."""
    parameters = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_PNG_COMPRESSION, 9]
    data = cv2.imencode(ending, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), parameters)[1]
    return base64.b64encode(data.tobytes()).decode()


def data_uri(rgb: Picture, ending: str = ".jpg") -> str:
    """(H, W, 3) uint8 RGB as a data URI; ending `.jpg` or `.png`."""
    return f"data:image/{'png' if ending == '.png' else 'jpeg'};base64,{encoded(rgb, ending)}"


def outlines(mask: NDArray[np.uint8], width: int) -> list[list[int]]:
    """Outlines of the pixels of a mask (H, W) that are not 0: each x, y, x, y, ... in a picture of this width."""
    smaller = narrowed(mask, width, cv2.INTER_NEAREST)
    found, _ = cv2.findContours((smaller > 0).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return [
        cv2.approxPolyDP(outline, 0.8, True).ravel().tolist()
        for outline in found
        if cv2.contourArea(outline) >= LEAST_OUTLINE_PX
    ]


def found_picture(
    image: Picture | None,
    ids: NDArray[np.uint8],
    mask: NDArray[np.uint8] | None,
    boxes: Sequence[DetectedBox],
    colours: Colours,
) -> Picture:
    """Classes, anomalies in orange and obstacles as white boxes, over the frame where it is given.

    Args:
        image: (H, W, 3) uint8 RGB, of the masks' size.
        ids, mask: (H, W) uint8.
    """
    above = np.zeros(ids.shape, np.bool_) if mask is None else mask > 0
    if image is not None and image.shape[:2] == ids.shape:
        picture = overlay_picture(image, ids, above, colours)
    else:
        picture = semantic_picture(ids, colours)
        picture[above] = ANOMALY_COLOUR
    draw_boxes(picture, boxes)
    return picture


def draw_boxes(picture: Picture, boxes: Sequence[DetectedBox]) -> None:
    """Draw obstacles into a picture of the frame's size, as white boxes with a dark edge."""
    width = max(picture.shape[1] // 400, 1)
    for box in boxes:
        corners = (round(box.x), round(box.y)), (round(box.x + box.width), round(box.y + box.height))
        cv2.rectangle(picture, *corners, (0, 0, 0), 3 * width)
        cv2.rectangle(picture, *corners, (255, 255, 255), width)
