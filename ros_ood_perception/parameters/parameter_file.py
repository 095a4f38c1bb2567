"""The node's parameters for a replay: the defaults, a ROS parameter file, and values from the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ros_ood_perception.files.strict_yaml import load_yaml, shown
from ros_ood_perception.parameters.declarations import DECLARATIONS, TYPE_NAMES, Declaration
from ros_ood_perception.parameters.settings import CAMERA_PARAMETERS, ParameterError, camera_names, value_of_each
from ros_ood_perception.shown_text import printable

LONGEST_VALUE = 4096
"""Characters of the value in a `--set`."""


def parameter_values(file: Path | None, changes: Sequence[str], node_name: str) -> dict[str, Any]:
    """A value for every parameter of the node.

    Args:
        file: a ROS parameter file, of which the sections `/**` and the node's name are used. None: the defaults.
        changes: `NAME=VALUE` or `NAME:=VALUE`, with the value as YAML. They override the file.
        node_name: with its namespace, such as `/perception_node`.

    Raises:
        ParameterError: a parameter is unknown, or its value is of the wrong type.
        OSError, SchemaError: the file cannot be read, or is not YAML.
    """
    declared = {declaration.name: declaration for declaration in DECLARATIONS}
    values: dict[str, Any] = {
        name: list(d.default_value) if isinstance(d.default_value, tuple) else d.default_value
        for name, d in declared.items()
    }
    given: list[tuple[str, str, Any]] = []
    if file is not None:
        given += [(str(file), name, value) for name, value in _of_file(file, node_name).items()]
    for change in changes:
        name, separator, text = change.partition("=")
        if not separator:
            raise ParameterError(f"--set {shown(change)}: it must be NAME=VALUE")
        given.append((f"--set {name}", name.removesuffix(":").strip(), _yaml_value(name, text)))
    for source, name, value in given:
        if name.partition(".")[0] in ("use_sim_time", "qos_overrides"):
            # Every node has these parameters; a replay has neither clock nor transport.
            continue
        if name not in declared:
            raise ParameterError(f"{source}: the node has no parameter '{printable(name, 200)}'")
        values[name] = _typed(source, declared[name], value)
    return values


def _yaml_value(name: str, text: str) -> Any:
    # A merge key copies a mapping; a few nested ones fill the memory. No value needs one.
    if len(text) > LONGEST_VALUE or "<<" in text:
        raise ParameterError(
            f"--set {name}: the value has {len(text)} characters; it must have at most {LONGEST_VALUE} and no merge "
            "key (<<)"
        )
    try:
        return yaml.safe_load(text)
    except Exception as error:  # PyYAML raises errors of many classes for a tag whose value does not fit
        raise ParameterError(f"--set {name}: {shown(text)} is not a YAML value") from error


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


def _of_file(file: Path, node_name: str) -> dict[str, Any]:
    data = load_yaml(file)
    found: dict[str, Any] = {}
    known = {"/**", node_name, node_name.lstrip("/"), f"/**/{node_name.rpartition('/')[2]}"}
    for node, content in (data if isinstance(data, dict) else {}).items():
        parameters = content.get("ros__parameters") if isinstance(content, dict) else None
        if node in known and isinstance(parameters, dict):
            found |= _flat(parameters, "")
    if not found:
        raise ParameterError(f"{file}: it has no parameters of {node_name}; it must contain /**: ros__parameters:")
    return found


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if not isinstance(name, str):
            raise ParameterError(f"the name of a parameter is {shown(name)}; it must be text")
        # No deeper than the names go: nested YAML aliases are small in the file and endless when they are followed.
        if isinstance(value, dict) and any(d.name.startswith(f"{prefix}{name}.") for d in DECLARATIONS):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _typed(source: str, declaration: Declaration, value: Any) -> Any:
    if isinstance(declaration.default_value, tuple):
        return [_scalar(source, declaration, item) for item in (value if isinstance(value, list) else [value])]
    return _scalar(source, declaration, value)


def _scalar(source: str, declaration: Declaration, value: Any) -> Any:
    default = declaration.default_value
    kind = type(default[0] if isinstance(default, tuple) else default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 2**53:
        return float(value)
    if type(value) is not kind:
        wanted = TYPE_NAMES[declaration.type.removesuffix("_array")]
        raise ParameterError(f"{source}: parameter '{declaration.name}' is {shown(value)}; it must be {wanted}")
    return value
