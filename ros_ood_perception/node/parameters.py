"""How the node's parameters become settings: all at configure, and some of them, all or none, while it runs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    ParameterType,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from ros_ood_perception.bundle import BundleDescription, BundleError
from ros_ood_perception.node.engine_supervisor import FailurePolicy
from ros_ood_perception.node.output_topics import STATE_TOPIC, camera_topic
from ros_ood_perception.node.parameter_declarations import DECLARATIONS, Declaration

CAMERA_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*")
TOPIC_WORDS = frozenset({"input", "output", "debug"})


class ParameterError(ValueError):
    """A parameter with a value that the node cannot work with. The message names it."""


@dataclass(frozen=True)
class FixedSettings:
    """What is read at configure and holds until cleanup; fields as in `parameter_declarations`."""

    bundle: Path
    engine: str
    num_threads: int
    cameras: tuple[str, ...]
    image_transport: str
    max_image_pixels: int
    failure_policy: FailurePolicy


@dataclass(frozen=True)
class LiveSettings:
    """What may change while the node runs; a frame sees one of these from beginning to end.

    Attributes:
        anomaly_threshold: of the parameter, or None for the operating point's.
    """

    operating_point: str
    anomaly_threshold: float | None
    outputs: frozenset[str]
    score_encoding: str
    max_frame_age_ms: float
    max_rate_hz: float
    stale_after_s: float
    diagnostics_period_s: float

    def threshold(self, description: BundleDescription) -> float:
        """The threshold with this bundle, in [0, 1].

        Raises:
            BundleError: no such operating point.
        """
        if self.anomaly_threshold is not None:
            return self.anomaly_threshold
        return description.operating_point(self.operating_point).threshold


class NodeParameters:
    """Declares the parameters on a node, reads them, and takes changes.

    A start-up value that the declaration refuses (wrong type, out of range) does not end the process: it is kept as a
    problem that `read` reports, so that configure fails with a message and can be tried again after a correction.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._problems: dict[str, str] = {}
        self._changed: Callable[[LiveSettings], None] | None = None
        self._check: Callable[[LiveSettings], None] | None = None
        self._accepted: LiveSettings | None = None
        for declaration in DECLARATIONS:
            self._declare(declaration)
        node.add_on_set_parameters_callback(self._on_set)
        if hasattr(node, "add_post_set_parameters_callback"):
            node.add_post_set_parameters_callback(self._after_set)

    def lock(self, check: Callable[[LiveSettings], None], changed: Callable[[LiveSettings], None]) -> None:
        """From now on only live parameters can be set.

        Args:
            check: raises `ParameterError` or `BundleError` where settings cannot work; then nothing is changed.
            changed: takes settings that were accepted.
        """
        self._check, self._changed = check, changed

    def unlock(self) -> None:
        """All parameters can be set again."""
        self._check = self._changed = None

    def _declare(self, declaration: Declaration) -> None:
        descriptor = ParameterDescriptor(description=declaration.description)
        default: Any = declaration.default
        kind = {str: "string", int: "integer", float: "double", bool: "bool", tuple: "list of strings"}[type(default)]
        allowed = f"; it must be {kind}"
        if isinstance(default, tuple):
            default = list(default)
            descriptor.type = ParameterType.PARAMETER_STRING_ARRAY
        if declaration.choices:
            descriptor.additional_constraints = f"one of: {', '.join(declaration.choices)}"
        if declaration.range is not None:
            low, high = declaration.range
            allowed += f" from {low:g} to {high:g}"
            if isinstance(default, float):
                descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
            else:
                descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
        try:
            self._node.declare_parameter(declaration.name, default, descriptor)
        except (InvalidParameterValueException, InvalidParameterTypeException) as error:
            self._problems[declaration.name] = f"parameter '{declaration.name}': {error}{allowed}"
            self._node.declare_parameter(declaration.name, default, descriptor, ignore_override=True)

    def _on_set(self, changes: list[Parameter[Any]]) -> SetParametersResult:
        declared = {d.name: d for d in DECLARATIONS}
        own = {p.name: p.value for p in changes if p.name in declared}
        if not own:
            return SetParametersResult(successful=True)
        if self._check is None:
            for name in own:
                self._problems.pop(name, None)
            return SetParametersResult(successful=True)
        fixed = [name for name in own if not declared[name].live]
        if fixed:
            return SetParametersResult(
                successful=False,
                reason=f"{', '.join(fixed)}: read at configure; deactivate and clean up the node, then set and "
                "configure",
            )
        try:
            settings = _live({**self._values(), **own})
            self._check(settings)
        except (ParameterError, BundleError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._accepted = settings
        if not hasattr(self._node, "add_post_set_parameters_callback"):
            # Humble tells nobody after the fact.
            self._after_set(changes)
        return SetParametersResult(successful=True)

    def _after_set(self, _changes: list[Parameter[Any]]) -> None:
        settings, self._accepted = self._accepted, None
        if settings is not None and self._changed is not None:
            self._changed(settings)

    def _values(self) -> dict[str, Any]:
        return {d.name: self._node.get_parameter(d.name).value for d in DECLARATIONS}

    def read(self) -> tuple[FixedSettings, LiveSettings]:
        """The settings as they are now.

        Raises:
            ParameterError: a value that the node cannot work with.
        """
        if self._problems:
            raise ParameterError("; ".join(self._problems.values()))
        values = self._values()
        return _fixed(values), _live(values)


def _check_values(values: Mapping[str, Any], live: bool) -> None:
    for declaration in DECLARATIONS:
        if declaration.live != live:
            continue
        value = values[declaration.name]
        # rclpy's ranges let it pass: it compares false with both ends.
        if isinstance(value, float) and not math.isfinite(value):
            raise ParameterError(f"parameter '{declaration.name}' is {value}; it must be a finite number")
        for item in [] if not declaration.choices else [value] if isinstance(value, str) else value:
            if item not in declaration.choices:
                raise ParameterError(
                    f"parameter '{declaration.name}' is '{item}'; it must be one of {', '.join(declaration.choices)}"
                )


def _fixed(values: Mapping[str, Any]) -> FixedSettings:
    _check_values(values, live=False)
    if not values["bundle"]:
        raise ParameterError("parameter 'bundle' is empty; give the folder of a model bundle")
    return FixedSettings(
        bundle=Path(values["bundle"]).expanduser(),
        engine=values["engine"],
        num_threads=values["num_threads"],
        cameras=_cameras(list(values["cameras"])),
        image_transport=values["image_transport"],
        max_image_pixels=values["max_image_pixels"],
        failure_policy=FailurePolicy(
            max_failures=values["max_engine_failures"],
            after_failures=values["after_engine_failures"],
            first_retry_s=values["engine_retry_s"],
        ),
    )


def _cameras(names: list[str]) -> tuple[str, ...]:
    if names in ([], [""]):
        return ("",)
    for name in names:
        if not CAMERA_NAME.fullmatch(name) or name in TOPIC_WORDS:
            raise ParameterError(
                f"parameter 'cameras' holds '{name}', which cannot be a level of a topic such as "
                f"{camera_topic('front_left', STATE_TOPIC)}; use letters, digits and single underscores, and none of "
                f"{', '.join(sorted(TOPIC_WORDS))}"
            )
        if names.count(name) > 1:
            raise ParameterError(f"parameter 'cameras' holds '{name}' more than once")
    return tuple(names)


def _live(values: Mapping[str, Any]) -> LiveSettings:
    _check_values(values, live=True)
    threshold = values["anomaly_threshold"]
    if -1 < threshold < 0:
        raise ParameterError(
            f"parameter 'anomaly_threshold' is {threshold}; it must be in [0, 1], or -1 for the operating point's"
        )
    return LiveSettings(
        operating_point=values["operating_point"],
        anomaly_threshold=None if threshold == -1 else threshold,
        outputs=frozenset(values["outputs"]),
        score_encoding=values["score_encoding"],
        max_frame_age_ms=values["max_frame_age_ms"],
        max_rate_hz=values["max_rate_hz"],
        stale_after_s=values["stale_after_s"],
        diagnostics_period_s=values["diagnostics_period_s"],
    )
