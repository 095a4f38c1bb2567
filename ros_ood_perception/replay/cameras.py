"""Chooses the topics of a bag that are cameras, and names the cameras."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ros_ood_perception.camera.raw_image import NOT_CAMERA_COLOURS
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.messages.topics import OUTPUT_TOPICS
from ros_ood_perception.shown_text import nearest

IMAGE_TYPE = "sensor_msgs/msg/Image"
COMPRESSED_TYPE = "sensor_msgs/msg/CompressedImage"
TRUTH_PREFIX = "/ground_truth/"
"""Topics of a sample drive that hold the truth. Images are among them, but none is a camera's."""
IMAGE_TYPES = (IMAGE_TYPE, COMPRESSED_TYPE)
_IMAGE_WORDS = frozenset({"image", "image_raw", "image_rect", "image_color", "image_rect_color", "image_mono", "raw"})
_COMPRESSED_OTHERWISE = ("/theora", "/zstd")
"""Ends of the topics of image_transport whose messages are neither JPEG nor PNG, but may have an image's type."""
_NOT_CAMERAS = ("compressedDepth", *_COMPRESSED_OTHERWISE)
_GREY = re.compile(r"(mono|8UC?1$|y8)", re.IGNORECASE)
_INFRARED = re.compile(r"(infra(red)?|ir)[0-9]*(_[a-z0-9]+)*", re.IGNORECASE)
"""A level of a topic's name: RealSense's `infra1`, Azure Kinect's `ir`, `ir_mono`."""
_COLOUR_WORDS = frozenset({"color", "colour", "rgb"})
_OTHER_PICTURES = re.compile(
    r"foxglove_msgs/msg/(CompressedImage|CompressedVideo|RawImage)|\w*(ffmpeg|h26[45]|theora)\w*/msg/\w+"
    r"|\w+/msg/\w*Video\w*",
    re.ASCII | re.IGNORECASE,
)
"""Types of messages that hold a camera's pictures in a form that is not read, such as a stream of video."""


class CameraChoiceError(PerceptionError, ValueError):
    """The cameras cannot be chosen from the bag's topics. The message lists the topics."""


@dataclass(frozen=True)
class CameraTopics:
    """One camera.

    Attributes:
        name: as in the node's parameter `cameras`; "" for a single camera.
        image: topic of its images.
        info: topic of its calibration; "": it has none.
        compressed: the images are `sensor_msgs/CompressedImage`.
    """

    name: str
    image: str
    info: str
    compressed: bool


@dataclass(frozen=True)
class CameraChoice:
    """The cameras of a bag.

    Attributes:
        cameras: at least one.
        left_out: image topic to the reason why it is not taken for a camera.
    """

    cameras: tuple[CameraTopics, ...]
    left_out: dict[str, str]


def choose_cameras(
    types: Mapping[str, str],
    wanted: Sequence[str],
    where: str,
    counts: Mapping[str, int] | None = None,
    encoding_of: Callable[[str], str] = lambda topic: "",
) -> CameraChoice:
    """The cameras to replay.

    Args:
        types: topic to message type, of the bag.
        wanted: each TOPIC or NAME=TOPIC. Empty: every image topic that is neither a result of perception nor the truth
            of a sample drive, nor has images of depth or infrared (see `_no_colour`). Where a camera has a raw and a
            compressed topic, the raw one is taken.
        where: the bag, for errors.
        counts: topic to number of messages; None: unknown. Of a camera's two topics, one without messages is ignored.
        encoding_of: gives the encoding of the first image of a topic, such as `16UC1`; empty: unknown.

    Raises:
        CameraChoiceError: there is no camera, or a wanted topic does not exist.

    >>> image, compressed = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
    >>> types = {"/front/image_raw": image, "/front/image_raw/compressed": compressed, "/rear/image_raw": image}
    >>> [(camera.name, camera.image) for camera in choose_cameras(types, [], "drive.mcap").cameras]
    [('front', '/front/image_raw'), ('rear', '/rear/image_raw')]
    """
    images = sorted(topic for topic, kind in types.items() if kind in IMAGE_TYPES)
    listed = ", ".join(f"{topic} ({kind})" for topic, kind in sorted(types.items())) or "no topic at all"
    chosen: list[tuple[str | None, str]] = []
    left_out: dict[str, str] = {}
    for text in wanted:
        name, separator, topic = text.rpartition("=")
        if topic not in images:
            there = f"its image topics are {', '.join(images)}" if images else f"it has {listed}"
            raise CameraChoiceError(f"{where}: has no image topic '{topic}'{nearest(topic, images)}; {there}")
        chosen.append((name if separator else None, topic))
    if not wanted:
        recorded = {topic for topic in images if counts is None or counts.get(topic, 0)}
        candidates = [topic for topic in images if _is_camera(topic, set(images), recorded)]
        left_out = _no_colour({topic: encoding_of(topic) for topic in candidates})
        chosen = [(None, topic) for topic in candidates if topic not in left_out]
    if not chosen:
        raise CameraChoiceError(f"{where}: {_why_none(types, left_out, listed)}")
    if len({topic for _, topic in chosen}) < len(chosen):
        raise CameraChoiceError(f"{where}: one topic is chosen twice: {', '.join(wanted)}")
    if len(chosen) == 1 and chosen[0][0] is None:
        names = [""]
    else:
        names = _names([(name or "") or _name(topic) for name, topic in chosen])
    cameras = tuple(
        CameraTopics(name, topic, info_topic(topic), types[topic] == COMPRESSED_TYPE)
        for name, (_, topic) in zip(names, chosen, strict=True)
    )
    return CameraChoice(cameras, left_out)


