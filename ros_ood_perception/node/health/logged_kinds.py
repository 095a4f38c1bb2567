"""Problems that may come with every frame: each kind is logged once and counted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable


class LoggedKinds:
    """Counts events by kind and logs the first of each. Thread-safe.

    Args:
        log: called with one line.
        prefix: beginning of every line, such as the camera's name.
    """

    def __init__(self, log: Callable[[str], None], prefix: str = "") -> None:
        self._log = log
        self._prefix = prefix
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, kind: str, text: str, count: int = 1) -> None:
        """Count an event, or `count` of them. Kinds must be few and not depend on the contents of messages."""
        with self._lock:
            first = not self._counts[kind]
            self._counts[kind] += count
        if first:
            self._log(f"{self._prefix}{text} (logged once; counted in /diagnostics as '{kind}')")

    def counts(self) -> dict[str, int]:
        """Number of events by kind."""
        with self._lock:
            return dict(self._counts)
