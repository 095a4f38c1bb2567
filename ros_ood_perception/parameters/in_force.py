"""The settings of obstacles that are in force with a bundle: the user's, the operating point's, or the default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ros_ood_perception.bundle.description import OperatingPoint
from ros_ood_perception.files.strict_yaml import shown
from ros_ood_perception.parameters.declarations import DECLARATIONS, Declaration
from ros_ood_perception.parameters.values import ParameterError, range_problem, type_problem
from ros_ood_perception.shown_text import nearest

PREFIXES = ("region.", "persistence.", "evidence.", "ground.max_range_m")
"""Of the live parameters that an operating point may hold: those that decide which regions become obstacles."""
PARAMETER, DEFAULT = "parameter", "default"


def may_hold(declaration: Declaration) -> bool:
    """Whether an operating point may hold the parameter."""
    return declaration.live and declaration.name.startswith(PREFIXES)


HELD = {declaration.name: declaration for declaration in DECLARATIONS if may_hold(declaration)}
"""Name to declaration of the parameters that an operating point may hold."""


@dataclass(frozen=True)
class InForce:
    """The settings in force.

    Attributes:
        values: of all parameters in `HELD`, by name.
        sources: of each, where it comes from: `parameter`, `operating point NAME` or `default`.
    """

    values: Mapping[str, Any]
    sources: Mapping[str, str]

    def __str__(self) -> str:
        """Those that are not defaults, for a log: `region.min_area 0.0008 (operating point calm)`."""
        found = [f"{name} {text}" for name, text in self.facts().items() if self.sources[name] != DEFAULT]
        return ", ".join(found) or "all at their defaults"

    def facts(self) -> dict[str, str]:
        """Name to value and source of all, for diagnostics: `0.0008 (operating point calm)`."""
        return {name: f"{_text(value)} ({self.sources[name]})" for name, value in self.values.items()}

    def as_plain(self) -> dict[str, dict[str, Any]]:
        """Plain values for JSON."""
        return {name: {"value": _plain(value), "from": self.sources[name]} for name, value in self.values.items()}


def in_force(given: Mapping[str, Any], point: OperatingPoint) -> InForce:
    """The settings in force with an operating point.

    A parameter that is not at its default is the user's, and wins. One at its default gives way to the operating point.
    Whether somebody wrote the default down cannot count: the package's own parameter file holds every default.

    Args:
        given: values of all parameters in `HELD`, by name.
        point: of the bundle.

    Raises:
        ParameterError: the point holds a setting that no operating point may hold, or that the node cannot have.
    """
    held = _checked(point)
    values, sources = {}, {}
    for name, declaration in HELD.items():
        own = given[name]
        if not is_default(declaration, own):
            values[name], sources[name] = own, PARAMETER
        elif name in held:
            values[name], sources[name] = held[name], f"operating point {point.name}"
        else:
            values[name], sources[name] = own, DEFAULT
    return InForce(values, sources)


def is_default(declaration: Declaration, value: Any) -> bool:
    """Whether a parameter has its default value. An empty list of texts is one that holds an empty text."""
    if isinstance(declaration.default_value, tuple):
        return tuple(item for item in value if item != "") == tuple(i for i in declaration.default_value if i != "")
    return bool(value == declaration.default_value)


def _checked(point: OperatingPoint) -> dict[str, Any]:
    """The settings of a point, checked as those of a parameter file; an integer does for a double."""
    found = {}
    for name, value in point.settings.items():
        problem = ""
        if name not in HELD:
            problem = f"holds {shown(name)}; a point may hold {', '.join(HELD)}{nearest(name, HELD)}"
        else:
            value = float(value) if HELD[name].type == "double" and type(value) is int else value
            problem = type_problem(HELD[name], value) or range_problem(HELD[name], value)
        if problem:
            raise ParameterError(f"the operating point '{point.name}' of the bundle: {problem}; correct bundle.yaml")
        found[name] = value
    return found


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(_plain(value))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
