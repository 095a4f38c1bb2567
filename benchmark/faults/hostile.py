"""Messages that no camera should send, by name. Most must be refused; a few may give the mask of a good frame."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from benchmark.faults.frames import PoolFrame

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
BOMB_BYTES = 8 << 20
"""What one chunk unpacks to. A decoder that unpacks them all needs as much for each."""
BOMB_CHUNKS = 60

Header = dict[str, Any]
"""Fields of the header that differ from a good one's: `sec`, `nanosec`, `frame_id`."""

Spoiled = tuple[PoolFrame, Header]


def _raw(**fields: Any) -> Callable[[PoolFrame], Spoiled]:
    return lambda frame: (replace(frame, **fields), {})


RAW: dict[str, Callable[[PoolFrame], Spoiled]] = {
    "step_too_small": _raw(step=3),
    "step_huge": _raw(step=2**32 - 1),
    "step_zero": _raw(step=0),
    "height_huge": _raw(height=2**32 - 1),
    "width_huge": _raw(width=2**32 - 1, step=2**32 - 1),
    "height_and_width_huge": _raw(height=2**32 - 1, width=2**32 - 1, step=2**32 - 1),
    "zero_size": _raw(height=0, width=0, step=0, data=b""),
    "no_data": _raw(data=b""),
    "cut_large": _raw(height=2000, width=3000, encoding="bgr8", step=9000, data=bytes(17_000_000)),
    "cut_data": lambda frame: (replace(frame, data=frame.data[: len(frame.data) // 2]), {}),
    "unknown_encoding": _raw(encoding="rgb8 "),
    "long_encoding": _raw(encoding="x" * 200_000),
    "depth": _raw(encoding="16UC1"),
    "sixteen_bits": _raw(encoding="bgr16"),
    "odd_yuv": _raw(height=3, width=3, step=6, encoding="yuv422", data=bytes(18)),
    "stamp_before_1970": lambda frame: (frame, {"sec": -(2**31)}),
    # As good as any, odd as they are.
    "data_too_long=": lambda frame: (replace(frame, data=frame.data + bytes(100_000)), {}),
    "long_frame_id=": lambda frame: (frame, {"frame_id": "x" * 300_000}),
    "control_characters=": lambda frame: (frame, {"frame_id": "\x1b[2J\r\n[FATAL] [node]: forged \u202e"}),
    "stamp_far_ahead=": lambda frame: (frame, {"sec": 2**31 - 1}),
}
"""By name; one that ends in `=` may be published, and then as the good frame that it was made of."""


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _header(width: int, height: int) -> bytes:
    return PNG_SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def _png(width: int, height: int, *before: bytes, pixels: bytes | None = None) -> bytes:
    """A PNG, grey where no pixels are given, with chunks before its image data."""
    rows = pixels if pixels is not None else (b"\x00" + b"\x80" * width * 3) * height
    return _header(width, height) + b"".join(before) + _chunk(b"IDAT", zlib.compress(rows, 1)) + _chunk(b"IEND", b"")


def _after_header(file: bytes, *chunks: bytes) -> bytes:
    """A good PNG with chunks put in behind its header."""
    end = len(PNG_SIGNATURE) + 12 + 13
    return file[:end] + b"".join(chunks) + file[end:]


def _animation(width: int, height: int, x: int, y: int) -> tuple[bytes, bytes]:
    """`acTL`, and an `fcTL` of a frame of that size at that place."""
    frame = struct.pack(">IIIIIHHBB", 0, width, height, x, y, 1, 1, 0, 0)
    return _chunk(b"acTL", struct.pack(">II", 2, 0)), _chunk(b"fcTL", frame)


def _text_bomb() -> bytes:
    return _chunk(b"zTXt", b"comment\x00\x00" + zlib.compress(bytes(BOMB_BYTES), 9))


def _compressed(file: bytes) -> Callable[[PoolFrame], Spoiled]:
    return lambda frame: (replace(frame, file=file), {})


def _of_png(change: Callable[[bytes, PoolFrame], bytes]) -> Callable[[PoolFrame], Spoiled]:
    """Changes a PNG's bytes; a JPEG of the pool stays as it is."""

    def spoil(frame: PoolFrame) -> Spoiled:
        is_png = frame.file.startswith(PNG_SIGNATURE)
        return (replace(frame, file=change(frame.file, frame)) if is_png else frame), {}

    return spoil


def _jpeg_of(width: int, height: int) -> bytes:
    frame = struct.pack(">BHHB", 8, height, width, 3) + bytes([1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0])
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame + b"\xff\xd9"


COMPRESSED: dict[str, Callable[[PoolFrame], Spoiled]] = {
    "no_bytes": _compressed(b""),
    "no_image": _compressed(bytes(range(256)) * 40),
    "large_no_image": _compressed(bytes(17_000_000)),
    "another_format": _compressed(b"GIF89a" + bytes(200)),
    "cut_file": lambda frame: (replace(frame, file=frame.file[: len(frame.file) * 2 // 3]), {}),
    "huge_png": _compressed(_header(2**31 - 1, 2**31 - 1) + _chunk(b"IDAT", b"") + _chunk(b"IEND", b"")),
    "huge_jpeg": _compressed(_jpeg_of(65535, 65535)),
    "jpeg_of_many_scans": _compressed(b"\xff\xd8" + b"\xff\xda\x00\x02" * 100_000 + b"\xff\xd9"),
    "pixels_too_few": _compressed(_png(64, 48, pixels=bytes(100))),
    "bayer_format": lambda frame: (replace(frame, format="bayer_rggb8; jpeg compressed bayer_rggb8"), {}),
    "depth_format": lambda frame: (replace(frame, format="16UC1; compressedDepth png"), {}),
    "chunk_of_4_GB": _compressed(_header(64, 48) + struct.pack(">I", 2**32 - 1) + b"IDAT" + bytes(64)),
    # A decoder that is passed no more than the picture gives that picture, and may as well refuse.
    "animation_larger_than_canvas=": _of_png(
        lambda file, frame: _after_header(file, *_animation(frame.width * 4, frame.height * 4, 0, 0))
    ),
    "animation_beside_canvas=": _of_png(
        lambda file, frame: _after_header(file, *_animation(frame.width, frame.height, frame.width // 2, 9))
    ),
    "animation_at_the_end_of_numbers=": _of_png(
        lambda file, frame: _after_header(file, *_animation(frame.width, frame.height, 2**31 - 1, 2**31 - 1))
    ),
    "text_bomb=": _of_png(lambda file, frame: _after_header(file, *[_text_bomb()] * BOMB_CHUNKS)),
    "profile_bomb=": _of_png(
        lambda file, frame: _after_header(file, _chunk(b"iCCP", b"p\x00\x00" + zlib.compress(bytes(BOMB_BYTES * 8), 9)))
    ),
    "many_chunks=": _of_png(lambda file, frame: _after_header(file, *[_chunk(b"tEXt", b"k\x00v")] * 50_000)),
    "turned_by_exif=": lambda frame: (replace(frame, file=_turned(frame.file)), {}),
    "long_format=": lambda frame: (replace(frame, format=f"{frame.format}; " + "x" * 200_000), {}),
    "stamp_before_1970": RAW["stamp_before_1970"],
    "long_frame_id=": RAW["long_frame_id="],
}


def _turned(file: bytes) -> bytes:
    """A JPEG whose metadata says that the camera was held upright; pixels are taken as they are."""
    if not file.startswith(b"\xff\xd8"):
        return file
    tiff = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    data = b"Exif\x00\x00" + tiff
    return file[:2] + b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data + file[2:]


OF_TRANSPORT = {"raw": RAW, "compressed": COMPRESSED}

LARGE = {"raw": "cut_large", "compressed": "large_no_image"}
"""Messages that take much memory to receive, by transport."""

INFOS = ("nan", "infinite", "zeros", "other_size", "huge_distortion", "many_coefficients", "unknown_model")
"""Calibrations that no camera has; see `camera_info`."""


def may_be_published(name: str) -> bool:
    """Whether the result of the good frame that it was made of may come under its stamp."""
    return name.endswith("=")


def spoil_info(message: Any, name: str) -> Any:
    """A good `sensor_msgs/CameraInfo`, spoiled in place."""
    if name == "nan":
        message.k = [float("nan")] * 9
    elif name == "infinite":
        message.k = [float("inf")] * 9
        message.d = [float("-inf")] * 5
    elif name == "zeros":
        message.k = [0.0] * 9
    elif name == "other_size":
        message.height, message.width = 2**32 - 1, 1
    elif name == "huge_distortion":
        message.d = [1e300, -1e300, 1e-300, 1e18, -1e18]
    elif name == "many_coefficients":
        message.d = [0.1] * 100_000
    elif name == "unknown_model":
        message.distortion_model = "x" * 100_000
    else:
        raise KeyError(name)
    return message
