"""A camera's states and warnings in the log: one line at each change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from ros_ood_perception.node.health.change_log import ChangeLog, Log
from ros_ood_perception.node.health.health import FRAMES_LOST, CameraHealth

BAD_STATES = ("stale", "rejected", "failed")
"""States that are errors in /diagnostics, and in the log."""


class StateLog:
    """Logs when a camera's state or warnings change. Thread-safe.

    The state `inactive` is not logged: the node logs its transitions. `waiting` is logged once it has lasted for
    `stale_after_s`. States and warnings have a limit each, so that a flapping warning cannot hide a change of state.

    Args:
        log: the node's logger.
        prefix: beginning of every line, such as the camera's name.
        clock: a monotonic clock, seconds.
    """

    def __init__(self, log: Log, prefix: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self._states = ChangeLog(log, prefix, clock)
        self.warnings = ChangeLog(log, prefix, clock)
        """Other changes of the camera, such as of its image size, may go here too."""
        self._clock = clock
        self._lock = threading.Lock()
        self._state = "inactive"
        self._since = clock()
        self._pictures: Mapping[str, str] = {}
        self._kinds: set[str] = set()

    def see(self, health: CameraHealth, stale_after_s: float) -> None:
        """Compare the camera's health with the last one.

        Args:
            health: with the reason, and with all warnings.
            stale_after_s: how long the camera may wait for its first frame before that is logged.
        """
        with self._lock:
            self._see_state(health, self._clock(), stale_after_s)
            warnings = dict(health.implausible)
            if health.state == "active":
                self._pictures = {kind: text for kind, text in warnings.items() if kind != FRAMES_LOST}
            # Without results nothing new is known of the pictures.
            self._see_warnings({**self._pictures, **warnings})
        self._states.flush()
        self.warnings.flush()

    def _see_state(self, health: CameraHealth, now: float, stale_after_s: float) -> None:
        state = health.state
        if state == "waiting" and self._state == "inactive":
            self._state, self._since = "starting", now
        if state == "waiting" and self._state == "starting" and now - self._since <= stale_after_s:
            return
        if state == self._state:
            return
        if state == "inactive":
            self._pictures, self._kinds = {}, set()
        after = "" if self._state in ("inactive", "starting") else f" after {now - self._since:.1f} s '{self._state}'"
        if (self._state, state) != ("starting", "waiting"):
            self._since = now
        self._state = state
        line = f"{state}{after}" + (f": {health.reason}" if health.reason else "")
        if state in BAD_STATES:
            self._states.add("error", line)
        elif state == "waiting":
            self._states.add("warning", line)
        elif state != "inactive":
            self._states.add("info", line)

    def _see_warnings(self, warnings: Mapping[str, str]) -> None:
        begun = [kind for kind in warnings if kind not in self._kinds]
        ended = sorted(self._kinds - set(warnings))
        self._kinds = set(warnings)
        for kind in begun:
            self.warnings.add("warning", f"{kind}: {warnings[kind]}")
        if ended:
            self.warnings.add("info", f"no longer: {', '.join(ended)}")
