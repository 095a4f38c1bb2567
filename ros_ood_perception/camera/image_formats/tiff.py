"""Untrusted TIFF: checks the properties of its first picture before any decoder reads it.

A TIFF is a graph of offsets, which cannot be rebuilt like a stream. So only a decoder in a process of its own gets one
(`decoder_process`), and only kinds that cameras and tools write.

Source: TIFF 6.0.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from ros_ood_perception.camera.raw_image import MalformedImageError

MAX_ENTRIES = 512
SHORT, LONG = 3, 4
SUBFILE, OLD_SUBFILE = 254, 255
"""Entries that say what the first picture is to the others."""
REDUCED, OLD_REDUCED = 1, 2
"""A smaller copy of another picture: a bit of `SUBFILE`, a value of `OLD_SUBFILE`."""
WIDTH, HEIGHT, BITS, COMPRESSION, COLOURS, ORIENTATION, SAMPLES, SAMPLE_FORMAT = 256, 257, 258, 259, 262, 274, 277, 339
COMPRESSIONS = {1: "none", 5: "LZW", 8: "deflate", 32773: "PackBits", 32946: "deflate"}
COLOUR_KINDS = {0: "white is 0", 1: "black is 0", 2: "RGB", 3: "palette"}


@dataclass(frozen=True)
class Tiff:
    """One TIFF whose first directory was checked.

    Attributes:
        patched: the file without orientation and without further pictures.
    """

    height: int
    width: int
    patched: bytes = field(repr=False)

    def rebuilt(self) -> bytes:
        """The file as a decoder gets it."""
        return self.patched


def parse_tiff(data: bytes) -> Tiff:
    """Check the first directory.

    Raises:
        MalformedImageError: cut, or of a kind that is not supported; the message says which.
    """
    order = "<" if data[:2] == b"II" else ">"
    patched = bytearray(data)
    try:
        (directory,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, directory)
        if not 1 <= count <= MAX_ENTRIES:
            raise MalformedImageError("corrupt data", f"the TIFF has {count} entries in its directory")
        values: dict[int, int] = {}
        for number in range(count):
            place = directory + 2 + 12 * number
            tag, kind, length = struct.unpack_from(order + "HHI", data, place)
            if tag in values:
                raise MalformedImageError("corrupt data", f"the TIFF has the entry {tag} twice")
            values[tag] = _first_value(data, order, place, kind, length, tag)
            if tag == ORIENTATION:
                struct.pack_into(order + "HHIHH", patched, place, ORIENTATION, SHORT, 1, 1, 0)
        struct.pack_into(order + "I", patched, directory + 2 + 12 * count, 0)
    except struct.error as error:
        raise MalformedImageError("data too short", "the TIFF ends in its directory; fetch it again") from error
    if values.get(SUBFILE, 0) & REDUCED or values.get(OLD_SUBFILE) == OLD_REDUCED:
        raise MalformedImageError(
            "unusual TIFF",
            "the first picture of the TIFF is a preview of another one, as in raw files of photo cameras (DNG, NEF): "
            "convert it to PNG",
        )
    for tag, name, known in (
        (COMPRESSION, "compression", COMPRESSIONS),
        (COLOURS, "photometric interpretation", COLOUR_KINDS),
        (SAMPLE_FORMAT, "sample format", {1: "unsigned"}),
        (BITS, "bits a sample", {1: "", 8: "", 16: ""}),
        (SAMPLES, "samples a pixel", {1: "", 3: "", 4: ""}),
    ):
        if values.get(tag, 1) not in known:
            raise MalformedImageError(
                "unusual TIFF",
                f"the {name} of the TIFF is {values[tag]}; read are {', '.join(map(str, known))}: convert it to PNG",
            )
    if WIDTH not in values or HEIGHT not in values:
        raise MalformedImageError("corrupt data", "the TIFF does not say how large it is")
    return Tiff(values[HEIGHT], values[WIDTH], bytes(patched))


def _first_value(data: bytes, order: str, place: int, kind: int, length: int, tag: int) -> int:
    if kind not in (SHORT, LONG) or tag not in (BITS, SAMPLE_FORMAT):
        length = 1
    size = 2 if kind == SHORT else 4
    if length * size > 4:
        (place,) = struct.unpack_from(order + "I", data, place + 8)
    else:
        place += 8
    first = struct.unpack_from(order + ("H" if size == 2 else "I"), data, place)[0]
    return int(first)
