"""Numbers on a command line, as types for `argparse`: within their range, and never NaN or infinite."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable

from ros_ood_perception.shown_text import printable

LARGEST_SEED = 2**63 - 1
MOST_THREADS = 256
"""The limit of the node's parameter `num_threads`."""


def whole(least: int, most: int) -> Callable[[str], int]:
    """A whole number from `least` to `most`.

    >>> whole(1, 64)("8")
    8
    """

    def number(text: str) -> int:
        # Python reads underscores and the digits of every script, and refuses more than 4300 of them.
        value = int(text) if re.fullmatch(r"[+-]?[0-9]{1,30}", text) else None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(
                f"is {printable(text, 60)}; it must be a whole number {_span(least, most)}"
            )
        return value

    return number


def real(least: float, most: float, above: bool = False) -> Callable[[str], float]:
    """A number from `least` to `most`.

    Args:
        above: `least` itself is not allowed.

    >>> real(0.0, 1.0)("0.25")
    0.25
    """

    def number(text: str) -> float:
        try:
            value = float(text) if text.isascii() and "_" not in text else math.nan
        except ValueError:
            value = math.nan
        # NaN compares false with both ends.
        if not least <= value <= most or (above and value == least):
            span = f"above {least:g} and at most {most:g}" if above else _span(least, most)
            raise argparse.ArgumentTypeError(f"is {printable(text, 60)}; it must be a number {span}")
        return value

    return number


def image_size(text: str) -> tuple[int, int]:
    """Height and width in pixels, each at least 1.

    >>> image_size("1080x1920")
    (1080, 1920)
    """
    return _sides(text, "HEIGHTxWIDTH, such as 1080x1920")


def width_by_height(text: str) -> tuple[int, int]:
    """Width and height in pixels, each at least 1.

    >>> width_by_height("640x480")
    (640, 480)
    """
    return _sides(text, "WIDTHxHEIGHT, such as 640x480")


def _sides(text: str, wanted: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", text)
    first, second = map(int, found.groups()) if found else (0, 0)
    if not (first and second):
        raise argparse.ArgumentTypeError(f"is {printable(text, 60)}; it must be {wanted}, in pixels")
    return first, second


def _span(least: float, most: float) -> str:
    return f"from {least:g} to {most:g}" if isinstance(least, float) else f"from {least} to {most}"
