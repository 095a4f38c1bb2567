"""One slot between the executor's thread and the inference thread."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

Frame = TypeVar("Frame")


class LatestFrame(Generic[Frame]):
    """Holds the newest frame: a newer one replaces an unread one, so what is read is never stale behind a queue."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._frame: Frame | None = None
        self._closed = False

    def put(self, frame: Frame) -> Frame | None:
        """Leave a frame; gives back the unread frame that it replaced, or None."""
        with self._condition:
            replaced, self._frame = self._frame, frame
            self._condition.notify()
            return replaced

    def take(self) -> Frame | None:
        """Wait for a frame and take it; None once the slot is closed and empty."""
        with self._condition:
            while self._frame is None and not self._closed:
                self._condition.wait()
            frame, self._frame = self._frame, None
            return frame

    def close(self) -> None:
        """No more frames will come: `take` gives what is left, then None."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
