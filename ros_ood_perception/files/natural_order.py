"""The order of file names in which frame2 comes before frame10."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"(?<![0-9])([0-9]{10})\.([0-9]+)(?![0-9])|[0-9]+")
"""Seconds since 1970 with a fraction, or any other run of digits."""
_DIGITS = 255
"""More than a file name has characters."""


def natural_key(name: str) -> tuple[str, str]:
    """Key of a name for `sorted`: runs of digits count as numbers.

    Names whose numbers have the same width keep the order that they have without this key.

    >>> sorted(["frame10.png", "frame2.png", "frame1.png"], key=natural_key)
    ['frame1.png', 'frame2.png', 'frame10.png']

    The fraction of a time in seconds since 1970 is no number of its own:

    >>> sorted(["1700000000.5.png", "1700000000.25.png"], key=natural_key)
    ['1700000000.25.png', '1700000000.5.png']
    """
    return _NUMBER.sub(_padded, name), name


def _padded(found: re.Match[str]) -> str:
    if found[1] is not None:
        return f"{found[1].zfill(_DIGITS)}.{found[2]}"
    return found[0].zfill(_DIGITS)
