"""Small images of every kind that is decoded, and structural mutations of them, for `benchmark.fuzzing.images`.

Mutations change the parts (chunks, segments) of a file. Lengths, CRCs and the zlib stream, which a parser checks first,
are corrected afterwards, so that most mutations get past these checks.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_TYPES = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
INTERESTING = (
    0,
    1,
    2,
    3,
    7,
    8,
    15,
    16,
    17,
    31,
    64,
    127,
    128,
    255,
    256,
    4096,
    65535,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
)

Chunk = tuple[bytes, bytes]
Segment = tuple[int, bytes, bytes]
"""Marker, body without its length, and the scan that follows it."""


def png_chunk(name: bytes, body: bytes) -> bytes:
    """A chunk as it stands in a file."""
    return struct.pack(">I4s", len(body), name) + body + struct.pack(">I", zlib.crc32(name + body))


def png_file(chunks: list[Chunk]) -> bytes:
    """A file of chunks with any content."""
    return PNG_SIGNATURE + b"".join(png_chunk(*chunk) for chunk in chunks)


def png_header(width: int, height: int, depth: int, colour_type: int, interlaced: int = 0) -> Chunk:
    """IHDR."""
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlaced)


def png_rows(rng: random.Random, width: int, height: int, bits: int, interlaced: bool) -> bytes:
    """Filtered rows of noise, of the size that the header asks for."""
    rows = []
    for left, top, column_step, row_step in ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, count = -(-(width - left) // column_step), -(-(height - top) // row_step)
        if columns > 0 and count > 0:
            rows += [bytes([rng.randrange(5)]) + rng.randbytes((columns * bits + 7) // 8) for _ in range(count)]
    return b"".join(rows)


def png_of(rng: random.Random, colour_type: int, depth: int, interlaced: bool, size: tuple[int, int]) -> list[Chunk]:
    """The chunks of a valid PNG."""
    width, height = size
    chunks = [png_header(width, height, depth, colour_type, int(interlaced))]
    if colour_type == 3:
        chunks.append((b"PLTE", rng.randbytes(3 * 2**depth)))
    raw = png_rows(rng, width, height, depth * PNG_CHANNELS[colour_type], interlaced)
    return [*chunks, (b"IDAT", zlib.compress(raw, rng.choice((0, 1, 9)))), (b"IEND", b"")]


def frame_control(rng: random.Random, width: int, height: int) -> Chunk:
    """fcTL of an animation, often larger than the canvas or beside it."""
    numbers = [rng.randrange(3), rng.choice((width, 64, 4096, 0)), rng.choice((height, 64, 4096, 0))]
    numbers += [rng.choice((0, 1, 8, 2**31 - 1)), rng.choice((0, 1, 8, 2**31 - 1))]
    return b"fcTL", struct.pack(">IIIIIHHBB", *numbers, 1, 10, rng.randrange(4), rng.randrange(3))


def ancillary(rng: random.Random) -> Chunk:
    """A chunk that a decoder may ignore, with contents that it might not."""
    text = zlib.compress(bytes(rng.choice((10, 1000, 100_000))))
    choices: tuple[Callable[[], Chunk], ...] = (
        lambda: (b"zTXt", b"a\x00\x00" + text),
        lambda: (b"iTXt", b"a\x00\x01\x00\x00\x00" + text),
        lambda: (b"tEXt", b"a\x00" + rng.randbytes(20)),
        lambda: (b"iCCP", b"icc\x00\x00" + text),
        lambda: (b"eXIf", b"II*\x00" + struct.pack("<IHHHIHHI", 8, 1, 0x112, 3, 1, rng.randrange(9), 0, 0)),
        lambda: (b"tRNS", rng.randbytes(rng.choice((0, 1, 2, 6, 16, 256)))),
        lambda: (b"bKGD", rng.randbytes(rng.choice((1, 2, 6)))),
        lambda: (b"gAMA", rng.randbytes(4)),
        lambda: (b"cHRM", rng.randbytes(32)),
        lambda: (b"sBIT", rng.randbytes(rng.randrange(5))),
        lambda: (b"hIST", rng.randbytes(32)),
        lambda: (b"pHYs", rng.randbytes(9)),
        lambda: (b"acTL", struct.pack(">II", rng.choice(INTERESTING), rng.randrange(3))),
        lambda: (b"fdAT", struct.pack(">I", rng.randrange(4)) + zlib.compress(rng.randbytes(100))),
        lambda: frame_control(rng, 16, 16),
        lambda: (b"CgBI", rng.randbytes(4)),
        lambda: (rng.randbytes(4), rng.randbytes(8)),
    )
    return rng.choice(choices)()


def mutated_png(rng: random.Random, chunks: list[Chunk]) -> bytes:
    """A PNG after some mutations."""
    chunks = list(chunks)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        place = rng.randrange(len(chunks))
        name, body = chunks[place]
        what = rng.randrange(12)
        if what == 0:
            chunks.insert(place, chunks[rng.randrange(len(chunks))])
        elif what == 1 and len(chunks) > 1:
            del chunks[place]
        elif what == 2:
            other = rng.randrange(len(chunks))
            chunks[place], chunks[other] = chunks[other], chunks[place]
        elif what in (3, 4):
            chunks[place:place] = [ancillary(rng) for _ in range(rng.choice((1, 2, 20)))]
        elif what == 5:
            chunks[place] = (name, flipped(rng, body))
        elif what == 6:
            chunks[place] = (name, body[: rng.randrange(len(body) + 1)])
        elif what == 7 and body:
            chunks[place : place + 1] = [(name, body[: len(body) // 2]), (name, b""), (name, body[len(body) // 2 :])]
        elif what == 8:
            chunks = [(n, changed_header(rng, b) if n == b"IHDR" and len(b) == 13 else b) for n, b in chunks]
        elif what in (9, 10):
            chunks = [(n, recompressed(rng, b) if n == b"IDAT" else b) for n, b in chunks]
        else:
            chunks[place] = (name, body + rng.randbytes(rng.choice((1, 3, 100))))
    data = png_file(chunks)
    if rng.random() < 0.05:
        return flipped(rng, data)
    return data[: rng.randrange(len(data))] if rng.random() < 0.03 else data


def changed_header(rng: random.Random, body: bytes) -> bytes:
    """IHDR with one field changed."""
    fields = list(struct.unpack(">IIBBBBB", body))
    place = rng.randrange(7)
    fields[place] = rng.choice(INTERESTING) & (0xFFFFFFFF if place < 2 else 0xFF)
    if place < 2 and rng.random() < 0.5:
        fields[place] = rng.randrange(1, 40)
    if place >= 2 and rng.random() < 0.7:
        fields[2:] = [rng.choice((1, 2, 4, 8, 16)), rng.choice((0, 2, 3, 4, 6)), 0, 0, rng.randrange(2)]
    return struct.pack(">IIBBBBB", *fields)


def recompressed(rng: random.Random, body: bytes) -> bytes:
    """A zlib stream whose contents were changed, or that is another one."""
    try:
        raw = zlib.decompressobj().decompress(body, 100_000)
    except zlib.error:
        return body
    what = rng.randrange(6)
    if what == 0:
        raw = flipped(rng, raw)
    elif what == 1:
        raw = raw[: rng.randrange(len(raw) + 1)]
    elif what == 2:
        raw += bytes(rng.choice((1, 10, 1000, 1_000_000)))
    elif what == 3:
        raw = bytes(rng.choice(INTERESTING) % 5000)
    elif what == 4:
        return flipped(rng, body)
    stream = zlib.compressobj(rng.choice((0, 1, 6)), zlib.DEFLATED, rng.choice((9, 15)))
    return stream.compress(raw) + stream.flush()


def flipped(rng: random.Random, data: bytes) -> bytes:
    """The same bytes with some changed."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5)) if data else 0):
        changed[rng.randrange(len(changed))] = rng.choice((rng.randrange(256), 0, 0xFF, 0x80))
    return bytes(changed)


