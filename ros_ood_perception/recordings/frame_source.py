"""Frames to play: a folder of images, a video, or one image topic of a bag."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.camera.decoder_process import DecoderProcess
from ros_ood_perception.camera.image_file import (
    MAX_FILE_PIXELS,
    ImageFileError,
    check_image_file,
    read_image_file,
)
from ros_ood_perception.camera.raw_image import MalformedImageError
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.messages.stamps import stamp_ns
from ros_ood_perception.recordings.bag import STORAGE_ENDINGS, Bag, BagError
from ros_ood_perception.recordings.bag_files import holds_bag

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
VIDEO_ENDINGS = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg")
IMAGE_TYPE = "sensor_msgs/msg/Image"
MAX_FRAMES = 1 << 31
MAX_VIDEO_MS = 1e9
"""Eleven days."""
TRUTH_PREFIX = "/ground_truth/"
"""Topics of a sample drive that hold the truth: images among them, and none is a camera's."""


class FrameSourceError(PerceptionError, ValueError):
    """Nothing can be played from that path. The message says why, and what to give instead."""


@dataclass(frozen=True)
class SourceFrame:
    """One frame as a sensor_msgs/Image declares it.

    Attributes:
        name: file name or place in the bag, for people.
        time_ns: when it was recorded, nanoseconds; None for a file.
        stamp_ns: the header's stamp; None: the moment of publishing.
        data: (height * step,) uint8, or whatever the bag holds.
    """

    name: str
    time_ns: int | None
    stamp_ns: int | None
    frame_id: str
    height: int
    width: int
    encoding: str
    step: int
    data: NDArray[np.uint8] = field(repr=False)


class FrameSource(Protocol):
    """A known number of frames, readable any number of times.

    Attributes:
        unreadable: what could not be read, each with its reason; complete when the frames have been read.
        max_image_pixels: height times width of the largest image of a file that is decoded; may be set before the
            first. Messages of a bag are held against a limit where they are decoded.
    """

    kind: str
    unreadable: list[str]
    max_image_pixels: int

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[SourceFrame]: ...


class ImageFolder:
    """The images of a folder in the order of their names; `images/` below it where the folder itself has none.

    A file that cannot be decoded is left out, each time in the same way, and named in `unreadable`.
    """

    kind = "folder of images"

    def __init__(self, folder: Path) -> None:
        files = self._images(folder) or self._images(folder / "images")
        if not files:
            raise FrameSourceError(
                f"{folder}: no images in it ({', '.join(IMAGE_ENDINGS)}), no images/ folder, and no bag "
                f"(metadata.yaml, {', '.join(STORAGE_ENDINGS)})"
            )
        self.max_image_pixels = MAX_FILE_PIXELS
        self.unreadable, self.files = [], []
        for file in files:
            try:
                check_image_file(file)
                self.files.append(file)
            except ImageFileError as error:
                self.unreadable.append(str(error))
        if not self.files:
            raise FrameSourceError(f"{folder}: none of its {len(files)} images can be decoded, as {self.unreadable[0]}")

    @staticmethod
    def _images(folder: Path) -> list[Path]:
        if not folder.is_dir():
            return []
        # What is there and no plain file is named as unreadable; a folder may be called like an image.
        return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_ENDINGS and not p.is_dir())

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[SourceFrame]:
        for file in self.files:
            try:
                image = read_image_file(file, self.max_image_pixels)
            except ImageFileError as error:
                # It has an image's first bytes, but no image follows.
                if str(error) not in self.unreadable:
                    self.unreadable.append(str(error))
                continue
            yield _frame(file.name, None, image)


