"""The node's parameters for a replay: the defaults, a ROS parameter file, and values from the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ros_ood_perception.files.strict_yaml import shown
from ros_ood_perception.parameters.declarations import DECLARATIONS, Declaration
from ros_ood_perception.parameters.given import Given, check_given, given_in_file
from ros_ood_perception.parameters.rcl_yaml import parse_value
from ros_ood_perception.parameters.settings import CAMERA_PARAMETERS, ParameterError, camera_names, value_of_each
from ros_ood_perception.shown_text import printable

LONGEST_VALUE = 4096
"""Characters of the value in a `--set`."""
_DECLARED = {declaration.name: declaration for declaration in DECLARATIONS}


def parameter_values(file: Path | None, changes: Sequence[str], node_name: str) -> dict[str, Any]:
    """A value for every parameter of the node.

    Args:
        file: a ROS parameter file, of which the sections that apply to the node are used. None: the defaults.
        changes: `NAME=VALUE` or `NAME:=VALUE`, with the value as in a parameter file. They override the file. For a
            double an integer does as well, and for a list a single value.
        node_name: with its namespace, such as `/perception_node`.

    Raises:
        ParameterError: a parameter is unknown, the node cannot have its value, or the file does not exist.
        OSError, SchemaError: the file cannot be read, see `rcl_yaml`.
    """
    values = {
        name: list(d.default_value) if isinstance(d.default_value, tuple) else d.default_value
        for name, d in _DECLARED.items()
    }
    given = [] if file is None else _given_in_file(file, node_name)
    check_given(given)
    changed = [_change(change) for change in changes]
    check_given(changed)
    return values | {g.name: g.value for g in (*given, *changed) if g.name in _DECLARED}


def of_recording(values: Mapping[str, Any], cameras: Sequence[str]) -> dict[str, Any]:
    """The values for the cameras of a recording.

    Lists with one value for each camera follow the order of the parameter `cameras`. A recording may have another
    order, or only some of the cameras, so each camera's value is found by its name.

    Args:
        values: of all parameters, by name.
        cameras: names of the cameras in the recording.

    Raises:
        ParameterError: a list has several values, and the parameter `cameras` does not name the recording's cameras.
    """
    found = {**values, "cameras": list(cameras)}
    for name in CAMERA_PARAMETERS:
        if len(values[name]) == 1:
            continue
        named = camera_names(values)
        if not set(cameras) <= set(named):
            theirs, recorded = (", ".join(n or "one without a name" for n in names) for names in (named, cameras))
            raise ParameterError(
                f"parameter '{name}' has {len(values[name])} values for the cameras {theirs} (parameter 'cameras'), "
                f"the recording's cameras are {recorded}, so the values cannot be assigned. Name the cameras of the "
                "values in their order (--set cameras=[NAME,...]) and the recording's cameras by the same names "
                f"(--camera NAME=TOPIC), or give one value for all (--set {name}=VALUE)"
            )
        of_camera = dict(zip(named, value_of_each(values, name, named), strict=True))
        found[name] = [of_camera[camera] for camera in cameras]
    return found


def _given_in_file(file: Path, node_name: str) -> list[Given]:
    try:
        return given_in_file(file, node_name)
    except FileNotFoundError as error:
        remedy = "give the file with the node's parameters, or leave the option out for the defaults"
        raise ParameterError(f"--params {file}: no such file; {remedy}") from error


def _change(change: str) -> Given:
    name, separator, text = change.partition("=")
    if not separator:
        raise ParameterError(f"--set {shown(change)}: it must be NAME=VALUE")
    source, name = f"--set {printable(name, 200)}", name.removesuffix(":").strip()
    if len(text) > LONGEST_VALUE:
        raise ParameterError(f"{source}: the value has {len(text)} characters; it must have at most {LONGEST_VALUE}")
    value = parse_value(text, source)
    return Given(source, name, _converted(_DECLARED[name], value) if name in _DECLARED else value)


def _converted(declaration: Declaration, value: Any) -> Any:
    """An integer for a double, and a single value for a list."""
    if isinstance(declaration.default_value, tuple):
        if not isinstance(value, list):
            value = [value]
        return [_double(item) for item in value] if declaration.type == "double_array" else value
    return _double(value) if declaration.type == "double" else value


def _double(value: Any) -> Any:
    return float(value) if type(value) is int and abs(value) <= 2**53 else value
