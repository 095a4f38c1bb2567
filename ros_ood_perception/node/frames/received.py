"""A frame on its way from the subscription to the publishers."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from sensor_msgs.msg import CompressedImage, Image


class FrameClaim:
    """Decides who counts a frame: the inference thread or the watchdog of its deadline, whichever claims it first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner: str | None = None

    def claim(self, owner: str) -> bool:
        """Try to claim the frame. Returns whether this owner has it."""
        with self._lock:
            if self._owner is None:
                self._owner = owner
            return self._owner == owner


@dataclass(frozen=True)
class ReceivedFrame:
    """A checked message.

    Attributes:
        message: the message as received.
        received_at: time of arrival on the monotonic clock, seconds.
        claim: decides who counts the frame.
    """

    message: Image | CompressedImage
    received_at: float
    claim: FrameClaim = field(default_factory=FrameClaim, compare=False)
