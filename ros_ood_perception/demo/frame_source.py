"""Frames to play: a folder of images, or the image topic of a rosbag2 bag."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
IMAGE_TYPE = "sensor_msgs/msg/Image"


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

    A file that cannot be decoded is left out and named in `unreadable`.
    """

    kind = "folder of images"

    def __init__(self, folder: Path) -> None:
        self.files = self._images(folder) or self._images(folder / "images")
        if not self.files:
            raise FrameSourceError(f"{folder}: no images in it ({', '.join(IMAGE_ENDINGS)}) and no images/ folder")
        self.unreadable = [str(file) for file in self.files if not cv2.haveImageReader(str(file))]
        self.files = [file for file in self.files if str(file) not in set(self.unreadable)]
        if not self.files:
            raise FrameSourceError(f"{folder}: none of its {len(self.unreadable)} images can be decoded")

    @staticmethod
    def _images(folder: Path) -> list[Path]:
        if not folder.is_dir():
            return []
        return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_ENDINGS and p.is_file())

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[SourceFrame]:
        for file in self.files:
            image = cv2.imread(str(file), cv2.IMREAD_COLOR)
            if image is None:
                raise FrameSourceError(f"{file}: has an image's header, but cannot be decoded; remove or mend it")
            yield SourceFrame(
                name=file.name,
                time_ns=None,
                stamp_ns=None,
                frame_id="camera",
                height=image.shape[0],
                width=image.shape[1],
                encoding="bgr8",
                step=image.shape[1] * 3,
                data=image.reshape(-1),
            )


class BagTopic:
    """One image topic of a rosbag2 bag (MCAP or SQLite3), in recorded order."""

    kind = "bag"

    def __init__(self, path: Path, topic: str | None) -> None:
        # Imported here: a folder of images needs no bag reader.
        from rosbags.highlevel import AnyReader, AnyReaderError

        self._reader_type = AnyReader
        self.path = path
        self.unreadable: list[str] = []
        try:
            with AnyReader([path]) as reader:
                connections = {c.topic: c for c in reader.connections if c.msgtype == IMAGE_TYPE}
                found = {c.topic: c.msgtype for c in reader.connections}
        except (AnyReaderError, OSError, ValueError, KeyError) as error:
            raise FrameSourceError(f"{path}: cannot be read as a bag ({error})") from error
        if topic is None and len(connections) > 1:
            raise FrameSourceError(f"{path}: has several image topics; choose with --topic: {', '.join(connections)}")
        if topic is None and not connections:
            listed = ", ".join(f"{name} ({kind})" for name, kind in sorted(found.items())) or "nothing"
            raise FrameSourceError(f"{path}: has no topic of the type {IMAGE_TYPE}; it has {listed}")
        self.topic = topic if topic is not None else next(iter(connections))
        if self.topic not in connections:
            raise FrameSourceError(f"{path}: has no image topic '{self.topic}'; it has {', '.join(connections)}")
        self._count = connections[self.topic].msgcount
        if not self._count:
            raise FrameSourceError(f"{path}: the topic '{self.topic}' has no messages")

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[SourceFrame]:
        with self._reader_type([self.path]) as reader:
            connections = [c for c in reader.connections if c.topic == self.topic]
            for index, (connection, time_ns, raw) in enumerate(reader.messages(connections)):
                message = reader.deserialize(raw, connection.msgtype)
                stamp = message.header.stamp
                yield SourceFrame(
                    name=f"{self.topic} #{index}",
                    time_ns=time_ns,
                    stamp_ns=stamp.sec * 1_000_000_000 + stamp.nanosec,
                    frame_id=message.header.frame_id,
                    height=message.height,
                    width=message.width,
                    encoding=message.encoding,
                    step=message.step,
                    data=np.asarray(message.data, np.uint8),
                )


def open_frames(path: Path, topic: str | None = None) -> FrameSource:
    """Open a folder of images or a bag.

    Args:
        path: folder with images, folder with a bag's `metadata.yaml`, or a single `.mcap` or `.db3` file.
        topic: of the bag; None takes its only image topic.

    Raises:
        FrameSourceError: nothing there that can be played.
    """
    if not path.exists():
        raise FrameSourceError(f"{path}: no such file or folder; give a folder of images or a rosbag2 bag")
    if path.is_file() or (path / "metadata.yaml").is_file():
        return BagTopic(path, topic)
    return ImageFolder(path)
