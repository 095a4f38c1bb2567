"""Pictures of the frames that differ most: camera image, both results, and the pixels that changed."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle.model_bundle import BundleDescription
from ros_ood_perception.files.output_folder import OutputFolder
from ros_ood_perception.messages.overlay import semantic_picture
from ros_ood_perception.recordings.results import ResultFrame
from ros_ood_perception.replay.inputs import Input
from ros_ood_perception.replay.recorded_images import ImageKey, image_key, recorded_images

WORST_FOLDER = "worst"
TITLE_HEIGHT = 20
"""Height of the title above each part of a picture, pixels."""


def camera_images(source: Input, node_name: str, frames: Sequence[ResultFrame]) -> list[NDArray[np.uint8] | None]:
    """The camera image of each frame, (H, W, 3) uint8 RGB; None if it is not found, or not unique."""
    if not frames:
        return []
    found: dict[ImageKey, list[NDArray[np.uint8]]] = {image_key(frame): [] for frame in frames}
    # A frame with results has passed the check of its size before, with the node's own limit.
    for key, _, image in recorded_images(source, node_name, found, sys.maxsize):
        found[key].append(image)
    images = (found[image_key(frame)] for frame in frames)
    return [candidates[0] if len(candidates) == 1 else None for candidates in images]


def write_picture(
    output: OutputFolder,
    rank: int,
    image: NDArray[np.uint8] | None,
    here: ResultFrame,
    there: ResultFrame,
    description: BundleDescription,
) -> str:
    """Write the camera image, both results and the changed pixels side by side; returns the name of the file."""
    theirs, ours = (_drawn(frame, description) for frame in (there, here))
    changed = here.pictures["semantic_mask"] != there.pictures["semantic_mask"]
    difference = np.where(changed[..., None], np.uint8(255), (ours // 4).astype(np.uint8))
    if "anomaly_mask" in here.pictures and "anomaly_mask" in there.pictures:
        a, b = here.pictures["anomaly_mask"] > 0, there.pictures["anomaly_mask"] > 0
        difference[a & ~b], difference[b & ~a] = (255, 140, 0), (0, 140, 255)
    parts = {"other run": theirs, "this run": ours, "changed": difference}
    if image is not None and image.shape == ours.shape:
        parts = {"camera": image, **parts}
    joined = np.concatenate([_titled(title, picture) for title, picture in parts.items()], axis=1)
    name = f"{WORST_FOLDER}/{rank}_{here.stamp_ns}.png"
    output.write(name, cv2.imencode(".png", cv2.cvtColor(joined, cv2.COLOR_RGB2BGR))[1].tobytes())
    return name


def _titled(title: str, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    strip = np.zeros((TITLE_HEIGHT, picture.shape[1], 3), np.uint8)
    cv2.putText(strip, title, (4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return np.concatenate([strip, picture])


def _drawn(frame: ResultFrame, description: BundleDescription) -> NDArray[np.uint8]:
    picture = semantic_picture(frame.pictures["semantic_mask"], description.colours)
    if "anomaly_mask" in frame.pictures:
        picture[frame.pictures["anomaly_mask"] > 0] = (255, 140, 0)
    for box in frame.obstacles or ():
        corner = (round(box.x + box.width), round(box.y + box.height))
        cv2.rectangle(picture, (round(box.x), round(box.y)), corner, (255, 255, 255), 2)
    return picture
