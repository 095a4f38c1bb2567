"""Frames to play: a folder of images, or the image topic of a rosbag2 bag."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

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

    A file that cannot be decoded is left out, each time in the same way, and named in `unreadable`.
    """

    kind = "folder of images"

    def __init__(self, folder: Path) -> None:
        files = self._images(folder) or self._images(folder / "images")
        if not files:
            raise FrameSourceError(f"{folder}: no images in it ({', '.join(IMAGE_ENDINGS)}) and no images/ folder")
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


def _decoded(file: Path) -> NDArray[np.uint8] | None:
    try:
        return cv2.imread(str(file), cv2.IMREAD_COLOR)
    except cv2.error:
        # OpenCV refuses to decode more than 2^30 pixels.
        return None


class BagTopic:
    """One image topic of a rosbag2 bag (MCAP or SQLite3), in recorded order."""

    kind = "bag"

    def __init__(self, path: Path, topic: str | None) -> None:
        # Imported here: a folder of images needs no bag reader.
        from rosbags.highlevel import AnyReaderError

        self.path = path
        self.unreadable: list[str] = []
        try:
            with self._reader() as reader:
                connections = list(reader.connections)
        except (AnyReaderError, OSError, ValueError, KeyError) as error:
            raise FrameSourceError(f"{path}: cannot be read as a bag ({error})") from error
        topics = sorted({c.topic for c in connections if c.msgtype == IMAGE_TYPE})
        if topic is None and len(topics) > 1:
            raise FrameSourceError(f"{path}: has several image topics; choose with --topic: {', '.join(topics)}")
        if topic is None and not topics:
            listed = ", ".join(sorted({f"{c.topic} ({c.msgtype})" for c in connections})) or "nothing"
            raise FrameSourceError(f"{path}: has no topic of the type {IMAGE_TYPE}; it has {listed}")
        self.topic = topic if topic is not None else topics[0]
        if self.topic not in topics:
            raise FrameSourceError(f"{path}: has no image topic '{self.topic}'; it has {', '.join(topics)}")
        self._count = sum(c.msgcount for c in connections if c.topic == self.topic and c.msgtype == IMAGE_TYPE)
        if not self._count:
            raise FrameSourceError(f"{path}: the topic '{self.topic}' has no messages")

    def _reader(self) -> Any:
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore

        # Bags of Humble and earlier do not hold the definitions of their messages.
        return AnyReader([self.path], default_typestore=get_typestore(Stores.LATEST))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[SourceFrame]:
        with self._reader() as reader:
            connections = [c for c in reader.connections if c.topic == self.topic and c.msgtype == IMAGE_TYPE]
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
