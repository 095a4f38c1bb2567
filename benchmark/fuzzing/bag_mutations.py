"""Random changes of a bag's file: bytes, lengths, whole records or pages; some with the checksums corrected."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable

from benchmark.fuzzing.bag_corpus import MAGIC, Seed


def changed(seed: Seed, generator: random.Random) -> bytes:
    """The file of a bag after one to three random changes."""
    data = bytearray(seed.files[seed.changed])
    changes = _CHANGES[seed.changed.rpartition(".")[2].partition("-")[0]]
    for _ in range(generator.choice((1, 1, 1, 2, 3))):
        data = generator.choice(changes)(data, generator, seed)
    return bytes(data)


def _flip(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    if data:
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
    return data


def _flip_last_part(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    begin = min(seed.last_part, max(len(data) - 1, 0))
    if data:
        data[generator.randrange(begin, len(data))] = generator.randrange(256)
    return data


def _number(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    size = generator.choice((1, 2, 4, 8))
    value = generator.choice((0, 1, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1))
    place = generator.randrange(max(1, len(data) - size))
    data[place : place + size] = (value % 256**size).to_bytes(size, generator.choice(("little", "big")))
    return data


def _cut(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    return data[: generator.randrange(len(data) + 1)]


def _block(data: bytearray, generator: random.Random) -> tuple[int, int]:
    begin = generator.randrange(len(data) + 1)
    return begin, min(len(data), begin + int(2 ** generator.uniform(0, 10)))


def _remove(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    begin, end = _block(data, generator)
    del data[begin:end]
    return data


def _duplicate(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    begin, end = _block(data, generator)
    place = generator.choice((end, generator.randrange(len(data) + 1)))
    data[place:place] = data[begin:end]
    return data


def _overwrite(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    begin, end = _block(data, generator)
    filled = generator.choice((bytes(end - begin), b"\xff" * (end - begin), generator.randbytes(end - begin)))
    data[begin:end] = filled
    return data


def _records(data: bytearray) -> list[tuple[int, int]]:
    """Begin and end of each record of an MCAP file."""
    found, position = [], len(MAGIC)
    while position + 9 <= len(data):
        end = position + 9 + int.from_bytes(data[position + 1 : position + 9], "little")
        if end > len(data):
            break
        found.append((position, end))
        position = end
    return found


def _move_record(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    found = _records(data)
    if found:
        begin, end = generator.choice(found)
        record = data[begin:end]
        if generator.random() < 0.6:
            del data[begin:end]
        place = generator.choice([begin for begin, _ in _records(data)] or [0])
        if generator.random() < 0.7:
            data[place:place] = record
    return data


def _record_field(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    """Change the kind or length of a record, or one of its first fields."""
    found = _records(data)
    if found:
        begin, end = generator.choice(found)
        place = min(begin + generator.choice((0, *range(1, 9), *range(9, 60))), end - 1)
        data[place] = generator.choice((data[place] ^ 1, data[place] ^ 0x80, 0, 255, generator.randrange(256)))
    return data


def _summary_with_sum(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    """Change a byte of the summary and correct the checksum of the summary."""
    if len(data) == len(seed.files[seed.changed]):
        data[generator.randrange(seed.last_part, len(data) - 12)] = generator.randrange(256)
        data[-12:-8] = struct.pack("<I", zlib.crc32(data[seed.last_part : -12]))
    return data


def _page(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    """Replace a page by another one, or by zeros."""
    pages = len(data) // 4096
    if pages > 1:
        to, source = (4096 * generator.randrange(pages) for _ in range(2))
        data[to : to + 4096] = data[source : source + 4096] if generator.random() < 0.7 else bytes(4096)
    return data


def _page_header(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    """Change a byte in the header of a page."""
    pages = len(data) // 4096
    if pages:
        place = 4096 * generator.randrange(pages) + generator.randrange(40)
        data[place] = generator.choice((data[place] ^ 1, data[place] ^ 8, 0, 255, generator.randrange(256)))
    return data


_TOKENS = (
    b"<<: *a", b"&a ", b"*a", b"- ", b"[", b"{", b": ", b"\n", b"\t", b"'", b'"', b"|", b"!!python/object:os.system ",
    b"1e999", b".inf", b"-1", b"9" * 5000, b"null", b"../", b"/dev/zero", b"true", b"2026-13-45", b"[" * 500, b"---\n",
    b"%YAML 9\n", b"\xff\xfe",
)  # fmt: skip


def _token(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    place = generator.randrange(len(data) + 1)
    data[place : place + generator.choice((0, 1, 5))] = generator.choice(_TOKENS)
    return data


def _line(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    lines = bytes(data).split(b"\n")
    place = generator.randrange(len(lines))
    line = lines.pop(place)
    if generator.random() < 0.6:
        lines.insert(generator.randrange(len(lines) + 1), line)
    return bytearray(b"\n".join(lines))


Change = Callable[[bytearray, random.Random, Seed], bytearray]
_ANY: tuple[Change, ...] = (_flip, _flip, _flip_last_part, _number, _cut, _remove, _duplicate, _overwrite)
_CHANGES: dict[str, tuple[Change, ...]] = {
    "mcap": (*_ANY, _move_record, _record_field, _record_field, _summary_with_sum, _summary_with_sum),
    "bag": _ANY,
    "db3": (*_ANY, _page, _page_header, _page_header),
    "yaml": (*_ANY, _token, _token, _line, _line),
}
