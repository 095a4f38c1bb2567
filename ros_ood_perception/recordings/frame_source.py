"""Frames to play: a folder of images, a video, or one image topic of a bag."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.recordings.bag import STORAGE_ENDINGS, Bag, BagError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
VIDEO_ENDINGS = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg")
IMAGE_TYPE = "sensor_msgs/msg/Image"
TRUTH_PREFIX = "/ground_truth/"
"""Topics of a sample drive that hold the truth: images among them, and none is a camera's."""


class FrameSourceError(ValueError):
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
    """A known number of frames, readable any number of times."""

    kind: str
    unreadable: list[str]

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
        self.unreadable = [str(file) for file in files if not cv2.haveImageReader(str(file))]
        self.files = [file for file in files if str(file) not in set(self.unreadable)]
        if not self.files:
            raise FrameSourceError(f"{folder}: none of its {len(files)} images can be decoded")

    @staticmethod
    def _images(folder: Path) -> list[Path]:
        if not folder.is_dir():
            return []
        return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_ENDINGS and p.is_file())

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[SourceFrame]:
        for file in self.files:
            image = _decoded(file)
            if image is None:
                # It has an image's first bytes, but no image follows.
                if str(file) not in self.unreadable:
                    self.unreadable.append(str(file))
                continue
            yield _frame(file.name, None, image)


class Video:
    """The frames of a video file in their order, each at its own time from the first one's."""

    kind = "video"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unreadable: list[str] = []
        capture = cv2.VideoCapture(str(path))
        self._count = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        opened = capture.isOpened() and capture.grab()
        capture.release()
        if not opened:
            raise FrameSourceError(f"{path}: cannot be decoded as a video; convert it (ffmpeg -i FILE out.mp4)")

    def __len__(self) -> int:
        """As the file declares it; a damaged one may hold fewer."""
        return self._count

    def __iter__(self) -> Iterator[SourceFrame]:
        self.unreadable = []
        capture = cv2.VideoCapture(str(self.path))
        # The pixels as the camera gave them, as for every other source.
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        index = 0
        try:
            while True:
                read, image = capture.read()
                if not read:
                    break
                time_ns = round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
                yield _frame(f"{self.path.name} #{index}", time_ns, image)
                index += 1
        finally:
            capture.release()
        if index < self._count:
            self.unreadable.append(f"{self.path}: {self._count - index} of {self._count} frames, from #{index} on")


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


def _decoded(file: Path) -> NDArray[np.uint8] | None:
    try:
        return cv2.imread(str(file), cv2.IMREAD_COLOR)
    except cv2.error:
        # OpenCV refuses to decode more than 2^30 pixels.
        return None


class BagTopic:
    """One image topic of a bag, in recorded order."""

    kind = "bag"

    def __init__(self, path: Path, topic: str | None) -> None:
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
        counts = self._bag.counts
        # A damaged bag does not say how many there are: they are counted.
        self._count = counts[self.topic] if self.topic in counts else sum(1 for _ in self._bag.messages([self.topic]))
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
            stamp = message.header.stamp
            yield SourceFrame(
                name=f"{self.topic} #{index}",
                time_ns=raw.time_ns,
                stamp_ns=stamp.sec * 1_000_000_000 + stamp.nanosec,
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
    if path.is_file() or (path / "metadata.yaml").is_file():
        return True
    return path.is_dir() and any(file.suffix in STORAGE_ENDINGS for file in path.iterdir())
