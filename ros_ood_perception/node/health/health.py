"""The health of one camera, from the times of its frames and results."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

State = Literal["inactive", "waiting", "active", "asleep", "stale", "rejected", "failed"]

FRAMES_LOST = "frames_lost"
"""Kind of the warning that many frames are lost on their way to the node."""

KEPT_SAMPLES = 1000
PERCENTILES = (50, 95, 99)
RATE_WINDOW_S = 5.0
SINCE_THEN = "; since then "


@dataclass(frozen=True)
class CameraHealth:
    """The health of a camera at one moment.

    Attributes:
        state: one of
            `inactive`: the node is not active.
            `waiting`: no frame has come since the node became active, or the first one is in inference.
            `active`: frames come, and their results are published.
            `asleep`: frames come, and are not used, because no output has a subscriber.
            `stale`: frames or results have stopped.
            `rejected`: frames come, and none of them can be used.
            `failed`: frames come, and inference or publishing fails.
        reason: a sentence; empty if the state needs none.
        implausible: warnings, kind to sentence. See `FrameWarnings` and `FRAMES_LOST`.
        nothing_received: the state is `waiting` or `stale` because no frame comes.
        no_result: the state is `stale` because frames come and their results do not.
    """

    state: State
    reason: str = ""
    implausible: Mapping[str, str] = field(default_factory=dict)
    nothing_received: bool = False
    no_result: bool = False

    @property
    def valid(self) -> bool:
        """Whether the last results describe what the camera sees now."""
        return self.state == "active"

    @property
    def message(self) -> str:
        """State, reason and warnings on one line."""
        warnings = "; ".join(f"{kind}: {text}" for kind, text in self.implausible.items())
        return "; ".join(part for part in (self.state, self.reason, warnings) if part)


class CameraPulse:
    """Collects the times that a camera's health depends on. Thread-safe. Times are of a monotonic clock, seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._active = False
        self._received: deque[float] = deque()
        self._published: deque[float] = deque()
        self._last_received: float | None = None
        self._unanswered_since: float | None = None
        self._last_published: float | None = None
        self._asleep = False
        self._activated_at = 0.0
        self._trouble: tuple[State, str] | None = None
        self._implausible: Mapping[str, str] = {}

    def activate(self, now: float) -> None:
        """Note that the node became active. Earlier frames do not count."""
        with self._lock:
            self._active = True
            self._activated_at = now
            self._last_received = self._last_published = self._unanswered_since = None
            self._trouble = None
            self._asleep = False
            self._implausible = {}

    def deactivate(self) -> None:
        """Note that the node is no longer active."""
        with self._lock:
            self._active = False

    def received(self, now: float) -> None:
        """Note that a message came."""
        with self._lock:
            self._last_received = now
            self._unanswered_since = now if self._unanswered_since is None else self._unanswered_since
            _add(self._received, now)

    def published(self, now: float, implausible: Mapping[str, str]) -> None:
        """Note that a frame's results were computed and published to all subscribers, and the warnings about them."""
        with self._lock:
            self._last_published = now
            self._unanswered_since = None
            self._trouble = None
            self._asleep = False
            self._implausible = implausible
            _add(self._published, now)

    def slept(self, now: float) -> None:
        """Note that a frame was not used, because no output has a subscriber."""
        with self._lock:
            self._last_published = now
            self._unanswered_since = None
            self._asleep = True
            # Whether the engine works again is not known.
            if self._trouble is not None and self._trouble[0] == "rejected":
                self._trouble = None

    def refused(self, state: Literal["rejected", "failed"], reason: str) -> None:
        """Note that a frame was rejected, or failed."""
        with self._lock:
            # Only a good result ends `failed`, not a frame that never reached inference.
            if state == "rejected" and self._trouble is not None and self._trouble[0] == "failed":
                failure = self._trouble[1].partition(SINCE_THEN)[0]
                self._trouble = ("failed", f"{failure}{SINCE_THEN}{reason}")
            else:
                self._trouble = (state, reason)

    def health(self, now: float, stale_after_s: float) -> CameraHealth:
        """The health now. One rejected frame between good ones does not change the state; one failed frame does."""
        with self._lock:
            if not self._active:
                return CameraHealth("inactive")
            if self._last_received is None:
                waited_s = now - self._activated_at
                return CameraHealth("waiting", f"no frame for {waited_s:.0f} s", nothing_received=True)
            silent_s = now - self._last_received
            if silent_s > stale_after_s:
                return CameraHealth("stale", f"no frame for {silent_s:.0f} s", nothing_received=True)
            if self._trouble is not None:
                state, reason = self._trouble
                out_since = self._last_published or self._activated_at
                if state == "failed" or self._last_published is None or now - out_since > stale_after_s:
                    return CameraHealth(state, reason)
            if self._last_published is None:
                return CameraHealth("waiting", "the first frame is in inference")
            silent_s = now - self._last_published
            if silent_s > stale_after_s and now - (self._unanswered_since or now) <= stale_after_s:
                return CameraHealth(
                    "stale", f"no result for {silent_s:.0f} s; a frame that has just come is in inference"
                )
            if silent_s > stale_after_s:
                return CameraHealth("stale", f"frames come, and no result for {silent_s:.0f} s", no_result=True)
            if self._asleep:
                return CameraHealth("asleep", "no output has a subscriber, and sleep_without_subscribers is set")
            return CameraHealth("active", implausible=dict(self._implausible))

    def rates_hz(self, now: float) -> tuple[float, float]:
        """Messages received and results published a second, over the last `RATE_WINDOW_S`."""
        with self._lock:
            return _rate(self._received, now), _rate(self._published, now)


def _add(times: deque[float], now: float) -> None:
    times.append(now)
    while times[0] < now - RATE_WINDOW_S:
        times.popleft()


def _rate(times: deque[float], now: float) -> float:
    return sum(time > now - RATE_WINDOW_S for time in times) / RATE_WINDOW_S


class StageLatencies:
    """The last durations of each stage. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._samples: dict[str, deque[float]] = {}

    def add(self, durations_ms: Mapping[str, float]) -> None:
        """Durations of one frame, milliseconds, by stage."""
        with self._lock:
            for stage, duration in durations_ms.items():
                self._samples.setdefault(stage, deque(maxlen=KEPT_SAMPLES)).append(duration)

    def percentiles(self) -> dict[str, float]:
        """`STAGE_ms_pNN` of the last `KEPT_SAMPLES` frames."""
        with self._lock:
            samples = {stage: np.array(values) for stage, values in self._samples.items()}
        return {
            f"{stage}_ms_p{percentile}": value
            for stage, values in samples.items()
            for percentile, value in zip(PERCENTILES, np.percentile(values, PERCENTILES).tolist(), strict=True)
        }
