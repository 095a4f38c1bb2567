"""Messages of /diagnostics and of each camera's `output/state`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from ros_ood_perception.node.health.health import CameraHealth, State

LEVELS: dict[State, bytes] = {
    "inactive": DiagnosticStatus.WARN,
    "waiting": DiagnosticStatus.WARN,
    "active": DiagnosticStatus.OK,
    "asleep": DiagnosticStatus.OK,
    "stale": DiagnosticStatus.ERROR,
    "rejected": DiagnosticStatus.ERROR,
    "failed": DiagnosticStatus.ERROR,
}


def status(name: str, hardware_id: str, health: CameraHealth, facts: Mapping[str, str | float]) -> DiagnosticStatus:
    """The status of one camera: level and message from its health, facts as keys and values."""
    level = LEVELS[health.state]
    if level == DiagnosticStatus.OK and health.implausible:
        level = DiagnosticStatus.WARN
    return DiagnosticStatus(
        level=level,
        name=name,
        message=health.message,
        hardware_id=hardware_id,
        values=[KeyValue(key=key, value=_text(value)) for key, value in facts.items()],
    )


def twins_status(name: str, hardware_id: str, twins: str) -> DiagnosticStatus:
    """The status that another node has the same name or publishes the same outputs."""
    return DiagnosticStatus(
        level=DiagnosticStatus.ERROR, name=f"{name}: name on the graph", message=twins, hardware_id=hardware_id
    )


def diagnostic_array(stamp: Time, statuses: Sequence[DiagnosticStatus]) -> DiagnosticArray:
    """All statuses under one stamp."""
    array = DiagnosticArray(status=list(statuses))
    array.header.stamp = stamp
    return array


def _text(value: str | float) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
