"""One slot for each camera, between the executor's thread and the inference thread."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Frame = TypeVar("Frame")


class FrameSlots(Generic[Frame]):
    """Holds the newest frame of each camera. A newer frame replaces an unread one, so no frame ages in a queue.

    The camera that was served longest ago is next, so that a fast camera does not starve the others.

    Args:
        cameras: number of cameras.
        clock: a monotonic clock, seconds.
    """

    def __init__(self, cameras: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._condition = threading.Condition()
        self._frames: list[Frame | None] = [None] * cameras
        self._turns = list(range(cameras))
        self._due = [-math.inf] * cameras
        self._interval_s = 0.0
        self._clock = clock
        self._closed = False

    def limit_rate(self, max_rate_hz: float) -> None:
        """Take at most this many frames a second from each camera; 0: no limit. Other frames are replaced unread."""
        with self._condition:
            self._interval_s = 1.0 / max_rate_hz if max_rate_hz > 0 else 0.0
            self._due = [-math.inf] * len(self._due)
            self._condition.notify()

    def put(self, camera: int, frame: Frame) -> Frame | None:
        """Store a frame. Returns the unread frame that it replaced, or None."""
        with self._condition:
            replaced, self._frames[camera] = self._frames[camera], frame
            self._condition.notify()
            return replaced

    def take(self) -> tuple[int, Frame] | None:
        """Wait for a frame. Returns the camera's number and the frame; None once the slots are closed and empty."""
        with self._condition:
            while True:
                now = self._clock()
                waiting = [camera for camera in self._turns if self._frames[camera] is not None]
                for camera in waiting:
                    if self._closed or self._due[camera] <= now:
                        return camera, self._serve(camera, now)
                if self._closed:
                    return None
                self._condition.wait(min(self._due[camera] for camera in waiting) - now if waiting else None)

    def _serve(self, camera: int, now: float) -> Frame:
        frame, self._frames[camera] = self._frames[camera], None
        assert frame is not None
        self._turns.remove(camera)
        self._turns.append(camera)
        # Counted from when it was due, so that waking up late does not lower the rate. After a pause, from now.
        late = now - self._due[camera] >= self._interval_s
        self._due[camera] = (now if late else self._due[camera]) + self._interval_s
        return frame

    def close(self) -> None:
        """Accept no more frames: `take` returns the frames that are left, then None."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
