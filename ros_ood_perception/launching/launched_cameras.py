"""The cameras of a node before it is launched. Its remap rules name them, so they are read from arguments and files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ros_ood_perception.files.strict_yaml import SchemaError, load_yaml, shown


def cameras_of_argument(cameras: str) -> list[str]:
    """The names in a list that is separated by commas: `front, left`."""
    return [name.strip() for name in cameras.split(",") if name.strip()]


def cameras_of_file(file: Path | str, node: str) -> list[str]:
    """The value of `cameras` for a node in a parameter file. Empty if the file does not set it or does not exist.

    Args:
        node: with its namespace, `/car/perception_node`.

    Raises:
        SchemaError: the file is not YAML, or `cameras` is not a list of names.
    """
    path = Path(file)
    cameras: Any = []
    for section, parameters in _sections(load_yaml(path) if path.is_file() else None):
        # As in ROS 2, the last matching section counts.
        if _matches(section, node) and "cameras" in parameters:
            cameras = parameters["cameras"]
    if not isinstance(cameras, list) or not all(isinstance(name, str) for name in cameras):
        raise SchemaError(f"{path}: parameter 'cameras' is {shown(cameras)}; it must be a list of names")
    return cameras


def _sections(data: Any, prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and parameters of each section. Namespaces can be nested levels of the file."""
    for key, content in data.items() if isinstance(data, dict) else ():
        name = f"{prefix}/{str(key).strip('/')}"
        if key == "ros__parameters":
            if isinstance(content, dict):
                yield prefix, content
        else:
            yield from _sections(content, name)


def _matches(section: str, node: str) -> bool:
    """Whether a section applies to the node. In its name, `*` matches one level and `**` any number of levels."""
    if not re.fullmatch(r"[\w/*]+", section):
        return False
    return re.fullmatch(section.replace("/**", r"(/\w+)*").replace("/*", r"/\w+"), node) is not None
