"""The cameras of a node before it is launched. Its remap rules name them, so they are read from arguments and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ros_ood_perception.parameters.given import check_given, given_in_file


def cameras_of_argument(cameras: str) -> list[str]:
    """The names in a list that is separated by commas: `front, left`."""
    return [name.strip() for name in cameras.split(",") if name.strip()]


def cameras_of_file(file: Path | str, node: str) -> list[str]:
    """The value of `cameras` for a node in a parameter file. Empty if the file does not set it.

    Args:
        node: with its namespace, `/car/perception_node`.

    Raises:
        OSError: the file does not exist or cannot be read.
        SchemaError: it is not a parameter file that ROS 2 can read.
        ParameterError: it has no parameters of the node, or some that the node cannot have.
    """
    given = given_in_file(Path(file), node)
    check_given(given)
    values: dict[str, Any] = {parameter.name: parameter.value for parameter in given}
    return list(values.get("cameras", []))
