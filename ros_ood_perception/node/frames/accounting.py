"""Counts how every frame ended."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass

from ros_ood_perception.pipeline.fates import RECEIVED_FATES


@dataclass(frozen=True)
class AccountingSnapshot:
    """The counts at one moment. In every snapshot `sent` is the sum of all the others. See `pipeline.fates`.

    Attributes:
        sent: frames received, plus gaps in each publisher's numbering since it was first heard.
        in_progress: frames that wait for inference or are in it; 0 when the node is at rest.
    """

    sent: int
    lost_in_transport: int
    replaced_unread: int
    too_old: int
    malformed: int
    failed: int
    published: int
    in_progress: int

    def as_dict(self) -> dict[str, int]:
        """Field names and counts, in this order."""
        return asdict(self)


MAX_PUBLISHERS = 64
"""Publishers whose last number is kept. A publisher that restarts again and again must not fill the memory."""


class FrameAccounting:
    """Counts the frames of one camera. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received = 0
        self._lost = 0
        self._fates = dict.fromkeys(RECEIVED_FATES, 0)
        self._last_number: dict[bytes, int] = {}

    def receive(self, publisher: bytes, number: int | None) -> None:
        """Count a message. `number` is the publisher's own number for it; None if the middleware has none."""
        with self._lock:
            self._received += 1
            if number is None:
                return
            last = self._last_number.get(publisher)
            if last is not None and number > last + 1:
                self._lost += number - last - 1
            # The newest last, so that the first is the one that was silent longest.
            self._last_number.pop(publisher, None)
            self._last_number[publisher] = number
            if len(self._last_number) > MAX_PUBLISHERS:
                del self._last_number[next(iter(self._last_number))]

    def forget_publishers(self) -> None:
        """Forget the publishers' last numbers. Frames sent while nothing was subscribed do not count as lost."""
        with self._lock:
            self._last_number.clear()

    def count(self, fate: str) -> None:
        """Count the end of a received frame, one of `RECEIVED_FATES`."""
        with self._lock:
            self._fates[fate] += 1

    def snapshot(self) -> AccountingSnapshot:
        """All counts at one moment."""
        with self._lock:
            return AccountingSnapshot(
                sent=self._received + self._lost,
                lost_in_transport=self._lost,
                in_progress=self._received - sum(self._fates.values()),
                **self._fates,
            )