def jpeg_segments(data: bytes) -> list[Segment]:
    """The segments of a JPEG that an encoder wrote."""
    segments: list[Segment] = []
    position = 2
    while data[position + 1] != 0xD9:
        marker, (length,) = data[position + 1], struct.unpack_from(">H", data, position + 2)
        body, end = data[position + 4 : position + 2 + length], position + 2 + length
        position = end
        if marker == 0xDA:
            while data[position] != 0xFF or data[position + 1] in (0, *range(0xD0, 0xD8)):
                position += 1
        segments.append((marker, body, data[end:position]))
    return segments


def jpeg_file(segments: list[Segment]) -> bytes:
    """A file of segments with any content."""
    parts = [b"\xff\xd8"]
    for marker, body, scan in segments:
        parts += [bytes((0xFF, marker)), struct.pack(">H", (len(body) + 2) & 0xFFFF), body, scan]
    return b"".join((*parts, b"\xff\xd9"))


def one_scan_a_component(grey: list[Segment], count: int) -> list[Segment]:
    """A JPEG of several components, each with a scan of its own: with four, CMYK."""
    made: list[Segment] = []
    for marker, body, scan in grey:
        if marker in (0xC0, 0xC2):
            ids = b"".join(bytes((number, 0x11, 0)) for number in range(1, count + 1))
            made.append((marker, body[:5] + bytes([count]) + ids, b""))
        elif marker == 0xDA:
            made += [(marker, bytes((1, number)) + body[2:], scan) for number in range(1, count + 1)]
        else:
            made.append((marker, body, scan))
    return made


