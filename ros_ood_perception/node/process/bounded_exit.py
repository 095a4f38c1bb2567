"""A process that no longer answers, or cannot leave, ends all the same."""

from __future__ import annotations

import faulthandler
import threading
import time

BEAT_PERIOD_S = 1.0


class LastLine:
    """Ends the process with exit code 1 and all stacks on stderr where Python cannot: `faulthandler` has a thread that
    does without Python's lock.

    Code of a driver or of the middleware can keep that lock for ever, and no Python thread and no signal handler runs
    any more: an engine that hangs in a call which does not let go of it, or Fast DDS, which can hang at 100 % CPU when
    a process leaves while others do (`DomainParticipantImpl::set_listener` waits in a busy loop for a discovery
    callback that needs its lock to end: Fast-DDS issue 6513, seen with the build of ROS 2 from PyPI).

    One for a process: `faulthandler` has one timer. Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._leaving = False
        self._allowed_s = 0.0
        self._armed_at = 0.0

    def beat(self, silence_s: float) -> None:
        """The process is alive; without another beat within so many seconds it ends. Cheap: armed once a second."""
        now = time.monotonic()
        if silence_s == self._allowed_s and now - self._armed_at < BEAT_PERIOD_S:
            return
        with self._lock:
            if self._leaving:
                return
            self._allowed_s, self._armed_at = silence_s, now
            faulthandler.dump_traceback_later(silence_s + BEAT_PERIOD_S, exit=True)

    def leave_within(self, seconds: float) -> None:
        """The process is about to leave: whatever keeps it longer ends it. Beats change nothing any more."""
        with self._lock:
            if not self._leaving:
                self._leaving = True
                faulthandler.dump_traceback_later(seconds, exit=True)

    def release(self) -> None:
        """Nothing ends the process any more."""
        with self._lock:
            self._leaving = True
            faulthandler.cancel_dump_traceback_later()
