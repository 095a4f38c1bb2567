"""Images made to harm their decoder, and what they are when they are read as they should be."""

from __future__ import annotations

import random
import struct
import zlib

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmark.fuzzing.image_corpus import Chunk, jpeg_file, jpeg_segments, png_chunk, png_file, png_header

SIDE = 16
STILL = np.random.default_rng(5).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
"""BGR; what every hostile PNG below shows if it shows anything."""


def rows_of(image: NDArray[np.uint8]) -> bytes:
    """Unfiltered rows of an RGB PNG."""
    return b"".join(b"\x00" + row[:, ::-1].tobytes() for row in image)


IHDR = png_header(SIDE, SIDE, 8, 2)
IDAT: Chunk = (b"IDAT", zlib.compress(rows_of(STILL)))
IEND: Chunk = (b"IEND", b"")


def frame_control(
    number: int, width: int, height: int, x: int = 0, y: int = 0, dispose: int = 0, blend: int = 0
) -> Chunk:
    return b"fcTL", struct.pack(">IIIIIHHBB", number, width, height, x, y, 1, 1, dispose, blend)


def animation(frames: int, plays: int = 0) -> Chunk:
    return b"acTL", struct.pack(">II", frames, plays)


def frame_data(number: int, stream: bytes = IDAT[1]) -> Chunk:
    return b"fdAT", struct.pack(">I", number) + stream


ANIMATIONS: dict[str, bytes] = {
    name: png_file([IHDR, *before, IDAT, *after, IEND])
    for name, before, after in (
        ("frame larger than the canvas", [animation(2), frame_control(0, 64, 64)], []),
        ("frame beside the canvas", [animation(2), frame_control(0, 16, 16, 8, 8)], []),
        ("frame far beside the canvas", [animation(1), frame_control(0, 16, 16, 2**31 - 1, 2**31 - 1)], []),
        ("frame of no size", [animation(2), frame_control(0, 0, 0)], []),
        (
            "second frame larger",
            [animation(2), frame_control(0, 16, 16)],
            [frame_control(1, 4096, 4096), frame_data(2)],
        ),
        (
            "second frame beside",
            [animation(2), frame_control(0, 16, 16)],
            [frame_control(1, 16, 16, 15, 15), frame_data(2)],
        ),
        (
            "all ways to dispose",
            [animation(3), frame_control(0, 16, 16, 0, 0, 2, 1)],
            [frame_control(1, 32, 1, 0, 0, 2, 1), frame_data(2)],
        ),
        ("more frames than there are", [animation(2**32 - 1), frame_control(0, 16, 16)], []),
        ("no frame control", [animation(2)], [frame_data(0), frame_data(0)]),
        ("frame control without animation", [frame_control(0, 64, 64)], []),
        ("animation after the pixels", [], [animation(2), frame_control(0, 64, 64), frame_data(1)]),
        ("frame data without pixels", [animation(2), frame_control(0, 64, 64)], [(b"fdAT", b"")]),
        ("short frame control", [animation(2), (b"fcTL", b"\x00")], []),
        ("two animations", [animation(2), animation(9), frame_control(0, 64, 64), frame_control(1, 64, 64)], []),
    )
}
TEXT = zlib.compress(bytes(7_000_000), 9)
FLOODS: dict[str, bytes] = {
    name: png_file([IHDR, *[chunk] * count, IDAT, *[chunk] * count, IEND])
    for name, chunk, count in (
        ("zTXt", (b"zTXt", b"a\x00\x00" + TEXT), 450),
        ("iTXt", (b"iTXt", b"a\x00\x01\x00\x00\x00" + TEXT), 100),
        ("iCCP", (b"iCCP", b"icc\x00\x00" + TEXT), 100),
        ("tEXt", (b"tEXt", b"a\x00" + bytes(1000)), 2000),
        ("eXIf", (b"eXIf", b"II*\x00\x08\x00\x00\x00\xff\xff" + bytes(2000)), 500),
        ("tRNS", (b"tRNS", bytes(6)), 500),
        ("empty unknown", (b"abCd", b""), 20_000),
    )
}


def declared(
    width: int, height: int, depth: int = 8, colour_type: int = 2, interlaced: int = 0, body: int = 10**6
) -> bytes:
    """A PNG of this size in its header, and zeros in it."""
    return png_file(
        [png_header(width, height, depth, colour_type, interlaced), (b"IDAT", zlib.compress(bytes(body), 9)), IEND]
    )


def excess(interlaced: int = 0) -> bytes:
    """A small PNG whose stream inflates to 300 MB."""
    stream = zlib.compressobj(9)
    body = b"".join(stream.compress(bytes(10**6)) for _ in range(300)) + stream.flush()
    return png_file([png_header(SIDE, SIDE, 8, 2, interlaced), (b"IDAT", body), IEND])


def empty_blocks() -> bytes:
    """A small PNG whose stream holds a million stored blocks of no bytes."""
    raw = rows_of(STILL)
    body = b"\x78\x01" + b"\x00\x00\x00\xff\xff" * 10**6 + zlib.compress(raw, 0)[2:]
    return png_file([IHDR, (b"IDAT", body), IEND])


def jpeg(image: NDArray[np.uint8] = STILL, *options: int) -> bytes:
    return bytes(cv2.imencode(".jpg", image, options)[1].tobytes())


SEGMENTS = jpeg_segments(jpeg())
EXIF_WITH_ORIENTATION = b"Exif\x00\x00II*\x00" + struct.pack("<IHHHIHHI", 8, 1, 0x112, 3, 1, 6, 0, 0)


def jpeg_with(*, before_frame: bytes = b"", before_end: bytes = b"", after_end: bytes = b"") -> bytes:
    """A JPEG with bytes put in behind its start, before its end marker, and after it."""
    data = jpeg_file(SEGMENTS)
    return data[:2] + before_frame + data[2:-2] + before_end + data[-2:] + after_end


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def of_kind(marker: int) -> bytes:
    """The first segment of that kind, as it stands in the JPEG, its scan included."""
    found = next(part for part in SEGMENTS if part[0] == marker)
    return segment(marker, found[1]) + found[2]


def random_bytes(count: int) -> bytes:
    return random.Random(1).randbytes(count)


def tiff(*entries: tuple[int, int]) -> bytes:
    """A TIFF with a directory of these tags and values, and nothing else."""
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return b"II*\x00" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4)


def bmp(height: int, bits: int, compression: int) -> bytes:
    """A BMP of one column with the headers of a whole one, and few rows."""
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 54, 40, 1, height, 1, bits, compression, 0, 0, 0, 0, 0)


MOVING_WEBP = b"RIFF\x24\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x02" + bytes(9) + b"ANIM\x06\x00\x00\x00" + bytes(6)
MEASURED_TIFF = bytes(cv2.imencode(".tiff", STILL.astype(np.float32), [cv2.IMWRITE_TIFF_COMPRESSION, 1])[1].tobytes())

__all__ = ["png_chunk"]
