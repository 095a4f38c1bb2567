"""Opens a recording of any kind: a bag, a folder of images or a video."""

from __future__ import annotations

from pathlib import Path

from ros_ood_perception.recordings.bag import Bag, BagError
from ros_ood_perception.recordings.bag_files import holds_bag, is_bag_name
from ros_ood_perception.recordings.bag_metadata import METADATA
from ros_ood_perception.recordings.bag_parts import listed
from ros_ood_perception.recordings.image_sequence import ImageSequence, ImageSequenceError, is_video, open_sequence


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
    # A file of no known kind goes to `Bag`, whose error lists the endings of bags.
    if named_as_bag or (path.is_file() and not is_video(path)):
        return Bag(path)
    return open_sequence(path)


def _sequence_of(folder: Path) -> ImageSequence:
    try:
        return open_sequence(folder)
    except ImageSequenceError as error:
        bags = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and holds_bag(entry))
        if not bags:
            raise
        raise BagError(f"{folder}: is not a bag, but its folders are; give one of them ({listed(bags)})") from error
