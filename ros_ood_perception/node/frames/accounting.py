"""Counts how every frame ended."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass

from ros_ood_perception.node.frames.losses import Losses
from ros_ood_perception.pipeline.fates import RECEIVED_FATES, REPLACED_UNREAD


@dataclass(frozen=True)
class AccountingSnapshot:
    """The counts at one moment. In every snapshot `sent` is the sum of all the others. See `pipeline.fates`.

    Attributes:
        sent: frames received, plus frames lost.
        lost_in_transport: `by_middleware` plus `overwritten` of `FrameAccounting.losses`.
        in_progress: frames that wait for inference or are in it; 0 when the node is at rest.
    """

    sent: int
    lost_in_transport: int
    replaced_unread: int
    too_old: int
    malformed: int
    failed: int
    asleep: int
    computed: int
    published: int
    in_progress: int

    def as_dict(self) -> dict[str, int]:
        """Field names and counts, in this order."""
        return asdict(self)


MAX_PUBLISHERS = 64
"""Publishers whose last number is kept. A publisher that restarts again and again must not fill the memory."""


class FrameAccounting:
    """Counts the frames of one camera. Thread-safe.

    Two sources tell of losses. The middleware reports them, also those before the first frame and after the last one of
    a publisher, but not what a newer frame replaced in the subscription's queue. Gaps in a publisher's numbering hold
    both, but are seen only between two frames that came. A lost frame must be counted once, so a report and a gap
    cancel each other, whichever comes first.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received = 0
        self._reported = 0
        self._overwritten = 0
        # Of the publishers as they are now: reports that no gap has shown yet, and gaps that no report has explained.
        self._reported_ahead = 0
        self._unexplained = 0
        self._fates = dict.fromkeys(RECEIVED_FATES, 0)
        self._last_number: dict[bytes, int] = {}

    def receive(self, publisher: bytes, number: int | None) -> None:
        """Count a message. `number` is the publisher's own number for it; None if the middleware has none."""
        with self._lock:
            self._received += 1
            if number is None:
                return
            last = self._last_number.get(publisher)
            if last is None:
                # What was reported before was lost before its first frame. No gap will show it.
                self._reported_ahead = self._unexplained = 0
            elif number > last + 1:
                gap = number - last - 1
                explained = min(gap, self._reported_ahead)
                self._reported_ahead -= explained
                self._unexplained += gap - explained
                self._overwritten += gap - explained
            # The newest last, so that the first is the one that was silent longest.
            self._last_number.pop(publisher, None)
            self._last_number[publisher] = number
            if len(self._last_number) > MAX_PUBLISHERS:
                del self._last_number[next(iter(self._last_number))]

    def lose(self, count: int) -> None:
        """Count frames that the middleware reported as lost."""
        with self._lock:
            self._reported += count
            explained = min(count, self._unexplained)
            self._unexplained -= explained
            self._overwritten -= explained
            self._reported_ahead += count - explained

    def forget_publishers(self) -> None:
        """Forget the publishers' last numbers. Frames sent while nothing was subscribed do not count as lost."""
        with self._lock:
            self._last_number.clear()

    def losses(self) -> Losses:
        """The counts of losses from the beginning.

        A frame that is missing in the numbering and was not reported counts as overwritten. That count falls when the
        report comes after the gap that it explains.
        """
        with self._lock:
            return Losses(self._received, self._reported, self._overwritten, self._fates[REPLACED_UNREAD])

    def count(self, fate: str) -> None:
        """Count the end of a received frame, one of `RECEIVED_FATES`."""
        with self._lock:
            self._fates[fate] += 1

    def snapshot(self) -> AccountingSnapshot:
        """All counts at one moment."""
        with self._lock:
            return AccountingSnapshot(
                sent=self._received + self._reported + self._overwritten,
                lost_in_transport=self._reported + self._overwritten,
                in_progress=self._received - sum(self._fates.values()),
                **self._fates,
            )
