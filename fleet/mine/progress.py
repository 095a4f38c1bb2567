"""What the command shows while it runs: how much is done, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

LOG_EVERY_S = 30.0
"""Seconds between two lines if there is no terminal for the bar."""


class FleetProgress:
    """Counts recordings by their bytes. A context manager.

    Args:
        sizes: name to bytes of the recordings that are left; unknown ones count as the mean of the others.
        clock: gives seconds.
    """

    def __init__(
        self, console: Console, sizes: Mapping[str, int | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        known = [size for size in sizes.values() if size]
        typical = max(1, sum(known) // len(known)) if known else 1
        self._sizes = {name: size or typical for name, size in sizes.items()}
        self._all, self._done = sum(self._sizes.values()), 0
        self._console, self._clock = console, clock
        self._begun = self._said = clock()
        self.ended = self.failed = 0
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
        self._bar = Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("begins", total=self._all)

    def __enter__(self) -> FleetProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def add(self, name: str, failed: bool) -> None:
        """A recording has ended."""
        self.ended += 1
        self.failed += failed
        self._done += self._sizes[name]

    def left(self) -> str:
        """How long the rest will take, if it takes as long for each byte as what is done."""
        if not self._done:
            return "time left is not known yet"
        seconds = (self._clock() - self._begun) * (self._all - self._done) / self._done
        return f"about {timedelta(seconds=round(seconds))} left"

    def text(self, workers: int, machines: int) -> str:
        """The state in a line."""
        failed = f", {self.failed} failed" if self.failed else ""
        return (
            f"{self.ended} of {len(self._sizes)} recordings{failed}; {workers} workers on {machines} machines; "
            f"{self.left()}"
        )

    def show(self, workers: int, machines: int) -> None:
        """Show the state, in a log only from time to time."""
        text = self.text(workers, machines)
        self._bar.update(self._task, completed=self._done, description=text)
        if not self._console.is_terminal and self._clock() - self._said >= LOG_EVERY_S:
            self._said = self._clock()
            self._console.print(text, markup=False, soft_wrap=True)
