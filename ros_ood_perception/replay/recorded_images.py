"""Finds the camera images of frames with results, in the recording that was replayed."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.camera.raw_image import MalformedImageError
from ros_ood_perception.messages.stamps import stamp_ns
from ros_ood_perception.messages.topics import camera_topic
from ros_ood_perception.recordings.results import ResultFrame
from ros_ood_perception.replay.camera_replay import colour_image
from ros_ood_perception.replay.inputs import Input, InputFrame

ImageKey = tuple[str, int, int]
"""Prefix of the camera's outputs, recording time and stamp in nanoseconds."""


def image_key(frame: ResultFrame) -> ImageKey:
    """The key of the image that a frame's results were made of."""
    return (frame.camera, frame.time_ns, frame.stamp_ns)


def output_prefix(camera: str, node_name: str) -> str:
    """The prefix of a camera's output topics, up to `output/`.

    >>> output_prefix("front", "/perception_node")
    '/perception_node/front/'
    """
    return camera_topic(camera, "").replace("~", node_name, 1)


def recorded_images(
    source: Input, node_name: str, wanted: Collection[ImageKey], max_pixels: int
) -> Iterator[tuple[ImageKey, str, NDArray[np.uint8]]]:
    """The wanted images, one at a time in the order of the recording.

    An image that cannot be decoded is left out. If two images of a camera share time and stamp, both come.

    Args:
        node_name: prefix of the output topics of the results.
        max_pixels: larger images are left out, pixels.

    Yields:
        Key, name of the frame, and image (H, W, 3) uint8 RGB.
    """
    if not wanted:
        return
    prefixes = [output_prefix(camera.name, node_name) for camera in source.cameras]
    times = [time_ns for _, time_ns, _ in wanted]
    for item in source.items(min(times), max(times) + 1, ()):
        if not isinstance(item, InputFrame) or item.message is None:
            continue
        key = (prefixes[item.camera], item.time_ns, stamp_ns(item.message.header.stamp))
        if key not in wanted:
            continue
        try:
            image = colour_image(item.message, source.cameras[item.camera].compressed, "rgb", max_pixels)
        except MalformedImageError:
            continue
        yield key, item.name, image
