"""Decompresses untrusted bytes, never to more than the caller allows, whatever they declare."""

from __future__ import annotations

import bz2
import importlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from ros_ood_perception.errors import PerceptionError

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
MAX_FILE_RATIO = 200
FREE_FILE_BYTES = 1 << 30
"""A bag file may decompress to `MAX_FILE_RATIO` times its size plus this. Sensor data shrinks to a fifth, a black
picture to a thousandth."""
KEPT_FREE_BYTES = 1 << 28
_COPIED_AT_ONCE = 1 << 16


def most_decompressed(file_size: int) -> int:
    """Bytes that a compressed bag file of this size may decompress to."""
    return FREE_FILE_BYTES + MAX_FILE_RATIO * file_size


class DecompressionError(PerceptionError, ValueError):
    """Bytes that cannot be decompressed, or decompress to too many."""


def decompressed(data: bytes, compression: str, most: int, cut: bool = False) -> bytes:
    """Decompress one block.

    Args:
        compression: `zstd`, `lz4` (frame format) or `bz2`; "" or "none" for none.
        most: largest number of decompressed bytes.
        cut: the end of `data` may be missing; what comes before it is returned.

    Raises:
        DecompressionError: damaged, of another kind, or larger than `most`.
    """
    if compression in ("", "none"):
        return data
    if compression not in _DECOMPRESSORS:
        raise DecompressionError(f"its compression is {compression[:20]!r}")
    try:
        found = _DECOMPRESSORS[compression](data, most, cut)
    except DecompressionError:
        raise
    except Exception as error:  # zstd, lz4 and bz2 raise errors without a common base
        raise DecompressionError(f"it cannot be decompressed ({error})") from error
    if len(found) > most:
        raise DecompressionError(f"it decompresses to more than {most} bytes")
    return found


def _zstd(data: bytes, most: int, cut: bool) -> bytes:
    zstd = _zstd_library()
    declared = zstd.get_frame_info(data).decompressed_size
    decompressor = zstd.ZstdDecompressor()
    if declared is not None and declared <= most and not cut:
        # The frame declares its size: one allocation of the right size.
        found = decompressor.decompress(data)
    else:
        found = decompressor.decompress(data, most + 1)
    if not decompressor.eof and len(found) <= most and not cut:
        raise DecompressionError("its compressed bytes end early")
    return bytes(found)


def _lz4(data: bytes, most: int, cut: bool) -> bytes:
    from lz4.frame import LZ4FrameDecompressor

    decompressor = LZ4FrameDecompressor()
    found = decompressor.decompress(data, most + 1)
    if not decompressor.eof and len(found) <= most and not cut:
        raise DecompressionError("its compressed bytes end early")
    return bytes(found)


def _bz2(data: bytes, most: int, cut: bool) -> bytes:
    decompressor = bz2.BZ2Decompressor()
    found = decompressor.decompress(data, most + 1)
    if not decompressor.eof and len(found) <= most and not cut:
        raise DecompressionError("its compressed bytes end early")
    return found


_DECOMPRESSORS: dict[str, Callable[[bytes, int, bool], bytes]] = {"zstd": _zstd, "lz4": _lz4, "bz2": _bz2}


def decompress_file(source: BinaryIO, size: int, target: Path) -> None:
    """Decompress a zstd file of `size` bytes.

    Raises:
        DecompressionError: damaged, too large, or the disk is full. `target` then holds what came before the error.
    """
    most = most_decompressed(size)
    written = 0
    try:
        with target.open("wb") as out, _zstd_library().open(source, "rb") as opened:
            while block := opened.read(_COPIED_AT_ONCE):
                written += len(block)
                if written > most:
                    raise DecompressionError(f"its {size} bytes decompress to more than {most} bytes")
                if shutil.disk_usage(target.parent).free < KEPT_FREE_BYTES + len(block):
                    raise DecompressionError(
                        f"no space to decompress it in {target.parent}; set TMPDIR to another disk"
                    )
                out.write(block)
    except DecompressionError:
        raise
    except Exception as error:  # zstd's own error, EOFError where it is cut, OSError
        raise DecompressionError(f"it cannot be decompressed after {written} bytes ({error})") from error


def _zstd_library() -> Any:
    # A dependency of `rosbags`; from Python 3.14 on it is in the standard library.
    return importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
