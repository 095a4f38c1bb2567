"""Reads sequences of images: folders and videos."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.camera.decoder_process import DecoderProcess
from ros_ood_perception.camera.image_file import (
    IMAGE_ENDINGS,
    MAX_FILE_PIXELS,
    ImageFileError,
    check_image_file,
    images_in,
    read_image_file,
)
from ros_ood_perception.camera.raw_image import MalformedImageError
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.natural_order import natural_key
from ros_ood_perception.recordings.bag_files import STORAGE_ENDINGS, holds_bag
from ros_ood_perception.recordings.bag_parts import listed

VIDEO_ENDINGS = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg")
LABEL_FOLDERS = ("annotations", "instances", "labels", "labels_masks", "masks")
"""Folders of a data set that hold pictures, but no frames."""
MAX_FRAMES = 1 << 31
MAX_VIDEO_MS = 1e9
"""Largest time in a video, milliseconds: eleven days."""


class ImageSequenceError(PerceptionError, ValueError):
    """The path holds no images that can be read. The message says why, and what to give instead."""


@dataclass(frozen=True)
class SequenceFrame:
    """One frame with the fields of a sensor_msgs/Image.

    Attributes:
        name: name of the file, or file and number of a video's frame.
        time_ns: since the first frame of a video, nanoseconds; None in a folder.
        data: (height * step,) uint8.
    """

    name: str
    time_ns: int | None
    frame_id: str
    height: int
    width: int
    encoding: str
    step: int
    data: NDArray[np.uint8] = field(repr=False)


class ImageSequence(Protocol):
    """Frames that can be iterated over any number of times.

    Attributes:
        kind: its kind, for messages.
        unreadable: what could not be read, each with its reason; complete at the end of an iteration.
        notes: what else is there and is not read.
        max_image_pixels: height times width of the largest image that is decoded; may be set before an iteration.
    """

    kind: str
    unreadable: list[str]
    notes: list[str]
    max_image_pixels: int

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[SequenceFrame]: ...


class ImageFolder:
    """The images of a folder, as `images_in` lists them. If it has none, those of its subfolder `images`.

    A file that cannot be decoded is left out of every iteration, and named in `unreadable`.
    """

    kind = "folder of images"

    def __init__(self, folder: Path) -> None:
        place, files = next(
            ((place, found) for place in (folder, folder / "images") if place.is_dir() and (found := images_in(place))),
            (folder, []),
        )
        others = _other_frames(folder, place)
        if not files:
            raise ImageSequenceError(
                f"{folder}: no images in it ({', '.join(IMAGE_ENDINGS)}), no images/ folder, and no bag "
                f"(metadata.yaml, {', '.join(STORAGE_ENDINGS)}){f'; give one of: {listed(others)}' if others else ''}"
            )
        self.notes = (
            [
                f"{folder.name}: of several recordings the images of {place.name}/ are read; not read are "
                f"{listed(others)}; give one of them to read it"
            ]
            if others
            else []
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
            raise ImageSequenceError(f"{folder}: none of its {len(files)} images can be decoded: {self.unreadable[0]}")

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[SequenceFrame]:
        for file in self.files:
            try:
                image = read_image_file(file, self.max_image_pixels)
            except ImageFileError as error:
                # It begins as an image, but is none.
                if str(error) not in self.unreadable:
                    self.unreadable.append(str(error))
                continue
            yield _frame(file.name, None, image)


class Video:
    """The frames of a video file in their order, each with its time since the first.

    A separate process decodes them. If that process dies, `unreadable` gives the cause, and the iteration ends.
    """

    kind = "video"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.max_image_pixels = MAX_FILE_PIXELS
        self.unreadable: list[str] = []
        self.notes: list[str] = []
        remedy = "convert it (ffmpeg -i FILE out.mp4)"
        with DecoderProcess() as decoder:
            try:
                declared = decoder.open_video(path, self.max_image_pixels)
                first = decoder.video_frame()
            except MalformedImageError as error:
                raise ImageSequenceError(f"{path}: cannot be decoded as a video ({error}); {remedy}") from error
        if first is None:
            raise ImageSequenceError(f"{path}: cannot be decoded as a video; {remedy}")
        self._count = declared if 0 <= declared <= MAX_FRAMES else 0

    def __len__(self) -> int:
        """Number of frames that the file declares; a damaged file may hold fewer."""
        return self._count

    def __iter__(self) -> Iterator[SequenceFrame]:
        self.unreadable = []
        index, last_ns, untimed, problem = 0, -1, 0, ""
        # One for each iteration: several may run at a time.
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
    """Nanoseconds; None for an impossible time: a file may declare any time scale, even zero."""
    return round(milliseconds * 1e6) if 0 <= milliseconds <= MAX_VIDEO_MS else None


def _frame(name: str, time_ns: int | None, image: NDArray[np.uint8]) -> SequenceFrame:
    return SequenceFrame(
        name=name,
        time_ns=time_ns,
        frame_id="camera",
        height=image.shape[0],
        width=image.shape[1],
        encoding="bgr8",
        step=image.shape[1] * 3,
        data=np.ascontiguousarray(image).reshape(-1),
    )


def open_sequence(path: Path) -> ImageSequence:
    """Open a folder of images or a video.

    Raises:
        ImageSequenceError: nothing there that can be read.
    """
    if not path.exists():
        raise ImageSequenceError(f"{path}: no such file or folder; give a bag, a folder of images, or a video")
    return Video(path) if is_video(path) else ImageFolder(path)


def _other_frames(folder: Path, used: Path) -> list[str]:
    """Names of folders with images, bags and videos that are in a folder beside the images that are read."""
    if not folder.is_dir():
        return []
    found = []
    for entry in folder.iterdir():
        if entry == used or entry.name.startswith(".") or entry.name.lower() in LABEL_FOLDERS:
            continue
        try:
            if is_video(entry) or (entry.is_dir() and (images_in(entry) or holds_bag(entry))):
                found.append(entry.name)
        except OSError:  # a folder that may not be listed
            continue
    return sorted(found, key=natural_key)


def is_video(path: Path) -> bool:
    """Whether a path is a file with the ending of a video."""
    return path.suffix.lower() in VIDEO_ENDINGS and path.is_file()
