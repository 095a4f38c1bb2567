"""A frame on its way from the subscription to the publishers."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from sensor_msgs.msg import CompressedImage, Image


class FrameClaim:
    """Who counts a frame: the inference thread, or the watchdog of its deadline. The first to claim it does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner: str | None = None

    def claim(self, owner: str) -> bool:
        """Claim the frame; whether it is this owner's, now and from now on."""
        with self._lock:
            if self._owner is None:
                self._owner = owner
            return self._owner == owner


@dataclass(frozen=True)
class ReceivedFrame:
    """A checked message.

    Attributes:
        message: as received.
        received_at: on the monotonic clock, seconds.
        claim: decides who counts the frame.
    """

    message: Image | CompressedImage
    received_at: float
    claim: FrameClaim = field(default_factory=FrameClaim, compare=False)
