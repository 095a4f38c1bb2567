"""Problems that may come with every frame: a kind is logged when it begins, and counted."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

QUIET_S = 60.0
"""A kind that has not come for this long is logged again when it comes back, seconds."""


class LoggedKinds:
    """Counts events by kind, and logs the first of each and of each return after `QUIET_S`. Thread-safe.

    Args:
        log: called with one line.
        prefix: beginning of every line, such as the camera's name.
        clock: a monotonic clock, seconds.
    """

    def __init__(
        self, log: Callable[[str], None], prefix: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._prefix = prefix
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._last: dict[str, float] = {}

    def add(self, kind: str, text: str, count: int = 1) -> None:
        """Count an event, or `count` of them. Kinds must be few and not depend on the contents of messages."""
        now = self._clock()
        with self._lock:
            before, last = self._counts[kind], self._last.get(kind)
            self._counts[kind] += count
            self._last[kind] = now
        if last is None:
            self._log(f"{self._prefix}{text} (logged once; counted in /diagnostics as '{kind}')")
        elif now - last > QUIET_S:
            self._log(
                f"{self._prefix}{text} (again after {now - last:.0f} s; {before} before, counted in /diagnostics as "
                f"'{kind}')"
            )

    def count(self, kind: str) -> None:
        """Count an event that something else logs."""
        with self._lock:
            self._counts[kind] += 1

    def counts(self) -> dict[str, int]:
        """Number of events by kind."""
        with self._lock:
            return dict(self._counts)
