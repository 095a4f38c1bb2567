from __future__ import annotations

from pathlib import Path

import pytest

from ros_ood_perception.files.package_files import package_file
from ros_ood_perception.launching.launched_cameras import cameras_of_argument, cameras_of_file
from ros_ood_perception.parameters.values import ParameterError


def test_names_are_separated_by_commas() -> None:
    assert cameras_of_argument("front, left,") == ["front", "left"]
    assert cameras_of_argument("") == []


@pytest.mark.parametrize(
    "section",
    ["/**", "/car/perception_node", "car/perception_node", "/*/perception_node", "/**/perception_node", "/car/**"],
)
def test_the_files_cameras_are_those_of_the_sections_that_fit(tmp_path: Path, section: str) -> None:
    file = tmp_path / "vehicle.param.yaml"
    file.write_text(f"{section}: {{ros__parameters: {{cameras: [front, rear], engine: auto}}}}")
    assert cameras_of_file(file, "/car/perception_node") == ["front", "rear"]
    if section in ("/**", "/car/**"):
        assert cameras_of_file(file, "/car/other_node") == ["front", "rear"]
    else:
        with pytest.raises(
            ParameterError, match=r"vehicle\.param\.yaml: it has no parameters of /car/other_node, only"
        ):
            cameras_of_file(file, "/car/other_node")


def test_namespaces_can_be_levels_and_the_last_section_counts(tmp_path: Path) -> None:
    file = tmp_path / "vehicle.param.yaml"
    file.write_text(
        "/**: {ros__parameters: {cameras: [all]}}\n"
        "car: {perception_node: {ros__parameters: {cameras: [front]}}, other: {ros__parameters: {cameras: [rear]}}}\n"
        "/**/perception_node: {ros__parameters: {engine: auto}}\n"
    )
    assert cameras_of_file(file, "/car/perception_node") == ["front"]
    assert cameras_of_file(file, "/perception_node") == ["all"]


def test_the_packages_file_has_the_camera_without_a_name_and_a_missing_file_is_an_error(tmp_path: Path) -> None:
    assert cameras_of_file(package_file("config/perception_node.param.yaml"), "/perception_node") == [""]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        cameras_of_file(tmp_path / "nowhere.yaml", "/perception_node")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("cameras: front", r"'cameras' is 'front', a string; it must be a list of strings: write \['front'\]"),
        ("cameras: [1, 2]", r"'cameras' is \[1, 2\], a list of integers; it must be a list of strings"),
        ("cameras: {front: rear}", "the node has no parameter 'cameras.front'"),
        ("camera: [front]", r"the node has no parameter 'camera'; .* \(nearest: 'cameras'\)"),
        ("max_rate_hz: 20", "it must be a double: write 20.0"),
    ],
)
def test_what_the_node_cannot_have_is_refused_before_it_is_launched(
    tmp_path: Path, parameters: str, message: str
) -> None:
    file = tmp_path / "vehicle.param.yaml"
    file.write_text(f"/**: {{ros__parameters: {{{parameters}}}}}")
    with pytest.raises(ParameterError, match=rf"vehicle\.param\.yaml: .*{message}"):
        cameras_of_file(file, "/perception_node")
