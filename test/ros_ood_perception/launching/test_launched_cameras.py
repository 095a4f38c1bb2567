from __future__ import annotations

from pathlib import Path

import pytest

from ros_ood_perception.files.package_files import package_file
from ros_ood_perception.files.strict_yaml import SchemaError
from ros_ood_perception.launching.launched_cameras import cameras_of_argument, cameras_of_file


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
    assert cameras_of_file(file, "/car/other_node") == (["front", "rear"] if section in ("/**", "/car/**") else [])


def test_namespaces_can_be_levels_and_the_last_section_counts(tmp_path: Path) -> None:
    file = tmp_path / "vehicle.param.yaml"
    file.write_text(
        "/**: {ros__parameters: {cameras: [all]}}\n"
        "car: {perception_node: {ros__parameters: {cameras: [front]}}, other: {ros__parameters: {cameras: [rear]}}}\n"
        "/**/perception_node: {ros__parameters: {engine: auto}}\n"
    )
    assert cameras_of_file(file, "/car/perception_node") == ["front"]
    assert cameras_of_file(file, "/perception_node") == ["all"]


def test_the_packages_file_has_the_camera_without_a_name_and_no_file_has_none(tmp_path: Path) -> None:
    assert cameras_of_file(package_file("config/perception_node.param.yaml"), "/perception_node") == [""]
    assert cameras_of_file(tmp_path / "nowhere.yaml", "/perception_node") == []


@pytest.mark.parametrize("cameras", ["front", "[1, 2]", "{front: rear}"])
def test_what_are_no_names_is_refused(tmp_path: Path, cameras: str) -> None:
    file = tmp_path / "vehicle.param.yaml"
    file.write_text(f"/**: {{ros__parameters: {{cameras: {cameras}}}}}")
    with pytest.raises(SchemaError, match=r"vehicle\.param\.yaml: parameter 'cameras' is .*must be a list of names"):
        cameras_of_file(file, "/perception_node")
