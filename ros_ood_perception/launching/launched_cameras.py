"""The cameras of a node that is to be launched: its remap rules name them, and are made before it can be asked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ros_ood_perception.files.strict_yaml import SchemaError, load_yaml, shown


def cameras_of_argument(cameras: str) -> list[str]:
    """Names that are separated by commas."""
    return [name.strip() for name in cameras.split(",") if name.strip()]


def cameras_of_file(file: Path | str, node: str) -> list[str]:
    """What a parameter file has as `cameras` for a node; empty where it has none, or there is no such file.

    Args:
        node: with its namespace, `/car/perception_node`.

    Raises:
        SchemaError: not YAML, or `cameras` is no list of names.
    """
    path = Path(file)
    cameras: Any = []
    for section, parameters in _sections(load_yaml(path) if path.is_file() else None):
        # As in ROS 2: the last section that fits counts.
        if _fits(section, node) and "cameras" in parameters:
            cameras = parameters["cameras"]
    if not isinstance(cameras, list) or not all(isinstance(name, str) for name in cameras):
        raise SchemaError(f"{path}: parameter 'cameras' is {shown(cameras)}; it must be a list of names")
    return cameras


def _sections(data: Any, prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The parameters of each section with its name; namespaces can be levels of their own."""
    for key, content in data.items() if isinstance(data, dict) else ():
        name = f"{prefix}/{str(key).strip('/')}"
        if key == "ros__parameters":
            if isinstance(content, dict):
                yield prefix, content
        else:
            yield from _sections(content, name)


def _fits(section: str, node: str) -> bool:
    """Whether a section is for the node: `*` in it is one level, `**` any number of them."""
    if not re.fullmatch(r"[\w/*]+", section):
        return False
    return re.fullmatch(section.replace("/**", r"(/\w+)*").replace("/*", r"/\w+"), node) is not None
