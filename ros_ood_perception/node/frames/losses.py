"""How many of a camera's frames were lost in the last seconds."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

WINDOW_S = 10.0
"""Losses are judged over the last this many seconds."""
WARN_SHARE = 0.05
WARN_FRAMES = 3
"""So many frames must be lost too, so that a single one of a slow camera is no rate."""


@dataclass(frozen=True)
class Losses:
    """Counts of frames, from the beginning or of the last `WINDOW_S` seconds.

    Attributes:
        received: frames that came.
        by_middleware: frames that the middleware reported as lost.
        overwritten: frames that a newer one replaced in the subscription's queue.
        replaced: received frames that a newer one replaced before inference was free.
    """

    received: int = 0
    by_middleware: int = 0
    overwritten: int = 0
    replaced: int = 0

    @property
    def lost(self) -> int:
        """Number of frames that did not come."""
        return self.by_middleware + self.overwritten

    @property
    def share(self) -> float:
        """Lost frames of all frames that were sent, 0 to 1."""
        return self.lost / (self.lost + self.received) if self.lost else 0.0

    @property
    def too_many(self) -> bool:
        """Whether a user must be warned.

        Where inference is too slow for all frames that came, it could not have used those overwritten in the queue.
        """
        missed = self.by_middleware + (0 if self.replaced else self.overwritten)
        return missed >= WARN_FRAMES and missed > WARN_SHARE * (self.lost + self.received)


class LossWindow:
    """Keeps the counts of the last `WINDOW_S` seconds. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: deque[tuple[float, Losses]] = deque()

    def restart(self) -> None:
        """Forget all counts: the camera was activated."""
        with self._lock:
            self._counts.clear()

    def look(self, now: float, totals: Losses) -> Losses:
        """Take the counts so far. Returns those of the last `WINDOW_S` seconds, or since `restart` if that is less.

        Args:
            now: time of a monotonic clock, seconds.
            totals: the counts from the beginning.
        """
        with self._lock:
            # The inference thread and the executor's thread may come in another order than they read the clock.
            self._counts.append((now, totals))
            while self._counts[0][0] < now - WINDOW_S:
                self._counts.popleft()
            first = self._counts[0][1]
        return Losses(
            received=totals.received - first.received,
            by_middleware=totals.by_middleware - first.by_middleware,
            # This total falls when a late report explains a gap.
            overwritten=max(0, totals.overwritten - first.overwritten),
            replaced=totals.replaced - first.replaced,
        )