def jpeg_metadata(rng: random.Random, thumbnail: bytes) -> Segment:
    """A segment that no pixel comes from."""
    exif = b"Exif\x00\x00II*\x00" + struct.pack("<IHHHIHHI", 8, 1, 0x112, 3, 1, rng.randrange(9), 0, 0)
    return rng.choice(
        (
            (0xE1, exif + thumbnail[:60000], b""),
            (0xE1, flipped(rng, exif), b""),
            (0xE2, b"ICC_PROFILE\x00\x01\x01" + rng.randbytes(100), b""),
            (0xE0, b"JFIF\x00" + rng.randbytes(rng.choice((2, 9, 9, 40))), b""),
            (0xEE, b"Adobe" + rng.randbytes(6) + bytes([rng.randrange(3)]), b""),
            (0xFE, rng.randbytes(rng.choice((0, 10, 1000))), b""),
        )
    )


def mutated_jpeg(rng: random.Random, segments: list[Segment], other: list[Segment]) -> bytes:
    """A JPEG after some mutations; `other` is where segments of another JPEG come from."""
    segments = list(segments)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        place = rng.randrange(len(segments))
        marker, body, scan = segments[place]
        what = rng.randrange(13)
        if what == 0:
            segments[place:place] = [segments[rng.randrange(len(segments))]] * rng.choice((1, 1, 3, 150))
        elif what == 1 and len(segments) > 1:
            del segments[place]
        elif what == 2:
            second = rng.randrange(len(segments))
            segments[place], segments[second] = segments[second], segments[place]
        elif what == 3:
            segments.insert(place, jpeg_metadata(rng, jpeg_file(other)))
        elif what == 4:
            segments.insert(place, other[rng.randrange(len(other))])
        elif what == 5:
            segments[place] = (marker, flipped(rng, body), scan)
        elif what == 6:
            segments[place] = (marker, body[: rng.randrange(len(body) + 1)], scan)
        elif what == 7:
            segments = [(m, changed_frame(rng, b) if m in (0xC0, 0xC1, 0xC2) else b, s) for m, b, s in segments]
        elif what == 8:
            segments = [(m, flipped(rng, b) if m == 0xDA else b, s) for m, b, s in segments]
        elif what == 9:
            segments = [(m, b, stuffed(flipped(rng, s))) for m, b, s in segments]
        elif what == 10:
            segments = [(m, b, s[: rng.randrange(len(s) + 1)]) for m, b, s in segments]
        elif what == 11:
            extra = rng.choice(((0xDD, rng.randbytes(2)), (0xDC, rng.randbytes(2)), (0xCC, rng.randbytes(2))))
            segments.insert(place, (*extra, b""))
        else:
            segments[place] = (rng.choice((*range(0xC0, 0xFF), 1)), body, scan)
    data = jpeg_file(segments)
    if rng.random() < 0.1:
        return flipped(rng, data)
    return data[: rng.randrange(len(data))] if rng.random() < 0.03 else data


def changed_frame(rng: random.Random, body: bytes) -> bytes:
    """A frame header with one field changed."""
    if len(body) < 6:
        return body
    changed = bytearray(body)
    what = rng.randrange(4)
    if what == 0:
        struct.pack_into(">H", changed, rng.choice((1, 3)), rng.choice(INTERESTING) & 0xFFFF)
    elif what == 1:
        struct.pack_into(">HH", changed, 1, rng.randrange(1, 200), rng.randrange(1, 200))
    elif what == 2 and len(body) > 7:
        changed[rng.randrange(6, len(body))] = rng.choice((0x11, 0x22, 0x21, 0x12, 0x41, 0x44, 0x33, 0, 1, 3, 255))
    else:
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def stuffed(scan: bytes) -> bytes:
    """A scan without markers, as an encoder would have written these bits."""
    return scan.replace(b"\xff\x00", b"\xff").replace(b"\xff", b"\xff\x00")


