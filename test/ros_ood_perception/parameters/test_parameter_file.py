"""A parameter file is read as ROS 2 reads it, and what the node cannot have is named with the remedy.

test/ros/test_given_parameters.py compares the same texts with the real reader of ROS 2.
"""

from __future__ import annotations

import math
import re
import time
from pathlib import Path
from typing import Any

import pytest

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.strict_yaml import SchemaError
from ros_ood_perception.parameters.parameter_file import parameter_values
from ros_ood_perception.parameters.rcl_yaml import parse_sections
from ros_ood_perception.parameters.settings import ParameterError, fixed_settings, live_settings

NODE = "/perception_node"


def read(text: str, tmp_path: Path, node: str = NODE) -> dict[str, Any]:
    file = tmp_path / "vehicle.param.yaml"
    file.write_text(text)
    return parameter_values(file, (), node)


def one(value: str) -> Any:
    [section] = parse_sections(f"/**:\n  ros__parameters:\n    p: {value}".encode(), "a.yaml")
    return section.values["p"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-4", 0.0002),
        ("20", 20),
        ("yes", True),
        ("n", False),
        ("tRue", "tRue"),
        ("1_000", "1_000"),
        ("0x10", 16),
        ("010", 8),
        ("08", 8.0),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("~", "~"),
        ("'20'", "20"),
        ("!!str 20", "20"),
        ("!!int '20'", "20"),
        ("1e400", "1e400"),
        ("99999999999999999999", 1e20),
        ("-.inf", -math.inf),
        ("[]", []),
        ("[1, 0x10]", [1, 16]),
        ("[2e-4, 1.0]", [0.0002, 1.0]),
    ],
)
def test_a_value_has_the_type_that_ros_gives_it(text: str, value: Any) -> None:
    assert one(text) == value
    assert isinstance(value, str) or type(one(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_rate_hz: 20", "parameter 'max_rate_hz' is 20, an integer; it must be a double: write 20.0"),
        ("num_threads: 2.0", "parameter 'num_threads' is 2.0, a double; it must be an integer: write 2"),
        ("num_threads: 1_000", "parameter 'num_threads' is '1_000', a string; it must be an integer: write 1000"),
        ("num_threads: '4'", "parameter 'num_threads' is '4', a string; it must be an integer: write 4"),
        ("engine_build: 'true'", "parameter 'engine_build' is 'true', a string; it must be a bool: write true"),
        ("bundle: yes", "parameter 'bundle' is True, a bool; it must be a string: write it in quotes"),
        ("bundle: 2024", "parameter 'bundle' is 2024, an integer; it must be a string: write it in quotes"),
        ("engine_cache: ~", "parameter 'engine_cache' is '~', the text of a null, .* it must be a string: write ''"),
        ("cameras: front", r"is 'front', a string; it must be a list of strings: write \['front'\]"),
        ("cameras: [y, n]", r"is \[True, False\], a list of bools; it must be a list of strings: write each in quotes"),
        ("mounting: {height_m: [1]}", r"is \[1\], a list of integers; it must be a list of doubles: write \[1.0\]"),
        ("mounting: {height_m: 1.5}", r"is 1.5, a double; it must be a list of doubles: write \[1.5\]"),
        ("bundle: []", r"parameter 'bundle' is \[\], a list; it must be a string"),
        ("max_frame_age_ms: .inf", r"parameter 'max_frame_age_ms' is inf; it must be from 0 to 3.6e\+06"),
        ("anomaly_threshold: .nan", "parameter 'anomaly_threshold' is nan; it must be from -1 to 1"),
        ("engine: onnx_runtime", r"is 'onnx_runtime'; it must be one of auto, .* \(nearest: 'onnxruntime'\)"),
        ("min_area: 0.1", r"the node has no parameter 'min_area'; .* \(nearest: 'region.min_area'\)"),
        ("region: {min_aera: 0.1}", r"no parameter 'region.min_aera'; .* \(nearest: 'region.min_area'"),
        ("num_thread: 1, max_rate: 2.0", "no parameter 'num_thread'; .*no parameter 'max_rate'"),
    ],
)
def test_a_value_that_the_node_cannot_have_is_refused_with_file_parameter_value_and_remedy(
    text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ParameterError, match=rf"vehicle\.param\.yaml: .*{message}"):
        read(f"/**: {{ros__parameters: {{{text}}}}}", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/**: {ros__parameters: {a: [1, 1.5]}}", r"line 1: parameter 'a' holds 1 \(an integer\) and 1.5 \(a double\)"),
        ("/**: {ros__parameters: {a: }}", "line 1: parameter 'a' has no value"),
        ("/**: {ros__parameters: {a: {}}}", "the group 'a' is empty; remove it"),
        ("/**: {ros__parameters: {a: [[1]]}}", "parameter 'a' holds a list or a mapping"),
        ("/**: {ros__parameters: {a: 1, a: x}}", "the key 'a' is there twice; keep one"),
        ("/**: {ros__parameters: {a.b: 1, a: {b: 2}}}", "parameter 'a.b' is there twice; keep one"),
        ("/**: {ros__parameters: {a: 1}}\n---\n/**: {ros__parameters: {b: 1}}", r"section '/\*\*' is there twice"),
        ("/**: {ros__parameters: {a: &x 1, b: *x}}", r"aliases \(\*x\) are not supported; write the value out"),
        ("/**: {ros__parameters: {<<: {a: 1}}}", "merge keys"),
        ("/**: {ros__parameters: {a: 1}, b: {ros__parameters: {c: 1}}}", "has 'b' beside ros__parameters"),
        ("/**: {ros__parameter: {a: 1}}", "is no mapping; it must contain"),
        ("/**: {a: 1}", r"the section '/\*\*/a' is no mapping; it must contain"),
        ("a: 1", "the section '/a' is no mapping; it must contain"),
        ("/perc*: {ros__parameters: {a: 1}}", r"the section '/perc\*' is no name of a node"),
        ("car//x: {ros__parameters: {a: 1}}", "the section '/car//x' is no name of a node"),
        ("%YAML 1.2\n---\n/**: {ros__parameters: {a: 1}}", "ROS 2 reads YAML 1.1 only"),
        ('/**: {ros__parameters: {a: "b\\0c"}}', "holds a zero byte"),
        ("/**: {ros__parameters: {a: 1:30}}", "'1:30' has a colon within brackets, .*; write it in quotes"),
        ("[1]", "the file is no mapping"),
        ("/**: {ros__parameters: {a: [1}}", "not a readable YAML file"),
        ("{a: " * 40 + "1" + "}" * 40, "more than 16 levels"),
    ],
)
def test_a_file_that_ros_refuses_or_misreads_is_refused_with_line_and_remedy(
    text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(SchemaError, match=rf"(?s)vehicle\.param\.yaml: .*{message}"):
        read(text, tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/perception_nod: {ros__parameters: {num_threads: 1}}",
        "/car/perception_node: {ros__parameters: {num_threads: 1}}",
        "/*/perception_node: {ros__parameters: {num_threads: 1}}",
        "/other: {ros__parameters: {anything: 1}}",
    ],
)
def test_a_file_without_a_section_for_the_node_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"vehicle\.param\.yaml: it has no parameters of /perception_node"):
        read(text, tmp_path)


