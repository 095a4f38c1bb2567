"""Ends the process when it no longer responds, or cannot exit."""

from __future__ import annotations

import faulthandler
import threading
import time

BEAT_PERIOD_S = 1.0


class LastLine:
    """Ends the process with exit code 1, and all stacks on stderr, where Python code cannot.

    Code of a driver or of the middleware can keep Python's lock for ever; then no Python thread and no signal handler
    runs. An engine can hang in such a call. Fast DDS can hang at 100 % CPU when several processes exit at a time:
    `DomainParticipantImpl::set_listener` waits in a busy loop for a discovery callback that needs its lock to end
    (Fast-DDS issue 6513, seen with the build of ROS 2 from PyPI). The thread of `faulthandler` does not need that lock.

    One for each process: `faulthandler` has one timer. Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._leaving = False
        self._allowed_s = 0.0
        self._armed_at = 0.0

    def beat(self, silence_s: float) -> None:
        """End the process unless the next call comes within `silence_s`. Cheap: it sets the timer once a second."""
        now = time.monotonic()
        if silence_s == self._allowed_s and now - self._armed_at < BEAT_PERIOD_S:
            return
        with self._lock:
            if self._leaving:
                return
            self._allowed_s, self._armed_at = silence_s, now
            faulthandler.dump_traceback_later(silence_s + BEAT_PERIOD_S, exit=True)

    def leave_within(self, seconds: float) -> None:
        """End the process after this many seconds. From now on `beat` has no effect."""
        with self._lock:
            if not self._leaving:
                self._leaving = True
                faulthandler.dump_traceback_later(seconds, exit=True)

    def release(self) -> None:
        """Stop the timer for good."""
        with self._lock:
            self._leaving = True
            faulthandler.cancel_dump_traceback_later()
