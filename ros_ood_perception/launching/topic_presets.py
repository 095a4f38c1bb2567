"""Which public topic each private topic of the node is remapped to: a preset of `config/topics`, or a file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ros_ood_perception.files.package_files import package_file
from ros_ood_perception.files.strict_yaml import SchemaError, load_yaml, shown

UNNAMED_CAMERA = "camera"
"""The value of `{camera}` for a camera without a name."""

_PRIVATE = re.compile(r"(input|output|debug)(/[a-z][a-z0-9_]*)+")
_PUBLIC = re.compile(r"/?[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*")


def read_preset(preset: str) -> dict[str, str]:
    """Private topic of a camera (`input/image`) to public topic (`/{camera}/image_raw`).

    Args:
        preset: name of a file in `config/topics` without its ending, or path of a `.yaml` file.

    Raises:
        SchemaError: there is no such preset, or it is not a mapping of topics. The message lists the presets.
    """
    folder = package_file("config/topics")
    path = Path(preset).expanduser() if preset.endswith((".yaml", ".yml")) else folder / f"{preset}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        raise SchemaError(f"{preset}: no such preset of topics; there are {names}, or give the path of a .yaml file")
    topics = load_yaml(path)
    if not isinstance(topics, dict):
        raise SchemaError(f"{path}: it must be a mapping of private topics to public ones, such as input/image: /image")
    for private, public in topics.items():
        check_topic(private, public, str(path))
    return topics


def check_topic(private: object, public: object, source: str) -> None:
    """Check a private topic and the public topic that it is remapped to.

    Raises:
        SchemaError: one of them is not a valid topic.
    """
    if not isinstance(private, str) or not _PRIVATE.fullmatch(private):
        raise SchemaError(
            f"{source}: {shown(private)} is not a topic of a camera; it must begin with input/, output/ or debug/"
        )
    if not isinstance(public, str) or not _PUBLIC.fullmatch(public.replace("{camera}", "camera")):
        raise SchemaError(f"{source}: {private} is remapped to {shown(public)}, which is not a valid topic name")


def remappings(topics: Mapping[str, str], cameras: Sequence[str]) -> list[tuple[str, str]]:
    """Remap rules (`~/front/input/image`, `/front/image_raw`) for every camera.

    Args:
        topics: as `read_preset` returns them.
        cameras: names. None, or one empty name: a camera whose topics are directly below the node's name.

    Raises:
        SchemaError: two topics would get the same public name.
    """
    rules: list[tuple[str, str]] = []
    for camera in cameras or [""]:
        prefix = f"~/{camera}" if camera else "~"
        rules += [(f"{prefix}/{private}", _filled(public, camera)) for private, public in topics.items()]
    taken: dict[str, str] = {}
    for private, public in rules:
        if taken.setdefault(public, private) != private:
            raise SchemaError(
                f"{private} and {taken[public]} would both be {public}; write {{camera}} in the public name"
            )
    return rules


def _filled(public: str, camera: str) -> str:
    return public.replace("{camera}", camera or UNNAMED_CAMERA)
