"""The frames that the demo plays: those of one camera of a recording."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ros_ood_perception.camera.raw_image import PlainImage
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.recordings.bag import Bag
from ros_ood_perception.recordings.opening import open_recording
from ros_ood_perception.replay.cameras import IMAGE_TYPE, TRUTH_PREFIX
from ros_ood_perception.replay.inputs import BagInput, Input, InputFrame, SequenceInput

RATE_HZ = 10.0
"""Of images in a folder, which have no times."""


class TopicChoiceError(PerceptionError, ValueError):
    """The bag has no image topic, or several, or not the chosen one. The message lists them."""


class PlayedFrames:
    """Frames of one camera that can be iterated over any number of times. Those that cannot be read are left out.

    Attributes:
        source: the recording.
        kind: `bag`, `folder of images` or `video`.
        topic: the camera's topic; None where the recording is no bag.
        unreadable: what could not be read, each with its reason; complete at the end of an iteration.
    """

    def __init__(self, source: Input, topic: str | None) -> None:
        self.source = source
        self.kind = source.kind
        self.topic = topic
        self.unreadable: list[str] = []

    def __len__(self) -> int:
        """Number of frames that the recording announces."""
        return self.source.frame_count or 0

    def __iter__(self) -> Iterator[InputFrame]:
        problems = []
        for item in self.source.items(None, None, ()):
            if not isinstance(item, InputFrame):
                continue
            if item.message is None:
                problems.append(item.problem)
            else:
                yield item
        self.unreadable = [*self.source.damage, *problems]


def sent_image(message: Any) -> PlainImage:
    """A recorded image as the player sends it: without `is_bigendian`."""
    return PlainImage(message.header, message.height, message.width, message.encoding, message.step, message.data)


def open_frames(path: Path, topic: str | None = None) -> PlayedFrames:
    """Open a bag, a folder of images or a video.

    Args:
        topic: of a bag; None takes its only image topic.

    Raises:
        BagError, ImageSequenceError: nothing there that can be played.
        TopicChoiceError: the topic is ambiguous, or not there.
    """
    recording = open_recording(path)
    if not isinstance(recording, Bag):
        return PlayedFrames(SequenceInput(recording, RATE_HZ), None)
    chosen = _choose_topic(recording, topic)
    return PlayedFrames(BagInput(recording, [chosen]), chosen)


def _choose_topic(bag: Bag, topic: str | None) -> str:
    topics = sorted(name for name, kind in bag.types.items() if kind == IMAGE_TYPE)
    cameras = [name for name in topics if not name.startswith(TRUTH_PREFIX)]
    if topic is None and len(cameras) > 1:
        raise TopicChoiceError(f"{bag.path}: has several image topics; choose with --topic: {', '.join(cameras)}")
    if topic is None and not topics:
        listed = ", ".join(f"{name} ({kind})" for name, kind in sorted(bag.types.items())) or "nothing"
        raise TopicChoiceError(f"{bag.path}: has no topic of the type {IMAGE_TYPE}; it has {listed}")
    chosen = topic if topic is not None else (cameras or topics)[0]
    if chosen not in topics:
        raise TopicChoiceError(f"{bag.path}: has no image topic '{chosen}'; it has {', '.join(topics)}")
    return chosen
