"""Numbers of a command line: each within its range, and never NaN or infinite. Types for `argparse`."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable

from ros_ood_perception.shown_text import printable

LARGEST_SEED = 2**63 - 1
MOST_THREADS = 256
"""As the node's parameter `num_threads` has it."""


def whole(least: int, most: int) -> Callable[[str], int]:
    """A whole number from `least` to `most`."""

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


def _span(least: float, most: float) -> str:
    return f"from {least:g} to {most:g}" if isinstance(least, float) else f"from {least} to {most}"
