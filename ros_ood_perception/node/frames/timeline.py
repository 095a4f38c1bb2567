"""The stamps of a camera: how old a frame is, and whether time went back."""

from __future__ import annotations

from dataclasses import dataclass

FUTURE_TOLERANCE_NS = 500_000_000
"""Stamps farther ahead of the node's clock than this mean that the two clocks differ."""

LONGEST_AGE_MS = 3_600_000.0
"""A frame that seems older has the stamp of another clock: of a bag, or of a driver that counts from its start."""


@dataclass(frozen=True)
class FrameTime:
    """One stamp compared with the one before it and with the node's clock.

    Attributes:
        age_ms: node's clock minus stamp; None while the node's clock is at 0 (simulated time, and no /clock yet).
        went_back: the stamp is before the last frame's: a bag began again, or a clock was set back.
        repeated: the stamp is the last frame's.
        in_future: the stamp is ahead of the node's clock by more than the tolerance.
    """

    age_ms: float | None
    went_back: bool
    repeated: bool
    in_future: bool

    @property
    def one_clock(self) -> bool:
        """Whether stamp and node's clock can be the same clock, so that `age_ms` is an age."""
        return self.age_ms is not None and abs(self.age_ms) <= LONGEST_AGE_MS

    def problems(self) -> dict[str, str]:
        """What is wrong with the stamp, kind to sentence; empty if nothing is."""
        found = {}
        if self.went_back:
            found["stamp went back"] = (
                "a frame's stamp is before the one of the frame before it: a bag began again, a clock was set back, or "
                "two publishers share the topic. The frame is used, and earlier frames are forgotten"
            )
        if self.repeated:
            found["stamp repeated"] = "two frames have the same stamp; the camera driver must stamp each"
        if self.in_future:
            found["stamp in the future"] = (
                f"a frame's stamp is {-(self.age_ms or 0.0) / 1e3:.1f} s ahead of this node's clock; synchronise the "
                "clocks (PTP, chrony), or set use_sim_time for simulated time"
            )
        return found


class FrameTimeline:
    """Follows the stamps of one camera. Not thread-safe."""

    def __init__(self) -> None:
        self._last_ns: int | None = None

    def restart(self) -> None:
        """Forget the last stamp, because the clock jumped or nothing was subscribed."""
        self._last_ns = None

    def follow(self, stamp_ns: int, now_ns: int) -> FrameTime:
        """Compare the next frame's stamp with the last one and with the node's clock.

        Args:
            stamp_ns: the frame's stamp, nanoseconds.
            now_ns: time of the node's clock, nanoseconds; 0: simulated time has not begun.
        """
        last, self._last_ns = self._last_ns, stamp_ns
        return FrameTime(
            age_ms=(now_ns - stamp_ns) / 1e6 if now_ns else None,
            went_back=last is not None and stamp_ns < last,
            repeated=last is not None and stamp_ns == last,
            in_future=bool(now_ns) and stamp_ns - now_ns > FUTURE_TOLERANCE_NS,
        )