def _why_none(types: Mapping[str, str], left_out: Mapping[str, str], listed: str) -> str:
    if left_out:
        reasons = "; ".join(f"{topic}: {reason}" for topic, reason in left_out.items())
        return f"has no topic of a camera that sees colours ({reasons}); --camera TOPIC takes one all the same"
    others = "".join(f"; {sentence}" for sentence in unread_cameras(types))
    return f"has no camera's topic of the type {IMAGE_TYPE} or {COMPRESSED_TYPE}; it has {listed}{others}"


def unread_cameras(types: Mapping[str, str]) -> list[str]:
    """A sentence for each topic that holds a camera's pictures, but neither raw nor as JPEG or PNG.

    A topic of image_transport beside its raw or compressed one (`/front/image_raw/ffmpeg`) is left out: the camera is
    there.

    >>> unread_cameras({"/rear/video": "foxglove_msgs/msg/CompressedVideo"})[0].partition(":")[0]
    '/rear/video'
    """
    images = {topic for topic, kind in types.items() if kind in IMAGE_TYPES and not topic.endswith(_NOT_CAMERAS)}
    found = []
    for topic, kind in sorted(types.items()):
        of_transport = kind in IMAGE_TYPES and topic.endswith(_COMPRESSED_OTHERWISE)
        raw = topic.rpartition("/")[0]
        if (of_transport or _OTHER_PICTURES.fullmatch(kind)) and images.isdisjoint((raw, f"{raw}/compressed")):
            found.append(
                f"{topic}: a camera's pictures as {kind} are not read, so this camera is missing; record it as "
                f"{IMAGE_TYPE} or {COMPRESSED_TYPE} (JPEG), or republish it from the bag (image_transport republish)"
            )
    return found


def info_topic(image_topic: str) -> str:
    """The camera_info topic beside an image topic, as in image_transport."""
    base = image_topic.removesuffix("/compressed")
    return f"{base.rpartition('/')[0]}/camera_info"


def _is_camera(topic: str, images: set[str], recorded: set[str]) -> bool:
    if (
        topic.startswith(TRUTH_PREFIX)
        or topic.endswith(_NOT_CAMERAS)
        or any(topic.endswith(f"/{output}") for output in OUTPUT_TOPICS.values())
    ):
        return False
    raw = topic.removesuffix("/compressed")
    both = (raw, f"{raw}/compressed")
    if not images.issuperset(both):
        return True
    return topic == both[both[0] not in recorded and both[1] in recorded]


def _no_colour(encodings: Mapping[str, str]) -> dict[str, str]:
    """The topics of a depth camera that are not its colour image, with the reason.

    The encoding decides. Grey images may be those of a camera, or infrared: they are infrared if a level of the topic
    says so. They are left out too if the same device has a colour image, which is below `color` or `rgb` beside them.

    Args:
        encodings: topic to the encoding of its first image; empty: unknown.
    """
    grey = {topic for topic, encoding in encodings.items() if _GREY.match(encoding)}
    measured = {topic for topic, encoding in encodings.items() if encoding.startswith(NOT_CAMERA_COLOURS)}
    devices = {place for topic in encodings.keys() - grey - measured for place in _devices(topic)}
    found: dict[str, str] = {}
    for topic, encoding in encodings.items():
        levels = _levels(topic)
        if topic in measured:
            found[topic] = f"its images are {encoding}, a measurement such as depth"
        elif topic in grey and any(_INFRARED.fullmatch(level) for level in levels):
            found[topic] = f"its images are {encoding}, grey, and its name says infrared"
        elif topic in grey and {tuple(levels[:depth]) for depth in range(len(levels))} & devices:
            found[topic] = f"its images are {encoding}, grey, and the same device has a colour image"
    return found


def _devices(topic: str) -> Iterable[tuple[str, ...]]:
    """The levels above `color` or `rgb`: `/oak/rgb/image_raw` is of `/oak`. A device without a level has none."""
    levels = _levels(topic)
    return [tuple(levels[:n]) for n, level in enumerate(levels) if level.lower() in _COLOUR_WORDS and n > 0]


def _levels(topic: str) -> list[str]:
    return [level for level in topic.split("/") if level]


def _name(topic: str) -> str:
    """A camera's name from its topic: `/sensing/front_left/image_raw/compressed` -> `sensing_front_left`."""
    levels = [level for level in topic.split("/") if level]
    while len(levels) > 1 and (levels[-1] in _IMAGE_WORDS or levels[-1] == "compressed"):
        levels.pop()
    name = "_".join("".join(c if c.isascii() and c.isalnum() else "_" for c in level) for level in levels)
    name = "_".join(part for part in name.split("_") if part)
    return name if name[:1].isalpha() else f"camera_{name}".rstrip("_")


def _names(names: Sequence[str]) -> list[str]:
    """Unique names: a number is added to the second of equal ones."""
    found: dict[str, None] = {}
    last: dict[str, int] = {}
    for name in names:
        unique, number = name, last.get(name, 1)
        while unique in found:
            number += 1
            unique = f"{name}_{number}"
        last[name] = number
        found[unique] = None
    return list(found)
