"""The frames that the demo plays: those of one camera of a recording."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.camera.limits import DEFAULT_MAX_PIXELS
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.recordings.bag import Bag
from ros_ood_perception.recordings.image_sequence import ImageSequence
from ros_ood_perception.recordings.opening import open_recording
from ros_ood_perception.replay.camera_replay import colour_image
from ros_ood_perception.replay.cameras import (
    COMPRESSED_TYPE,
    IMAGE_TYPE,
    IMAGE_TYPES,
    CameraChoiceError,
    choose_cameras,
)
from ros_ood_perception.replay.inputs import BagInput, Input, InputFrame, SequenceInput, bag_frame, first_encoding

RATE_HZ = 10.0
"""Of images in a folder, which have no times."""


class TopicChoiceError(PerceptionError, ValueError):
    """The bag has no image topic, or several, or not the chosen one. The message lists them."""


class PlayedFrames:
    """Frames of one camera that can be iterated over any number of times. Those that cannot be read are left out.

    Attributes:
        source: the recording, for calibration and poses.
        kind: `bag`, `folder of images` or `video`.
        topic: the camera's topic; None where the recording is no bag.
        compressed: the frames are `sensor_msgs/CompressedImage`.
        other_cameras: topics of the bag's other cameras.
        unreadable: what could not be read, each with its reason; complete at the end of an iteration.
    """

    def __init__(
        self, source: Input, recording: Bag | ImageSequence, topic: str | None, other_cameras: Sequence[str] = ()
    ) -> None:
        self.source = source
        self._recording = recording
        self.kind = source.kind
        self.topic = topic
        self.compressed = source.cameras[0].compressed
        self.other_cameras = tuple(other_cameras)
        self.unreadable: list[str] = []

    def __len__(self) -> int:
        """Number of frames that the recording announces."""
        return self.source.frame_count or 0

    def __iter__(self) -> Iterator[InputFrame]:
        if isinstance(self._recording, Bag):
            yield from self._of_bag(self._recording)
            return
        for item in self.source.items(None, None, ()):
            if isinstance(item, InputFrame):
                yield item
        self.unreadable = list(self._recording.unreadable)

    def _of_bag(self, bag: Bag) -> Iterator[InputFrame]:
        """Only the images are read: damage of other topics costs no frame."""
        problems = []
        topic = self.source.cameras[0].image
        for number, raw in enumerate(bag.messages([topic])):
            frame = bag_frame(bag, raw, 0, number)
            if frame.message is None:
                problems.append(frame.problem)
            else:
                yield frame
        self.unreadable = [*bag.damage, *problems]

    def colour(self, message: Any, order: str) -> NDArray[np.uint8]:
        """A frame's image as the node sees it, (H, W, 3) uint8.

        Args:
            order: `rgb` or `bgr`.

        Raises:
            MalformedImageError: the node would drop the frame.
        """
        return colour_image(message, self.compressed, order, DEFAULT_MAX_PIXELS)


def open_frames(path: Path, topic: str | None = None) -> PlayedFrames:
    """Open a bag, a folder of images or a video.

    Args:
        topic: of a bag; None takes its first camera.

    Raises:
        BagError, ImageSequenceError: nothing there that can be played.
        TopicChoiceError: the topic is ambiguous, or not there.
    """
    recording = open_recording(path)
    if not isinstance(recording, Bag):
        return PlayedFrames(SequenceInput(recording, RATE_HZ), recording, None)
    chosen, others = _choose_topic(recording, topic)
    # Opened twice: what `BagInput` finds in other topics is not damage of the frames.
    return PlayedFrames(BagInput(Bag(path), [chosen]), recording, chosen, others)


def _choose_topic(bag: Bag, topic: str | None) -> tuple[str, list[str]]:
    """The topic to play, and those of the bag's other cameras."""
    topics = sorted(name for name, kind in bag.types.items() if kind in IMAGE_TYPES)
    try:
        choice = choose_cameras(bag.types, (), str(bag.path), bag.counts, partial(first_encoding, bag))
        cameras = [camera.image for camera in choice.cameras]
    except CameraChoiceError:
        # A bag of results alone: each image topic can be played, but none is the camera's.
        cameras = []
    if topic is None and not cameras and len(topics) > 1:
        raise TopicChoiceError(f"{bag.path}: has several image topics; choose with --topic: {', '.join(topics)}")
    if topic is None and not topics:
        listed = ", ".join(f"{name} ({kind})" for name, kind in sorted(bag.types.items())) or "nothing"
        raise TopicChoiceError(
            f"{bag.path}: has no topic of the type {IMAGE_TYPE} or {COMPRESSED_TYPE}; it has {listed}"
        )
    chosen = topic if topic is not None else (cameras or topics)[0]
    if chosen not in topics:
        raise TopicChoiceError(f"{bag.path}: has no image topic '{chosen}'; it has {', '.join(topics)}")
    return chosen, [camera for camera in cameras if camera != chosen]