class Video:
    """The frames of a video file in their order, each at its own time from the first one's.

    They are decoded in a process that may die; what it died of is named in `unreadable`, and ends the video.
    """

    kind = "video"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.max_image_pixels = MAX_FILE_PIXELS
        self.unreadable: list[str] = []
        remedy = "convert it (ffmpeg -i FILE out.mp4)"
        with DecoderProcess() as decoder:
            try:
                declared = decoder.open_video(path, self.max_image_pixels)
                first = decoder.video_frame()
            except MalformedImageError as error:
                raise FrameSourceError(f"{path}: cannot be decoded as a video ({error}); {remedy}") from error
        if first is None:
            raise FrameSourceError(f"{path}: cannot be decoded as a video; {remedy}")
        self._count = declared if 0 <= declared <= MAX_FRAMES else 0

    def __len__(self) -> int:
        """As the file declares it; a damaged one may hold fewer."""
        return self._count

    def __iter__(self) -> Iterator[SourceFrame]:
        self.unreadable = []
        index, last_ns, untimed, problem = 0, -1, 0, ""
        # One for each pass: several may go on at a time.
        with DecoderProcess() as decoder:
            try:
                decoder.open_video(self.path, self.max_image_pixels)
                while (frame := decoder.video_frame()) is not None:
                    time_ns = _video_time_ns(frame[0])
                    if time_ns is not None and time_ns > last_ns:
                        last_ns = time_ns
                        yield _frame(f"{self.path.name} #{index}", time_ns, frame[1])
                    else:
                        untimed += 1
                    index += 1
            except MalformedImageError as error:
                problem = f" ({error})"
        if untimed:
            self.unreadable.append(
                f"{self.path}: {untimed} of {index} frames, which have no time after that of the frame before; "
                "ffmpeg -i FILE -vf setpts=N/(30*TB) out.mp4 makes a video that has"
            )
        if index < self._count or problem:
            missing = f"{max(0, self._count - index)} of {self._count} frames, from #{index} on"
            self.unreadable.append(f"{self.path}: {missing}{problem}")


def _video_time_ns(milliseconds: float) -> int | None:
    """None for what is no time: a file may declare any scale, zero among them."""
    return round(milliseconds * 1e6) if 0 <= milliseconds <= MAX_VIDEO_MS else None


def _frame(name: str, time_ns: int | None, image: NDArray[np.uint8]) -> SourceFrame:
    return SourceFrame(
        name=name,
        time_ns=time_ns,
        stamp_ns=None,
        frame_id="camera",
        height=image.shape[0],
        width=image.shape[1],
        encoding="bgr8",
        step=image.shape[1] * 3,
        data=np.ascontiguousarray(image).reshape(-1),
    )


class BagTopic:
    """One image topic of a bag, in recorded order."""

    kind = "bag"

    def __init__(self, path: Path, topic: str | None) -> None:
        self.max_image_pixels = MAX_FILE_PIXELS
        self.unreadable: list[str] = []
        try:
            self._bag = Bag(path)
        except BagError as error:
            raise FrameSourceError(str(error)) from error
        types = self._bag.types
        topics = sorted(name for name, kind in types.items() if kind == IMAGE_TYPE)
        cameras = [name for name in topics if not name.startswith(TRUTH_PREFIX)]
        if topic is None and len(cameras) > 1:
            raise FrameSourceError(f"{path}: has several image topics; choose with --topic: {', '.join(cameras)}")
        if topic is None and not topics:
            listed = ", ".join(f"{name} ({kind})" for name, kind in sorted(types.items())) or "nothing"
            raise FrameSourceError(f"{path}: has no topic of the type {IMAGE_TYPE}; it has {listed}")
        self.topic = topic if topic is not None else (cameras or topics)[0]
        if self.topic not in topics:
            raise FrameSourceError(f"{path}: has no image topic '{self.topic}'; it has {', '.join(topics)}")
        self._count = self._bag.counts.get(self.topic, 0)
        if not self._count:
            raise FrameSourceError(f"{path}: the topic '{self.topic}' has no messages")

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[SourceFrame]:
        broken = []
        for index, raw in enumerate(self._bag.messages([self.topic])):
            try:
                message = self._bag.deserialize(raw)
            except BagError as error:
                broken.append(str(error))
                continue
            yield SourceFrame(
                name=f"{self.topic} #{index}",
                time_ns=raw.time_ns,
                stamp_ns=stamp_ns(message.header.stamp),
                frame_id=message.header.frame_id,
                height=message.height,
                width=message.width,
                encoding=message.encoding,
                step=message.step,
                data=np.asarray(message.data, np.uint8),
            )
        self.unreadable = [*self._bag.damage, *broken]


def open_frames(path: Path, topic: str | None = None) -> FrameSource:
    """Open a folder of images, a video or a bag.

    Args:
        path: folder with images, folder of a bag, a single `.mcap`, `.db3` or `.bag` file, or a video.
        topic: of the bag; None takes its only image topic.

    Raises:
        FrameSourceError: nothing there that can be played.
    """
    if not path.exists():
        raise FrameSourceError(f"{path}: no such file or folder; give a bag, a folder of images, or a video")
    if path.suffix.lower() in VIDEO_ENDINGS and path.is_file():
        return Video(path)
    return BagTopic(path, topic) if is_bag(path) else ImageFolder(path)


def is_bag(path: Path) -> bool:
    """A file, or a folder that holds a bag's files."""
    return path.is_file() or (path.is_dir() and holds_bag(path))
