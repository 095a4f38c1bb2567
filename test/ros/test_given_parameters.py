"""What a node is given: read as the real reader of ROS 2 reads it, and refused where nothing takes it."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rclpy
from bench import UNCONFIGURED, Bench, NodeProcess
from rclpy.context import Context
from rclpy.node import Node

from ros_ood_perception.files.strict_yaml import SchemaError
from ros_ood_perception.node.given_parameters import given_parameters
from ros_ood_perception.node.parameters import NodeParameters
from ros_ood_perception.node.process.node_process import RCLError, initialise
from ros_ood_perception.node.process.ros_arguments import ros_arguments, unused_rules
from ros_ood_perception.parameters.rcl_yaml import parse_sections
from ros_ood_perception.parameters.settings import ParameterError

# A line for each kind; "stricter" are those that ROS 2 reads in a way that no writer means.
VALUES = """20 2e-4 2.0e-4 5. .5 5.e3 +5 -0x10 0x10 010 08 00 0o10 0b1 1_000 1,000 1e 0x 0x1.8p3 e5 1:30 1d5 . -
yes y on Y n No off true TRUE tRue ~ null Null .inf -.inf +.INF .nan +.nan inf nan -Infinity infinit nan(1) = '20' ''
"20" 'true' !!str 20|!!str yes|!!int '20'|!!float 20|!foo 20|! 20|!!str ''|!!str|&a 5|1 2|2020-01-01|5 # c|1e400|1e-400
1e-310 99999999999999999999 9223372036854775807 9223372036854775808 -9223372036854775808 0xFFFFFFFFFFFFFFFFFF
2.2250738585072014e-308 2.2250738585072011e-308 0x1p1024 0e999 1.7976931348623157e308 [] [1] [1,0x10] [1,1.5] [1.5,1]
[true,1] [yes,no] [yes,'no'] ['1',1] [a,b] [a,1] [~] [1,~] [''] [.inf,1.0] [2e-4,1.0] [1e400,a]"""
DOCUMENTS = [
    "",
    "a: 1",
    "[1]",
    "/**: 5",
    "/**: [1]",
    "/**: {a: 1}",
    "/**: {ros__parameters: }",
    "/**: {ros__parameters: [1]}",
    "/**: {ros__parameters: {}}\n/perception_node: {ros__parameters: {p: 1}}",
    "/**: {ros__parameters: {g: {}, p: 1}}",
    "/**: {ros__parameters: {a: {b: {c: 1}, d: []}, e: {f: x}}}",
    "/**: {ros__parameters: {p: &a 5, q: *a}}",
    "/**: {ros__parameters: {'': 1}}",
    "/**: {ros__parameters: {5: 1, yes: 2, 'a b': 3}}",
    "/**: {ros__parameters: {p: 1}}\n---\n/x: {ros__parameters: {p: 2}}\n--- {perception_node: {ros__parameters: {q: 3}}}",  # noqa: E501
    "perception_node: {ros__parameters: {p: 2}}\n/**: {ros__parameters: {p: 1}}",
    '{"/**": {"ros__parameters": {"p": 1, "s": "x"}}}',
    "%YAML 1.2\n---\n/**: {ros__parameters: {p: 1}}",
    "\ufeff/**: {ros__parameters: {p: é}}",
    "/**:\n\tros__parameters: {p: 1}",
    "/**:\n  ros__parameters: {p: 'a:b', q: 1}",
    "car: {front: {perception_node: {ros__parameters: {p: 1}}}, rear: {ros__parameters: {p: 2}}}",
    "/**: {perception_node: {ros__parameters: {p: 1}}}",
    "/car: {/front/perception_node: {ros__parameters: {p: 1}}}",
]
SECTIONS = [
    *(
        f"{section}: {{ros__parameters: {{p: 1}}}}"
        for section in (
            *(
                "/**",
                '"**"',
                "/*",
                "/perception_node",
                "perception_node",
                "car/front/perception_node",
                "/**/perception_node",
            ),
            *(
                "/*/perception_node",
                "/*/*/perception_node",
                "/car/**",
                "/car/*",
                "/**/front/**",
                "/**/*",
                "/perc*",
                "/",
            ),
            *("//perception_node", "/perception_node/", "5", "/car/**/perception_node", "/car/front/perception_node/x"),
        )
    ),
]
MEANT_OTHERWISE = [
    "/**: {ros__parameters: {p: 1, p: x}}",
    "/**: {ros__parameters: {p: 1}}\n/**: {ros__parameters: {q: 1}}",
    "/**: {ros__parameters: {p: [{a: 1}]}}",
    "/**: {ros__parameters: {p: [[1]]}}",
    "/**: {ros__parameters: {p: 1}, x: {ros__parameters: {q: 1}}}",
    '/**: {ros__parameters: {p: "a\\0b"}}',
    "/**: {ros__parameters_x: {p: 1}}",
]


def values_of_the_list() -> list[str]:
    lines = [line.split("|") if "|" in line else line.split() for line in VALUES.split("\n")]
    return list(dict.fromkeys(value for line in lines for value in line))


def of_ros(text: str, file: Path, namespace: str = "", name: str = "perception_node") -> dict[str, Any] | None:
    """What a node gets by rclpy, with its types; None: ROS 2 refuses the file."""
    file.write_text(text)
    context = Context()
    try:
        rclpy.init(args=["--ros-args", "--params-file", str(file)], context=context)
    except RCLError:
        return None
    node = Node(name, namespace=namespace, context=context, start_parameter_services=False, enable_rosout=False)
    try:
        given = given_parameters(node, ros_arguments([]))
        return {name: typed(parameter.value) for name, parameter in given.values.items()}
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def of_ours(text: str, node: str) -> dict[str, Any] | None:
    try:
        sections = parse_sections(text.encode(), "a.yaml")
    except SchemaError:
        return None
    return {name: typed(v) for section in sections if section.matches(node) for name, v in section.values.items()}


def typed(value: Any) -> str:
    """NaN equals NaN, and 1 is not 1.0."""
    return repr(str(value)) if isinstance(value, str) else repr(list(value) if isinstance(value, list) else value)


def test_every_value_has_the_type_that_a_real_node_gives_it(tmp_path: Path) -> None:
    texts = {f"p{number}: {value}": f"p{number}" for number, value in enumerate(values_of_the_list())}
    alone = {text: of_ours(f"/**:\n  ros__parameters:\n    {text}\n", "/perception_node") for text in texts}
    refused = [text for text, values in alone.items() if values is None]
    assert len(refused) >= 8
    for text in refused:
        assert of_ros(f"/**:\n  ros__parameters:\n    {text}\n", tmp_path / "a.yaml") is None, text
    # One file for all that both take: a node takes longer than a file.
    taken = "".join(f"    {text}\n" for text in texts if text not in refused)
    theirs = of_ros(f"/**:\n  ros__parameters:\n{taken}", tmp_path / "a.yaml")
    assert theirs == {texts[text]: (alone[text] or {})[texts[text]] for text in texts if text not in refused}


@pytest.mark.parametrize("namespace", ["", "/car/front"])
def test_every_document_has_the_sections_that_a_real_node_takes(namespace: str, tmp_path: Path) -> None:
    taken = 0
    for text in SECTIONS if namespace else (*DOCUMENTS, *SECTIONS):
        ours, theirs = of_ours(text, f"{namespace}/perception_node"), of_ros(text, tmp_path / "a.yaml", namespace)
        assert ours == theirs, text
        taken += bool(theirs)
    assert taken >= 8


def test_what_ros_reads_otherwise_than_it_is_meant_is_refused(tmp_path: Path) -> None:
    for text in MEANT_OTHERWISE:
        assert of_ours(text, "/perception_node") is None, text
        assert of_ros(text, tmp_path / "a.yaml") is not None, text


def test_random_documents_are_never_read_otherwise_than_by_a_real_node(tmp_path: Path) -> None:
    generator = random.Random(3)
    values = values_of_the_list()
    sections = ["/**", "perception_node", "/car/perception_node", "/other", "/**/perception_node"]

    def group(depth: int) -> str:
        names = generator.sample("abcdefg", generator.randint(1, 3))
        inner = [group(depth - 1) if depth and generator.random() < 0.3 else generator.choice(values) for _ in names]
        return "{" + ", ".join(f"{n}: {v}" for n, v in zip(names, inner, strict=True) if not v.endswith("# c")) + "}"

    both = 0
    for _ in range(60):
        chosen = generator.sample(sections, generator.randint(1, 3))
        text = "\n".join(f"{section}: {{ros__parameters: {group(2)}}}" for section in chosen)
        ours = of_ours(text, "/perception_node")
        if ours is not None:
            both += 1
            assert ours == of_ros(text, tmp_path / "a.yaml"), text
    assert both > 10


# -- what nothing takes -----------------------------------------------------------------------------------------------


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    """Makes a node with arguments, and gives back why it cannot be configured; empty if it can be."""

    def why(*arguments: str, file: str | None = None) -> str:
        path = tmp_path / "vehicle.param.yaml"
        if file is not None:
            path.write_text(file)
        context = Context()
        command = ["--ros-args", *(["--params-file", str(path)] if file is not None else []), *arguments]
        rclpy.init(args=command, context=context)
        node = Node("perception_node", context=context, start_parameter_services=False, enable_rosout=False)
        try:
            NodeParameters(node, given_parameters(node, ros_arguments(command))).read()
        except ParameterError as error:
            return str(error)
        finally:
            node.destroy_node()
            rclpy.shutdown(context=context)
        return ""

    return why


BUNDLE = ("-p", "bundle:=b")


@pytest.mark.parametrize(
    ("arguments", "file", "message"),
    [
        (["-p", "anomaly_treshold:=0.5"], None, "-p anomaly_treshold: the node has no parameter 'anomaly_treshold'"),
        ([], "/**: {ros__parameters: {num_thread: 1}}", "vehicle.param.yaml: the node has no parameter 'num_thread'"),
        ([], "/perceptoin_node: {ros__parameters: {num_threads: 1}}", "it has no parameters of /perception_node, only"),
        (
            [],
            "/**: {ros__parameters: {max_rate_hz: 20}}",
            "vehicle.param.yaml: parameter 'max_rate_hz' is 20, an integer",
        ),
        ([], "/**: {ros__parameters: {engine_cache: ~}}", "the text of a null"),
        ([], "/**: {ros__parameters: {num_threads: 1, num_threads: 2}}", "the key 'num_threads' is there twice"),
        (
            ["-p", "max_rate_hz:=20"],
            None,
            "-p max_rate_hz: parameter 'max_rate_hz' is 20, an integer; it must be a double",
        ),
        (
            [],
            "/**: {ros__parameters: {num_threads: 1}}\nperception_node: {ros__parameters: {bundle: other}}",
            "-p bundle: parameter 'bundle' is 'b' there, but ROS 2 takes 'other' from ",
        ),
    ],
)
def test_configure_refuses_what_the_node_was_given_and_does_not_take(
    arguments: list[str], file: str | None, message: str, refused: Callable[..., str]
) -> None:
    assert message in refused(*BUNDLE, *arguments, file=file)


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        ([], None),
        (["-p", "use_sim_time:=false", "-p", "start_type_description_service:=false"], None),
        (["-p", "qos_overrides./camera/image_raw.subscription.depth:=3"], None),
        (["-p", "other_node:anything:=1"], None),
        ([], "/other: {ros__parameters: {anything: 1}}\n/**: {ros__parameters: {num_threads: 1}}"),
        ([], "/**: {ros__parameters: {cameras: [], outputs: [], region: {drivable_classes: []}}}"),
        (["-p", "outputs:=[]"], None),
    ],
)
def test_what_is_of_ros_or_of_other_nodes_is_not_refused(
    arguments: list[str], file: str | None, refused: Callable[..., str]
) -> None:
    assert refused(*BUNDLE, *arguments, file=file) == ""


def test_a_remap_rule_is_unused_where_the_node_has_no_such_topic() -> None:
    topics = ["~/front/input/image", "~/front/output/state"]

    def unused(*rules: str) -> list[str]:
        arguments = ros_arguments(["--ros-args", *(part for rule in rules for part in ("-r", rule))])
        return list(unused_rules(arguments.remap_rules, "/car/perception_node", topics))

    assert unused("~/front/input/image:=/a", "perception_node:~/front/input/image:=/a", "__ns:=/car", "/tf:=tf") == []
    assert unused("/car/perception_node/front/input/image:=/a", "perception_node/front/output/state:=/b") == []
    assert unused("rostopic://~/front/input/image:=/a", "other:~/nothing:=/a", "~/get_state:=/s") == []
    wrong = ["~/input/image:=/a", "~/front/input/imag:=/a", "/front/input/image:=/a", "scan:=/b"]
    assert unused(*wrong) == wrong


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--params-file", "nowhere.yaml"], "[Errno 2] No such file or directory: 'nowhere.yaml'"),
        (["--params-file", "mixed.yaml"], "mixed.yaml: line 1: parameter 'a' holds 1 (an integer) and 1.5 (a double)"),
        (["--bogus"], "unknown arguments behind --ros-args: ['--bogus']"),
        (["--", "bundle=b"], "unknown arguments: bundle=b; those of ROS 2 (-p, -r) stand behind --ros-args"),
    ],
)
def test_arguments_that_ros_cannot_read_are_named_before_the_node_starts(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mixed.yaml").write_text("/**: {ros__parameters: {a: [1, 1.5]}}")
    [problem] = initialise(["--ros-args", *arguments])
    assert message in problem


def test_a_running_node_refuses_a_rule_for_a_topic_that_it_does_not_have(
    bench: Bench, start_node: Callable[..., NodeProcess], brightness_bundle: Path
) -> None:
    module = [sys.executable, "-m", "ros_ood_perception.node.perception_node"]
    node = start_node([*module, "--ros-args", "-r", "~/input/imag:=/image", "--"], bundle=brightness_bundle)
    assert not bench.transition("configure")
    assert bench.state() == UNCONFIGURED
    assert "configure failed: the remap rule ~/input/imag:=/image changes no topic of this node (nearest: " in node.log


def test_the_topic_of_a_calibration_can_be_remapped(
    bench: Bench, start_node: Callable[..., NodeProcess], brightness_bundle: Path
) -> None:
    module = [sys.executable, "-m", "ros_ood_perception.node.perception_node"]
    rules = ["-r", "/perception_node/lens:=/lens", "-p", "calibration.camera_info_topic:=[/perception_node/lens]"]
    node = start_node([*module, "--ros-args", *rules, "--"], bundle=brightness_bundle)
    assert bench.transition("configure")
    assert "changes no topic of this node" not in node.log