class ImageMutator:
    """Makes the same image bytes for the same seed and number, on every machine with the same encoders.

    Args:
        kinds: of "JPEG", "PNG", "WebP", "BMP", "TIFF".
    """

    def __init__(self, seed: int, kinds: tuple[str, ...]) -> None:
        self._seed, self._kinds = seed, kinds
        # What comes on topics most often.
        self._drawn = [kind for kind in kinds for _ in range(6 if kind in ("JPEG", "PNG") else 1)]
        rng = random.Random(seed)
        picture = cv2.resize(np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8), (40, 30))
        grey = picture[..., 0]

        def encoded(ending: str, options: list[int], image: np.ndarray = picture) -> bytes:
            return bytes(cv2.imencode(ending, image, options)[1].tobytes())

        progressive, restart = cv2.IMWRITE_JPEG_PROGRESSIVE, cv2.IMWRITE_JPEG_RST_INTERVAL
        plain = [
            encoded(".jpg", options, image)
            for image in (picture, grey, picture[:1, :1], picture[:17, :9])
            for options in ([], [progressive, 1], [restart, 1], [progressive, 1, restart, 2])
        ]
        for sampling in (0x411111, 0x420000 | 0x2111, 0x221111, 0x211111, 0x111111):
            plain.append(encoded(".jpg", [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]))
        self.jpegs = [jpeg_segments(data) for data in plain]
        for options in ([], [progressive, 1]):
            for count in (3, 4):
                self.jpegs.append(one_scan_a_component(jpeg_segments(encoded(".jpg", options, grey)), count))
        self.pngs = [
            png_of(rng, colour_type, depth, interlaced, size)
            for colour_type, depths in PNG_TYPES.items()
            for depth in depths
            for interlaced in (False, True)
            for size in ((1, 1), (17, 9), (32, 24))
        ]
        animation = png_of(rng, 2, 8, False, (16, 16))
        self.pngs.append(
            [animation[0], (b"acTL", struct.pack(">II", 2, 0)), frame_control(rng, 16, 16), *animation[1:]]
        )
        self.pngs.append([*self.pngs[-1][:-1], frame_control(rng, 16, 16), (b"fdAT", bytes(4) + animation[1][1])])
        self.pngs[-1].append((b"IEND", b""))
        self.others = {
            "WebP": [encoded(".webp", [cv2.IMWRITE_WEBP_QUALITY, quality]) for quality in (10, 90, 101)],
            "BMP": [encoded(".bmp", []), encoded(".bmp", [], grey)],
            "TIFF": [
                encoded(".tiff", [cv2.IMWRITE_TIFF_COMPRESSION, method], image)
                for method in (1, 5, 8, 32773)
                for image in (picture, grey, grey.astype(np.uint16) * 257)
            ],
        }
        alpha = np.dstack([picture, grey])
        self.others["WebP"] += [encoded(".webp", [cv2.IMWRITE_WEBP_QUALITY, quality], alpha) for quality in (50, 101)]

    def valid(self) -> list[bytes]:
        """Every image of the corpus, unchanged."""
        files = [jpeg_file(segments) for segments in self.jpegs] + [png_file(chunks) for chunks in self.pngs]
        return files + [data for kind in self._kinds for data in self.others.get(kind, [])]

    def __call__(self, number: int) -> bytes:
        """The bytes with this number; about one in 50 is a valid image of the corpus."""
        rng = random.Random(self._seed << 40 | number)
        kind = rng.choice(self._drawn)
        valid = rng.random() < 0.02
        if kind == "PNG":
            chunks = rng.choice(self.pngs)
            return png_file(chunks) if valid else mutated_png(rng, chunks)
        if kind == "JPEG":
            segments = rng.choice(self.jpegs)
            return jpeg_file(segments) if valid else mutated_jpeg(rng, segments, rng.choice(self.jpegs))
        data = rng.choice(self.others[kind])
        if valid:
            return data
        # What comes first decides most: half of the changes are made there.
        head = rng.choice((64, len(data)))
        data = flipped(rng, data[:head]) + data[head:]
        return data[: rng.randrange(len(data))] if rng.random() < 0.1 else data
