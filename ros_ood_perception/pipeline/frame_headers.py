"""What the headers of a camera's frames say about its results: stamps that cannot be right, and frame_ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_FRAME_IDS = 8
"""Largest number of different frame_ids that are kept."""


class FrameHeaders:
    """Counts the headers of one camera's frames that make results doubtful.

    Attributes:
        count: number of headers.
        zero_stamps: number of stamps that are 0.
        unordered_stamps: number of other stamps that are not after that of the frame before.
        frame_ids: the frame_ids, in the order in which they came, at most `MAX_FRAME_IDS`.

    >>> headers = FrameHeaders()
    >>> for stamp_ns in (10, 20, 20, 15, 30):
    ...     headers.add(stamp_ns, "camera")
    >>> headers.unordered_stamps, headers.frame_ids
    (2, ['camera'])
    """

    def __init__(self) -> None:
        self.count = self.zero_stamps = self.unordered_stamps = self._last_ns = 0
        self.frame_ids: list[str] = []

    def add(self, stamp_ns: int, frame_id: str) -> None:
        """Take the header of the next frame that is used.

        Args:
            stamp_ns: nanoseconds, 0 or more.
            frame_id: of the header.
        """
        self.count += 1
        if stamp_ns == 0:
            self.zero_stamps += 1
        elif stamp_ns <= self._last_ns:
            self.unordered_stamps += 1
        self._last_ns = stamp_ns
        if frame_id not in self.frame_ids and len(self.frame_ids) < MAX_FRAME_IDS:
            self.frame_ids.append(frame_id)

    def zero_stamp_problem(self, topic: str) -> str:
        """What frames with the stamp 0 mean for the results; "" if there are none."""
        if not self.zero_stamps:
            return ""
        if self.zero_stamps == self.count:
            tracking = "so obstacles have the age 0 s, and a gap between frames is not noticed"
        else:
            tracking = "so obstacles are forgotten at each change between stamps of 0 and others"
        return (
            f"{self.zero_stamps} of {self.count} frames of {topic} have the stamp 0, {tracking}; results can be "
            "matched with such frames by their order only, not by stamp; set header.stamp where the images are made"
        )

    def unordered_stamp_problem(self, topic: str) -> str:
        """What stamps that go back or repeat mean for the results; "" if there are none."""
        if not self.unordered_stamps:
            return ""
        return (
            f"{self.unordered_stamps} of {self.count} frames of {topic} have a stamp that is not after that of the "
            "frame before; obstacles are forgotten where stamps go back, and frames with one stamp cannot be told "
            "apart; check header.stamp in the driver, for a clock that was set, and for two publishers of this topic"
        )

    def state(self) -> dict[str, Any]:
        """The data needed to continue after the last frame, as plain values (JSON)."""
        return {
            "count": self.count,
            "zero_stamps": self.zero_stamps,
            "unordered_stamps": self.unordered_stamps,
            "last_ns": self._last_ns,
            "frame_ids": self.frame_ids,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        self.count, self.zero_stamps = state["count"], state["zero_stamps"]
        self.unordered_stamps, self._last_ns = state["unordered_stamps"], state["last_ns"]
        self.frame_ids = list(state["frame_ids"])
