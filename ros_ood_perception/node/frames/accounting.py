"""Where every frame went."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class AccountingSnapshot:
    """The counts at one moment. For every snapshot `sent` is the sum of all the others.

    Attributes:
        sent: frames that publishers sent since they were first heard: received ones and gaps in their numbering.
        lost_in_transport: gaps in the publishers' numbering.
        replaced_unread: a newer frame came before inference was free.
        too_old: older than `max_frame_age_ms` when its turn came.
        malformed: not the image that the message declares.
        failed: inference or publishing failed.
        published: results handed to the publishers.
        in_progress: waiting for inference, or in it (0 when the node is at rest).
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
"""How many publishers' numbering is kept: a publisher that restarts for ever must not fill the memory."""

FATES = ("replaced_unread", "too_old", "malformed", "failed", "published")


class FrameAccounting:
    """Counts the frames of one camera. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received = 0
        self._lost = 0
        self._fates = dict.fromkeys(FATES, 0)
        self._last_number: dict[bytes, int] = {}

    def receive(self, publisher: bytes, number: int | None) -> None:
        """A message arrived. `number` counts the messages of that publisher, None where the middleware does not."""
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
        """What is sent while nothing is subscribed is not lost: start each publisher's numbering anew."""
        with self._lock:
            self._last_number.clear()

    def settle(self, fate: str) -> None:
        """A received frame came to its end; `fate` is one of `FATES`."""
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
