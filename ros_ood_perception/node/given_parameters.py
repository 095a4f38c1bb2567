"""The values that the process was given for the node's parameters: who gave them, and what nothing takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node
from rclpy.parameter import Parameter

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.messages.topics import CAMERA_INFO_TOPIC, INPUT_TOPICS, OUTPUT_TOPICS, STATE_TOPIC, camera_topic
from ros_ood_perception.node.process.ros_arguments import ParameterRule, RosArguments, unused_rules
from ros_ood_perception.parameters.given import Given, given_in_file
from ros_ood_perception.parameters.rcl_yaml import parse_value
from ros_ood_perception.shown_text import error_line, nearest, printable


@dataclass(frozen=True)
class GivenParameters:
    """What the command line and its files give a node.

    Attributes:
        values: by name, what ROS 2 takes for the node, with its source.
        problems: files without parameters of the node or that cannot be read, and values that ROS 2 does not take.
        for_others: options for a node of another name.
    """

    values: dict[str, Given]
    problems: tuple[str, ...]
    for_others: tuple[str, ...] = ()


def given_parameters(node: Node, arguments: RosArguments) -> GivenParameters:
    """Compare what the arguments give a node with what ROS 2 takes for it."""
    # As rclpy's Node itself reads them. The node declares only its own, and hides the others.
    with node.handle:
        taken: dict[str, Parameter[Any]] = node.handle.get_parameters(Parameter)
    problems: list[str] = []
    given: list[Given] = []
    for source in arguments.parameters:
        try:
            given += _given_by(source, node)
        except (PerceptionError, OSError) as error:
            problems.append(error_line(error))
    values: dict[str, Given] = {}
    for name, parameter in taken.items():
        # An empty list has no type in a parameter file, and so rclpy has no value.
        value = [] if parameter.value is None else parameter.value
        plain = value if isinstance(value, (str, int, float)) else list(value)
        of_name = [g for g in given if g.name == name]
        fitting = [g for g in of_name if repr(_plain(g.value)) == repr(plain)]
        values[name] = fitting[-1] if fitting else Given("the command line", name, plain)
        if of_name and of_name[-1] not in fitting:
            last = of_name[-1]
            problems.append(
                f"{last.source}: parameter '{printable(name, 200)}' is {printable(repr(last.value), 100)} there, but "
                f"ROS 2 takes {printable(repr(plain), 100)} from {values[name].source}, whose section stands further "
                "down; give it in one place"
            )
    rules = [source for source in arguments.parameters if isinstance(source, ParameterRule)]
    others = [rule for rule in rules if not rule.is_for(node.get_name())]
    return GivenParameters(
        values,
        tuple(problems),
        tuple(
            f"-p {printable(f'{rule.node}:{rule.name}', 200)} is for a node of that name, not for {node.get_name()}"
            for rule in others
        ),
    )


def _given_by(source: Any, node: Node) -> list[Given]:
    if not isinstance(source, ParameterRule):
        return given_in_file(source, node.get_fully_qualified_name())
    if not source.is_for(node.get_name()):
        return []
    option = f"-p {printable(source.name, 200)}"
    return [Given(option, source.name, parse_value(source.value, option))]


def _plain(value: Any) -> Any:
    # A text of its own class is shown as one.
    return str(value) if isinstance(value, str) else value


def unused_qos_overrides(node: Node, given: GivenParameters) -> Iterator[str]:
    """The QoS overrides of topics that the node does not have, once it has all of its own."""
    declared = node.get_parameters_by_prefix("qos_overrides")
    for name in given.values:
        prefix, _, rest = name.partition(".")
        if prefix == "qos_overrides" and rest not in declared:
            yield (
                f"{given.values[name].source}: {printable(name, 200)} has no effect: the node has no such topic, or "
                f"the policy cannot be overridden{nearest(rest, declared)}"
            )


def unused_remap_rules(
    node: Node, arguments: RosArguments, cameras: Sequence[str], given_topics: Sequence[str | None]
) -> Iterator[tuple[bool, str]]:
    """The remap rules that change no topic of the node, and whether they can be meant for this node only.

    A rule of a whole group of nodes (`/scan:=...`) comes to each of them, so only some need it.

    Args:
        cameras: their names, as `FixedSettings.cameras`.
        given_topics: of parameters, such as `FixedSettings.camera_info_topics`. A rule can change one of them as well.
    """
    name = node.get_fully_qualified_name()
    topics = [
        camera_topic(camera, topic)
        for camera in cameras
        for topic in (*INPUT_TOPICS.values(), CAMERA_INFO_TOPIC, *OUTPUT_TOPICS.values(), STATE_TOPIC)
    ]
    topics += [topic for topic in given_topics if topic]
    for rule, renamed in unused_rules(arguments.remap_rules, name, topics).items():
        own = renamed.startswith(("~", f"{name}/"))
        private = f"~{renamed.removeprefix(name)}" if renamed.startswith(f"{name}/") else renamed
        yield own, f"the remap rule {printable(rule, 200)} changes no topic of this node{nearest(private, topics)}"
