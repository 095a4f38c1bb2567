"""The arguments of the launch files that start the node, with their defaults and descriptions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.parameters.declarations import DECLARATIONS
from ros_ood_perception.shown_text import nearest, printable

PACKAGE = "ros_ood_perception"
PARAMETER_FILE = "config/perception_node.param.yaml"
OF_EVERY_LAUNCH = (
    "emulate_tty",
    "launch-prefix",
    "launch-prefix-filter",
    "ros_namespace",
    "ros_remaps",
    "global_params",
    "sigkill_timeout",
    "sigterm_timeout",
)
"""Names that `launch` and `launch_ros` themselves look up among the arguments."""
_DESCRIPTIONS = {declaration.name: declaration.description for declaration in DECLARATIONS}


def node_arguments(share: Path) -> dict[str, tuple[str, str]]:
    """Default and description of each argument that starts the node, alone or with a recording.

    Args:
        share: the package's share folder.
    """
    return {
        "bundle": ("", f"{_DESCRIPTIONS['bundle']} Empty: the value of params_file."),
        "engine": ("", f"{_DESCRIPTIONS['engine']} Empty: the value of params_file."),
        "cameras": ("", "Names of the cameras, separated by commas. Empty: the value of params_file."),
        "preset": ("plain", "Names of the topics: plain, nav2, autoware (config/topics), or the path of a .yaml file."),
        "input_image": ("", "Topic of the images, with {camera} for a camera's name. Empty: the preset's topic."),
        "input_camera_info": ("", "Topic of the calibration, with {camera} for a camera's name. Empty: the preset's."),
        "params_file": (str(share / PARAMETER_FILE), "Parameter file of the node."),
        "log_level": ("info", "Lowest level that is logged: debug, info, warn, error or fatal."),
    }


class LaunchArgumentError(PerceptionError, ValueError):
    """A launch file got an argument that it does not have. The message names it."""


def unknown_arguments(given: Iterable[str], declared: Collection[str]) -> list[str]:
    """What is wrong with arguments that a launch file does not have, with the nearest that it has.

    `launch` takes any name and says nothing.

    Args:
        given: names of the launch configurations.
        declared: names of the launch file's arguments.

    >>> unknown_arguments(["bundel", "cameras"], ["bundle", "cameras"])
    ["the launch file has no argument 'bundel' (nearest: 'bundle')"]
    """
    return [
        f"the launch file has no argument '{printable(name, 200)}'{nearest(name, declared)}"
        for name in given
        if name not in declared and name not in OF_EVERY_LAUNCH and not name.startswith("anon")
    ]


def check_arguments(given: Iterable[str], declared: Collection[str], file: Path, command_line: Sequence[str]) -> None:
    """Refuse arguments that the launch file does not have, if the user started it.

    If another launch file includes this one, that one's arguments are there as well, and nothing is refused.

    Args:
        given, declared: see `unknown_arguments`.
        file: of the launch description.
        command_line: of the process: `ros2 launch PACKAGE FILE`, or with the path of a file.

    Raises:
        LaunchArgumentError: with all of them.
    """
    problems = unknown_arguments(given, declared) if _is_named(file, command_line) else []
    if problems:
        raise LaunchArgumentError(f"{'; '.join(problems)}; it has {', '.join(sorted(declared))}")


def _is_named(file: Path, command_line: Sequence[str]) -> bool:
    """Whether a command line names this launch file, and not one of another package that is called the same."""
    for before, argument in pairwise(["", *command_line]):
        if Path(argument).name != file.name:
            continue
        if before == PACKAGE or Path(argument).resolve() == file.resolve():
            return True
    return False
