"""The node's parameters: declared, read at configure, changed while active. A change is taken or refused as a whole."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    ParameterType,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from ros_ood_perception.bundle.model_bundle import BundleError
from ros_ood_perception.files.strict_yaml import shown
from ros_ood_perception.node.given_parameters import GivenParameters
from ros_ood_perception.node.health.change_log import ChangeLog
from ros_ood_perception.parameters.declarations import DECLARATIONS, Declaration
from ros_ood_perception.parameters.in_force import HELD
from ros_ood_perception.parameters.settings import (
    FixedSettings,
    LiveSettings,
    ParameterError,
    fixed_settings,
    live_settings,
)
from ros_ood_perception.parameters.values import is_of_every_node

_ARRAYS = {
    "string_array": ParameterType.PARAMETER_STRING_ARRAY,
    "double_array": ParameterType.PARAMETER_DOUBLE_ARRAY,
}

Check = Callable[[LiveSettings, Collection[str]], tuple[str, str]]
"""Of settings and the names of changed parameters: what is in force, and what of these has no effect (may be empty)."""


class NodeParameters:
    """Declares the parameters on a node, reads them, and accepts changes.

    A start-up value that the node cannot have does not end the process. `read` reports it, so that configure fails with
    a message and can be repeated after a correction. A start-up value of a parameter that does not exist is reported as
    well: only another start can correct that.
    """

    def __init__(self, node: Node, given: GivenParameters) -> None:
        self._node = node
        self._given = given.values
        self._problems: dict[str, str] = {}
        self._changed: Callable[[LiveSettings], None] | None = None
        self._check: Check | None = None
        self._accepted: tuple[LiveSettings, str] | None = None
        self._last_values: dict[str, Any] = {}
        self._log = ChangeLog(node.get_logger())
        declared = {declaration.name for declaration in DECLARATIONS}
        for declaration in DECLARATIONS:
            self._declare(declaration)
        self._of_start = [
            *given.problems,
            *(g.problem for g in given.values.values() if g.name not in declared and not self._is_of_ros(g.name)),
        ]
        node.add_on_set_parameters_callback(self._on_set)
        if hasattr(node, "add_post_set_parameters_callback"):
            node.add_post_set_parameters_callback(self._after_set)

    def lock(self, check: Check, changed: Callable[[LiveSettings], None]) -> None:
        """From now on only live parameters can be set.

        Args:
            check: raises `ParameterError` or `BundleError` for settings that cannot work; then nothing is changed. For
                others it says which settings of obstacles are in force, and which change has no effect, for the log.
            changed: called with settings that were accepted.
        """
        self._check, self._changed = check, changed
        self._last_values = self._values()

    def unlock(self) -> None:
        """All parameters can be set again."""
        self._check = self._changed = None

    def _declare(self, declaration: Declaration) -> None:
        descriptor = ParameterDescriptor(description=declaration.full_description)
        default: Any = declaration.default_value
        if declaration.type in _ARRAYS:
            descriptor.type = _ARRAYS[declaration.type]
            default = list(default)
        if declaration.one_of:
            descriptor.additional_constraints = f"one of: {', '.join(declaration.one_of)}"
        if declaration.bounds is not None:
            low, high = declaration.bounds
            if declaration.type in _ARRAYS:
                descriptor.additional_constraints = f"each from {low:g} to {high:g}"
            elif declaration.type == "double":
                descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
            else:
                descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
        given = self._given.get(declaration.name)
        problem = given.problem if given is not None else ""
        if problem:
            self._problems[declaration.name] = problem
        empty = given is not None and given.value == []
        self._node.declare_parameter(declaration.name, default, descriptor, ignore_override=bool(problem) or empty)
        if empty and not problem:
            # rclpy has no type for an empty list, in whichever way it was given.
            kind = Parameter.Type(_ARRAYS[declaration.type])
            self._node.set_parameters([Parameter(declaration.name, kind, [])])

    def _is_of_ros(self, name: str) -> bool:
        """Whether ROS 2 itself declares a parameter, now or when a topic is made."""
        return is_of_every_node(name) or self._node.has_parameter(name)

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
            settings = live_settings({**self._values(), **own})
            in_force, note = self._check(settings, own)
        except (ParameterError, BundleError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._accepted = (settings, in_force)
        if note:
            # rclpy gives no reason with a change that it makes.
            self._node.get_logger().warning(note)
        if not hasattr(self._node, "add_post_set_parameters_callback"):
            # Humble has no callback after a parameter was set.
            self._after_set(changes)
        return SetParametersResult(successful=True)

    def _after_set(self, changes: list[Parameter[Any]]) -> None:
        accepted, self._accepted = self._accepted, None
        if accepted is not None and self._changed is not None:
            settings, in_force = accepted
            self._changed(settings)
            self._log_changes({p.name: p.value for p in changes}, in_force)

    def _log_changes(self, values: dict[str, Any], in_force: str) -> None:
        before = self._last_values
        texts = [
            f"{name} from {shown(before[name])} to {shown(value)}"
            for name, value in values.items()
            if name in before and before[name] != value
        ]
        if texts:
            self._last_values = {**before, **values}
            # A parameter that is set to its default may give way to the operating point.
            now = f"; settings of obstacles now: {in_force}" if values.keys() & {"operating_point", *HELD} else ""
            self._log.add("info", f"parameters changed: {', '.join(texts)}{now}")

    def log_what_waits(self) -> None:
        """Log a change that the limit of `ChangeLog` has held back. To be called every second or so."""
        self._log.flush()

    def _values(self) -> dict[str, Any]:
        return {d.name: self._node.get_parameter(d.name).value for d in DECLARATIONS}

    def read(self) -> tuple[FixedSettings, LiveSettings]:
        """The settings as they are now.

        Raises:
            ParameterError: a value that the node cannot work with.
        """
        problems = [*self._of_start, *self._problems.values()]
        if problems:
            raise ParameterError("; ".join(problems))
        values = self._values()
        return fixed_settings(values), live_settings(values)
