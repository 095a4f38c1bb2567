"""What the node says of itself on /diagnostics: the frame accounting, and how long each stage took."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from ros_ood_perception.node.frame_accounting import AccountingSnapshot

KEPT_SAMPLES = 1000
PERCENTILES = (50, 95, 99)


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


def diagnostic_array(
    stamp: Time,
    name: str,
    hardware_id: str,
    active: bool,
    accounting: AccountingSnapshot,
    facts: Mapping[str, str | float],
) -> DiagnosticArray:
    """One status: OK while active and nothing failed, WARN when inactive or frames were malformed or failed."""
    trouble = accounting.malformed + accounting.failed
    if not active:
        level, message = DiagnosticStatus.WARN, "inactive"
    elif trouble:
        level, message = DiagnosticStatus.WARN, f"active; {accounting.malformed} malformed, {accounting.failed} failed"
    elif not accounting.sent:
        level, message = DiagnosticStatus.WARN, "active; no frame has arrived"
    else:
        level, message = DiagnosticStatus.OK, "active"
    values = {**accounting.as_dict(), **facts}
    status = DiagnosticStatus(
        level=level,
        name=name,
        message=message,
        hardware_id=hardware_id,
        values=[KeyValue(key=key, value=_text(value)) for key, value in values.items()],
    )
    array = DiagnosticArray(status=[status])
    array.header.stamp = stamp
    return array


def _text(value: str | float) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
