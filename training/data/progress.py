"""A progress bar over frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console

from ros_ood_perception.progress_bar import progress_bar

Item = TypeVar("Item")


def tracked(items: Sequence[Item], title: str) -> Iterator[Item]:
    """The items, with a progress bar on standard error where that is a terminal."""
    with progress_bar(Console(stderr=True)) as bar:
        yield from bar.track(items, description=title)
