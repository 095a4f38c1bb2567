"""Changes in the log, at a limited rate: what flaps must not fill the log, and its last state must be in it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Literal, Protocol

Severity = Literal["info", "warning", "error"]

MOST_LINES = 10
PERIOD_S = 60.0
"""At most `MOST_LINES` lines in any `PERIOD_S` seconds."""


class Log(Protocol):
    """A logger, such as a node's."""

    def info(self, message: str) -> object:
        """Log a line for information."""

    def warning(self, message: str) -> object:
        """Log a warning."""

    def error(self, message: str) -> object:
        """Log an error."""


class ChangeLog:
    """Logs changes, at most `MOST_LINES` in `PERIOD_S`. Thread-safe.

    Lines above the limit are left out. As soon as the limit allows, the newest of them is logged, with the number of
    those that were left out.

    Args:
        log: the node's logger.
        prefix: beginning of every line, such as the camera's name.
        clock: a monotonic clock, seconds.
    """

    def __init__(self, log: Log, prefix: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._prefix = prefix
        self._clock = clock
        self._lock = threading.Lock()
        self._logged_at: deque[float] = deque(maxlen=MOST_LINES)
        self._waiting: tuple[Severity, str] | None = None
        self._left_out = 0

    def add(self, severity: Severity, text: str) -> None:
        """Log a change now, or keep it until the limit allows."""
        with self._lock:
            if self._waiting is not None:
                self._left_out += 1
            self._waiting = (severity, text)
        self.flush()

    def flush(self) -> None:
        """Log the change that waits, if the limit allows. To be called every second or so."""
        with self._lock:
            now = self._clock()
            full = len(self._logged_at) == MOST_LINES and now - self._logged_at[0] < PERIOD_S
            if self._waiting is None or full:
                return
            self._logged_at.append(now)
            (severity, text), self._waiting = self._waiting, None
            left_out, self._left_out = self._left_out, 0
        limit = f"at most {MOST_LINES} such lines are logged in {PERIOD_S:.0f} s"
        said = f" ({left_out} lines before this one were left out: {limit})" if left_out else ""
        self._write(severity, f"{self._prefix}{text}{said}")

    def _write(self, severity: Severity, line: str) -> None:
        # On a line each: rclpy refuses another severity from the same line of code.
        if severity == "error":
            self._log.error(line)
        elif severity == "warning":
            self._log.warning(line)
        else:
            self._log.info(line)
