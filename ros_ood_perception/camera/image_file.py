"""Untrusted image files to pixels: the reader of all commands that read pictures, masks or labels.

Only regular files are read, up to the size that an image can have. They are decoded in a process of their own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.camera.decoder_process import DecoderProcess, shared_decoder
from ros_ood_perception.camera.image_bytes import FILE_KINDS, SIGNATURE_BYTES, kind_of, max_bytes, other_kind
from ros_ood_perception.camera.raw_image import MalformedImageError
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.natural_order import natural_key
from ros_ood_perception.files.plain_file import NotPlainError, PlainFile, read_plain_file

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""Endings of the files that are read; the content decides what they are."""
OTHER_ENDINGS = (
    *(".apng", ".arw", ".avif", ".cr2", ".dib", ".dng", ".exr", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe"),
    *(".jps", ".jxl", ".mpo", ".nef", ".pbm", ".pgm", ".pnm", ".ppm", ".psd", ".tga"),
)
"""Endings of other pictures. They are listed as well, so that those that cannot be read are named."""
MAX_FILE_PIXELS = 8192 * 8192
"""Default limit for the height times width of an image file."""


class ImageFileError(PerceptionError, ValueError):
    """A file that is not a readable image. The message names the file, the reason and the remedy."""


def read_image_file(
    path: Path,
    max_pixels: int = MAX_FILE_PIXELS,
    decoder: DecoderProcess | None = None,
    kinds: Collection[str] = FILE_KINDS,
) -> NDArray[np.uint8]:
    """Read the pixels as a camera would have sent them; see `image_decoder.decode_colour`.

    Args:
        path: of a JPEG, PNG, WebP, BMP or TIFF file. The file's name does not matter.
        max_pixels: height times width of the largest image that is decoded. Checked before memory is allocated.
        decoder: decodes the file; None: the shared one of this process.
        kinds: formats that are read, of `FILE_KINDS`.

    Returns:
        (H, W, 3) uint8 BGR.

    Raises:
        ImageFileError: not a regular file, or not such an image.
    """
    data = _content(path, max_pixels)
    try:
        return (decoder or shared_decoder()).colour(data, max_pixels, kinds)
    except MalformedImageError as error:
        raise ImageFileError(f"{path}: {error}") from error


def read_label_file(path: Path, max_pixels: int = MAX_FILE_PIXELS) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Read the values of a PNG as they are stored; see `image_decoder.decode_labels`.

    Returns:
        (H, W) uint8, or uint16 where the file has 16 bits.

    Raises:
        ImageFileError: not a regular file, or not a PNG with one value a pixel.
    """
    data = _content(path, max_pixels)
    try:
        return shared_decoder().labels(data, max_pixels)
    except MalformedImageError as error:
        raise ImageFileError(f"{path}: {error}") from error


def images_in(folder: Path) -> list[Path]:
    """The pictures of a folder by their endings, in natural order (frame2 before frame10).

    Hidden files (such as `._frame1.png`, which macOS writes), folders, and files that are no pictures are left out.
    Pipes and devices are not: reading names them.
    """
    endings = IMAGE_ENDINGS + OTHER_ENDINGS
    found = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in endings and not path.name.startswith(".") and not path.is_dir()
    ]
    return sorted(found, key=lambda path: natural_key(path.name))


def check_image_file(path: Path) -> None:
    """Check that a file is regular and begins like an image of `FILE_KINDS`. Takes microseconds.

    Raises:
        ImageFileError: it is not, or does not.
    """
    with _image_errors(path), PlainFile(path) as file:
        begin = file.read(0, SIGNATURE_BYTES)
    if not begin:
        raise ImageFileError(f"{path}: is empty; fetch it again")
    if kind_of(begin) is None:
        found = other_kind(begin)
        raise ImageFileError(
            f"{path}: begins as none of {', '.join(FILE_KINDS)} does{f' ({found})' if found else ''}; convert it to PNG"
        )


def _content(path: Path, max_pixels: int) -> bytes:
    """The bytes of a regular file that is not larger than an image of so many pixels can be."""
    with _image_errors(path):
        return read_plain_file(path, max_bytes(max_pixels))


@contextlib.contextmanager
def _image_errors(path: Path) -> Iterator[None]:
    """Errors of reading, as `ImageFileError`."""
    try:
        yield
    except NotPlainError as error:
        raise ImageFileError(str(error)) from error
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be read ({error.strerror})") from error
