"""Image files of strangers to pixels: the one reader of every command that reads pictures, masks or labels.

Only plain files are read, and no more of them than an image can need; they are decoded in a process that may die.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.camera.decoder_process import DecoderProcess, shared_decoder
from ros_ood_perception.camera.image_bytes import FILE_KINDS, SIGNATURE_BYTES, kind_of, max_bytes
from ros_ood_perception.camera.raw_image import MalformedImageError
from ros_ood_perception.errors import PerceptionError

MAX_FILE_PIXELS = 8192 * 8192
"""Height times width of the largest image file that is read unless told otherwise."""


class ImageFileError(PerceptionError, ValueError):
    """A file that gives no image. The message names the file, says why, and what to do."""


def read_image_file(
    path: Path, max_pixels: int = MAX_FILE_PIXELS, decoder: DecoderProcess | None = None
) -> NDArray[np.uint8]:
    """The pixels as a camera would have sent them; see `image_decoder.decode_colour`.

    Args:
        path: of a JPEG, PNG, WebP, BMP or TIFF file, whatever its name ends in.
        max_pixels: height times width of the largest image that is decoded; asked before memory is spent.
        decoder: that does it; None takes the shared one of this process.

    Returns:
        (H, W, 3) uint8 BGR.

    Raises:
        ImageFileError: not a plain file, or not such an image.
    """
    data = _content(path, max_bytes(max_pixels))
    try:
        return (decoder or shared_decoder()).colour(data, max_pixels, FILE_KINDS)
    except MalformedImageError as error:
        raise ImageFileError(f"{path}: {error}") from error


def read_label_file(path: Path, max_pixels: int = MAX_FILE_PIXELS) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The values of a PNG as they are stored; see `image_decoder.decode_labels`.

    Returns:
        (H, W) uint8, or uint16 where the file has 16 bits.

    Raises:
        ImageFileError: not a plain file, or not a PNG of one value a pixel.
    """
    data = _content(path, max_bytes(max_pixels))
    try:
        return shared_decoder().labels(data, max_pixels)
    except MalformedImageError as error:
        raise ImageFileError(f"{path}: {error}") from error


def check_image_file(path: Path) -> None:
    """Check that a plain file begins as an image that is read. Costs microseconds.

    Raises:
        ImageFileError: it is none, or does not.
    """
    begin = _content(path, None)
    if kind_of(begin) is None:
        raise ImageFileError(f"{path}: begins as none of {', '.join(FILE_KINDS)} does; convert it to PNG")


def _content(path: Path, limit: int | None) -> bytes:
    """The bytes of a plain file of at most `limit` bytes; None: its first bytes only."""
    try:
        # Before it is opened, which can wait for ever or do something; and after, for it may be another one by then.
        _check_plain(path, os.stat(path))
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            _check_plain(path, found)
            if limit is not None and found.st_size > limit:
                raise ImageFileError(f"{path}: has {found.st_size} bytes; an image has {limit} at most")
            with open(descriptor, "rb", closefd=False) as file:
                # A file may grow while it is read.
                return file.read(SIGNATURE_BYTES if limit is None else limit)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be read ({error.strerror})") from error


def _check_plain(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ImageFileError(f"{path}: is no plain file; give the image itself")
