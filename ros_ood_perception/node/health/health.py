"""How one camera is: from what came in, what went out, and when."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

State = Literal["inactive", "waiting", "active", "stale", "rejected", "failed"]

KEPT_SAMPLES = 1000
PERCENTILES = (50, 95, 99)
RATE_WINDOW_S = 5.0
SINCE_THEN = "; since then "


@dataclass(frozen=True)
class CameraHealth:
    """What is known of a camera at one moment.

    Attributes:
        state: `inactive`: the node is not active. `waiting`: no frame has come since it is. `active`: frames come and
            go out. `stale`: they have stopped coming. `rejected`: they come, and none is fit to be used. `failed`: they
            come, and inference or publishing fails.
        reason: a sentence; empty where the state says all.
        implausible: kinds of `FramePlausibility` that hold, each with a sentence.
        nothing_received: no frame came, so that the engine has no part in a camera that waits or is stale.
    """

    state: State
    reason: str = ""
    implausible: Mapping[str, str] = field(default_factory=dict)
    nothing_received: bool = False

    @property
    def valid(self) -> bool:
        """What was last published describes what the camera sees now."""
        return self.state == "active"

    @property
    def message(self) -> str:
        """State, reason and doubts on one line."""
        doubts = "; ".join(f"{kind}: {text}" for kind, text in self.implausible.items())
        return "; ".join(part for part in (self.state, self.reason, doubts) if part)


class CameraPulse:
    """Collects what a camera's health is read from. Thread-safe; times are of one monotonic clock, seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._active = False
        self._received: deque[float] = deque()
        self._published: deque[float] = deque()
        self._last_received: float | None = None
        self._last_published: float | None = None
        self._activated_at = 0.0
        self._trouble: tuple[State, str] | None = None
        self._implausible: Mapping[str, str] = {}

    def activate(self, now: float) -> None:
        """Listening begins: what was before does not count."""
        with self._lock:
            self._active = True
            self._activated_at = now
            self._last_received = self._last_published = None
            self._trouble = None
            self._implausible = {}

    def deactivate(self) -> None:
        """Listening ended."""
        with self._lock:
            self._active = False

    def received(self, now: float) -> None:
        """A message came."""
        with self._lock:
            self._last_received = now
            _add(self._received, now)

    def published(self, now: float, implausible: Mapping[str, str]) -> None:
        """A frame's results went out."""
        with self._lock:
            self._last_published = now
            self._trouble = None
            self._implausible = implausible
            _add(self._published, now)

    def refused(self, state: Literal["rejected", "failed"], reason: str) -> None:
        """A frame came to another end."""
        with self._lock:
            # A frame that was not fit for inference does not mend the one that failed: only a good result does.
            if state == "rejected" and self._trouble is not None and self._trouble[0] == "failed":
                failure = self._trouble[1].partition(SINCE_THEN)[0]
                self._trouble = ("failed", f"{failure}{SINCE_THEN}{reason}")
            else:
                self._trouble = (state, reason)

    def health(self, now: float, stale_after_s: float) -> CameraHealth:
        """The state now. A single frame rejected between good ones is no state; a failed one is at once."""
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
            if now - self._last_published > stale_after_s:
                return CameraHealth("stale", f"frames come, and no result for {now - self._last_published:.0f} s")
            return CameraHealth("active", implausible=dict(self._implausible))

    def rates_hz(self, now: float) -> tuple[float, float]:
        """Messages in and results out, a second, over the last few seconds."""
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
        """`STAGE_ms_pNN` of the last thousand frames."""
        with self._lock:
            samples = {stage: np.array(values) for stage, values in self._samples.items()}
        return {
            f"{stage}_ms_p{percentile}": float(np.percentile(values, percentile))
            for stage, values in samples.items()
            for percentile in PERCENTILES
        }