@pytest.mark.parametrize("section", ["/**", "perception_node", "/**/perception_node", "/*", "/**/*"])
def test_sections_apply_as_in_ros_and_those_of_other_nodes_are_not_judged(section: str, tmp_path: Path) -> None:
    text = f"/other: {{ros__parameters: {{anything: [1]}}}}\n{section}: {{ros__parameters: {{num_threads: 3}}}}\n"
    assert read(text, tmp_path)["num_threads"] == 3


def test_where_several_sections_apply_the_last_one_counts(tmp_path: Path) -> None:
    text = "perception_node: {ros__parameters: {num_threads: 2}}\n/**: {ros__parameters: {num_threads: 1}}\n"
    assert read(text, tmp_path)["num_threads"] == 1


def test_an_empty_list_is_one_of_the_parameters_type(tmp_path: Path) -> None:
    text = "/**: {ros__parameters: {bundle: b, cameras: [], outputs: [], region: {drivable_classes: []}}}"
    values = read(text, tmp_path)
    assert fixed_settings(values).cameras == ("",)
    assert live_settings(values).outputs == frozenset()
    assert live_settings(values).given["region.drivable_classes"] == []


@pytest.mark.parametrize(("name", "written"), [("mounting.height_m", "[0.0]"), ("region.ego_mask", "['']")])
def test_an_empty_list_where_each_camera_needs_a_value_is_refused_with_the_remedy(name: str, written: str) -> None:
    values = parameter_values(None, ["bundle=b", f"{name}=[]"], NODE)
    with pytest.raises(ParameterError, match=re.escape(f"'{name}' is an empty list; write {written}, as by default")):
        fixed_settings(values)


def test_parameters_that_ros_declares_on_every_node_are_accepted(tmp_path: Path) -> None:
    qos = "qos_overrides: {/camera/image_raw: {subscription: {depth: 3}}}"
    read(f"/**: {{ros__parameters: {{use_sim_time: true, start_type_description_service: false, {qos}}}}}", tmp_path)


def test_an_option_takes_an_integer_for_a_double_and_a_single_value_for_a_list() -> None:
    values = parameter_values(None, ["max_rate_hz=20", "cameras=front", "mounting.height_m:=[1, 2]"], NODE)
    assert (values["max_rate_hz"], values["cameras"]) == (20.0, ["front"])
    assert values["mounting.height_m"] == [1.0, 2.0]
    with pytest.raises(PerceptionError, match="--set bundle: there is no value; write ''"):
        parameter_values(None, ["bundle="], NODE)


def test_a_file_that_is_not_there_is_named_with_its_option(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"^--params .*/nowhere.yaml: no such file; give the file"):
        parameter_values(tmp_path / "nowhere.yaml", [], "/perception_node")


def test_long_numbers_and_names_take_no_time(tmp_path: Path) -> None:
    started = time.process_time()
    for value in ("9" * 60_000, "9" * 60_000 + "x", "0x" + "f" * 60_000, "1e" + "9" * 60_000):
        with pytest.raises(ParameterError):
            read(f"/**: {{ros__parameters: {{num_threads: {value}}}}}", tmp_path)
    with pytest.raises(ParameterError, match="the node has no parameter 'aaa") as caught:
        read(f"/**: {{ros__parameters: {{? {'a' * 60_000} : 1}}}}", tmp_path)
    assert len(str(caught.value)) < 1000
    assert time.process_time() - started < 5
