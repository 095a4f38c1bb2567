"""A bag of several files: which parts are missing, and messages that two files share."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

_NUMBERED = re.compile(r"(.+_)(0|[1-9]\d{0,3})")
_START_TIME = re.compile(r"\d{4}(-\d\d){5}")
MAX_NAMES = 10
"""Largest number of names in one sentence."""

FileMessage = tuple[int, str | None, bytes, int]
"""Time in nanoseconds, topic, the serialised message, number of the file."""


def missing_parts(stems: Sequence[str]) -> tuple[list[str], list[str]]:
    """What the numbers in the names of a bag's files say, where no `metadata.yaml` lists them.

    rosbag2 numbers the parts of a recording from 0, and so does ROS 1, which adds the time of each part.

    Args:
        stems: names of the files without their endings.

    Returns:
        Sentences about parts that must be missing, and notes on names that may mean it.

    >>> missing_parts(["drive_0", "drive_3"])[0]
    ['drive_N: the parts with N = 1, 2 are missing; put them into the folder']
    >>> missing_parts(["drive_4", "drive_5"])[1]
    ['drive_N: the first part has N = 4; latched topics such as /tf_static are often in part 0']
    >>> missing_parts(["front", "rear"])[1]
    ['the files have the names of 2 recordings (front, rear); they are read as one']
    """
    parts: dict[str, list[int]] = {}
    for stem in dict.fromkeys(stems):
        found = _NUMBERED.fullmatch(stem)
        name = stem if found is None else _START_TIME.sub("", found[1])
        parts.setdefault(name, []).extend([] if found is None else [int(found[2])])
    damage, notes = [], []
    for name, numbers in parts.items():
        missing = sorted({*range(min(numbers, default=0), max(numbers, default=0))} - {*numbers})
        sentence = f"{name}N: the parts with N = {listed([str(n) for n in missing])} are missing"
        if missing and min(numbers) == 0:
            damage.append(f"{sentence}; put them into the folder")
        elif missing and len(missing) < len(numbers):
            # Numbers that begin elsewhere may mean something else, such as dates.
            notes.append(sentence)
        if len(numbers) > 1 and min(numbers) > 0:
            notes.append(
                f"{name}N: the first part has N = {min(numbers)}; latched topics such as /tf_static are often in part 0"
            )
    if len(parts) > 1:
        names = listed([name.removesuffix("_") for name in parts])
        notes.append(f"the files have the names of {len(parts)} recordings ({names}); they are read as one")
    return damage, notes


def listed(names: Sequence[str]) -> str:
    """At most `MAX_NAMES` of them, and how many there are more.

    >>> listed(["a", "b"])
    'a, b'
    """
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def without_copies(messages: Iterable[FileMessage], copies: Counter[str]) -> Iterator[FileMessage]:
    """The messages without those that an earlier file holds as well: same time, topic and bytes.

    A repaired or converted file often lies beside the original. Equal messages of one file are kept.

    Args:
        messages: in the order of their times.
        copies: topic to number of messages that were left out; added to.
    """
    now: int | None = None
    seen: list[FileMessage] = []
    for message in messages:
        time_ns, topic, raw, number = message
        if time_ns != now:
            now = time_ns
            seen.clear()
        if topic is not None:
            # Each message of the other file stands for one of this one.
            twin = next((n for n, one in enumerate(seen) if one[3] != number and one[1:3] == (topic, raw)), None)
            if twin is not None:
                del seen[twin]
                copies[topic] += 1
                continue
            seen.append(message)
        yield message
