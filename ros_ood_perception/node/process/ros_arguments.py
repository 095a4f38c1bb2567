"""What the command line of the process gives its nodes: parameter files, parameters and remap rules.

rclpy reads them too, but it neither says which file gave a value, nor whether a rule or a section applied to a node.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_FILE = "--params-file"
_PARAMETERS = ("-p", "--param")
_REMAPS = ("-r", "--remap")
_RULE = re.compile(r"(?:(?P<node>[A-Za-z_]\w*):)?(?:ros(?:topic|service)://)?(?P<from>[^:]+):=(?P<to>.+)", re.ASCII)
_PARAMETER = re.compile(r"(?:(?P<node>[A-Za-z_]\w*):)?(?P<name>[^:]+):=(?P<value>.*)", re.ASCII | re.DOTALL)
_SPECIAL = ("__node", "__name", "__ns")
_OWN_OF_ROS = (
    "/clock",
    "/diagnostics",
    "/parameter_events",
    "/rosout",
    "/tf",
    "/tf_static",
    *(f"~/{name}" for name in ("change_state", "get_state", "get_available_states", "get_available_transitions")),
    *(f"~/{name}" for name in ("get_transition_graph", "transition_event", "get_type_description")),
    *(f"~/{name}" for name in ("describe_parameters", "get_parameter_types", "get_parameters", "list_parameters")),
    *(f"~/{name}" for name in ("set_parameters", "set_parameters_atomically")),
)
"""Topics and services that ROS 2 gives a lifecycle node, and those outside of `~/` that this node uses."""


@dataclass(frozen=True)
class ParameterRule:
    """A parameter of the command line, `-p name:=value`.

    Attributes:
        node: name of the only node that it is for; empty: for every node.
        value: as written.
    """

    node: str
    name: str
    value: str

    def is_for(self, node: str) -> bool:
        """Whether it is for a node of this name, without its namespace."""
        return self.node in ("", node)


@dataclass(frozen=True)
class RosArguments:
    """Arguments behind `--ros-args`.

    Attributes:
        parameters: every `--params-file` and `-p`, in order.
        remap_rules: every `-r`, as written: `~/input/image:=/front/image_raw`.
    """

    parameters: tuple[Path | ParameterRule, ...] = ()
    remap_rules: tuple[str, ...] = ()

    @property
    def parameter_files(self) -> list[Path]:
        """The parameter files, in order."""
        return [given for given in self.parameters if isinstance(given, Path)]


def ros_arguments(arguments: Sequence[str] | None = None) -> RosArguments:
    """The parameters and remap rules of a command line. What rclpy refuses is left out.

    Args:
        arguments: None: those of the process, as `rclpy.init` takes them.

    >>> ros_arguments(["node", "--ros-args", "-r", "~/input/image:=/image", "--", "-r", "not ours"]).remap_rules
    ('~/input/image:=/image',)
    """
    parameters: list[Path | ParameterRule] = []
    rules: list[str] = []
    of_ros = False
    rest = iter(sys.argv if arguments is None else arguments)
    for argument in rest:
        if argument in ("--ros-args", "--"):
            of_ros = argument == "--ros-args"
        if not of_ros or argument not in (_FILE, *_PARAMETERS, *_REMAPS):
            continue
        value = next(rest, "")
        if argument == _FILE:
            parameters.append(Path(value))
        elif argument in _REMAPS:
            rules.append(value)
        elif parts := _PARAMETER.fullmatch(value):
            parameters.append(ParameterRule(parts["node"] or "", parts["name"], parts["value"]))
    return RosArguments(tuple(parameters), tuple(rules))


def unused_rules(rules: Sequence[str], node: str, topics: Sequence[str]) -> dict[str, str]:
    """The remap rules for a node that change none of its topics and services.

    Args:
        rules: as `RosArguments.remap_rules`.
        node: its full name, `/car/perception_node`.
        topics: the node's own ones, `~/input/image`.

    Returns:
        The name that each rule remaps, by rule.
    """
    own = {_full(topic, node) for topic in (*topics, *_OWN_OF_ROS)}
    unused: dict[str, str] = {}
    for rule in rules:
        parts = _RULE.fullmatch(rule)
        if parts is None or parts["from"] in _SPECIAL or parts["node"] not in (None, node.rpartition("/")[2]):
            continue
        if _full(parts["from"], node) not in own:
            unused[rule] = parts["from"]
    return unused


def _full(topic: str, node: str) -> str:
    """A topic as ROS 2 completes it for a node."""
    if topic.startswith("~"):
        return f"{node}{topic[1:]}"
    if topic.startswith("/"):
        return topic
    return f"{node.rpartition('/')[0]}/{topic}"
