"""Opens a recording of any kind: a bag, a folder of images or a video."""

from __future__ import annotations

from pathlib import Path

from ros_ood_perception.camera.image_file import IMAGE_ENDINGS, OTHER_ENDINGS
from ros_ood_perception.recordings.bag import Bag, BagError
from ros_ood_perception.recordings.bag_files import BAG_ENDINGS, holds_bag, is_bag_name, unread_compression
from ros_ood_perception.recordings.bag_metadata import METADATA
from ros_ood_perception.recordings.bag_parts import listed
from ros_ood_perception.recordings.image_sequence import (
    VIDEO_ENDINGS,
    ImageSequence,
    ImageSequenceError,
    is_video,
    open_sequence,
)


def open_recording(path: Path) -> Bag | ImageSequence:
    """Open what a path holds.

    Args:
        path: a bag (its folder, or a file of it), a folder of images, or a video.

    Raises:
        BagError, ImageSequenceError: nothing there that can be read.
    """
    if path.name == METADATA and path.is_file():
        raise BagError(f"{path}: only lists the files of a bag; give its folder, {path.parent}")
    if path.is_dir():
        # Whatever its name: a folder of images may end in .bag.
        return Bag(path) if holds_bag(path) else _sequence_of(path)
    named_as_bag = is_bag_name(path.name)
    if named_as_bag and not path.exists():
        raise BagError(f"{path}: no such file")
    if path.is_file() and not named_as_bag and not is_video(path) and not unread_compression(path.name):
        raise BagError(f"{path}: {_no_recording(path)}")
    if named_as_bag or (path.is_file() and not is_video(path)):
        return Bag(path)
    return open_sequence(path)


def _no_recording(path: Path) -> str:
    """What to give instead of a file that has the ending of no recording."""
    if path.suffix.lower() in IMAGE_ENDINGS + OTHER_ENDINGS:
        return f"is a single image; give its folder, {path.parent}"
    return (
        f"is no recording; a bag is a folder or a file that ends in {', '.join(BAG_ENDINGS)}, and a video ends in "
        f"{', '.join(VIDEO_ENDINGS)} (ffmpeg -i FILE out.mp4 makes one of another kind)"
    )


def _sequence_of(folder: Path) -> ImageSequence:
    try:
        return open_sequence(folder)
    except ImageSequenceError as error:
        bags = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and holds_bag(entry))
        if not bags:
            raise
        raise BagError(f"{folder}: is not a bag, but its folders are; give one of them ({listed(bags)})") from error
