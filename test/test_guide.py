"""docs/from_camera_to_nav2.md says what the node, the presets and Nav2 have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from ros_ood_perception.messages.topics import CAMERA_INFO_TOPIC, INPUT_TOPICS, OUTPUT_TOPICS
from ros_ood_perception.parameters.declarations import DECLARATIONS

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (ROOT / "docs" / "from_camera_to_nav2.md").read_text()
COSTMAP = ROOT / "config" / "nav2" / "anomaly_layer.yaml"

# What nav2_costmap_2d/plugins/obstacle_layer.cpp declares, the same on its branches humble, jazzy, kilted and main.
LAYER = {
    *("plugin", "enabled", "footprint_clearing_enabled", "min_obstacle_height", "max_obstacle_height"),
    *("combination_method", "observation_sources"),
}
SOURCE = {
    *("topic", "sensor_frame", "observation_persistence", "expected_update_rate", "data_type", "min_obstacle_height"),
    *("max_obstacle_height", "inf_is_valid", "marking", "clearing", "obstacle_max_range", "obstacle_min_range"),
    *("raytrace_max_range", "raytrace_min_range"),
}


def blocks() -> list[Any]:
    return [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)]


def layer() -> dict[str, Any]:
    costmap = yaml.safe_load(COSTMAP.read_text())["local_costmap"]["local_costmap"]["ros__parameters"]
    found: dict[str, Any] = costmap["anomaly_layer"]
    return found


def test_the_costmap_of_the_guide_is_the_one_that_is_installed() -> None:
    assert yaml.safe_load(COSTMAP.read_text()) in blocks()


def test_the_layer_has_only_parameters_that_nav2_declares() -> None:
    sources = layer()["observation_sources"].split()
    assert set(layer()) - set(sources) <= LAYER
    for source in sources:
        assert set(layer()[source]) <= SOURCE


def test_the_layer_reads_the_topics_of_the_preset() -> None:
    preset = yaml.safe_load((ROOT / "config" / "topics" / "nav2.yaml").read_text())
    for source, private in (("obstacles", "output/anomaly/obstacles"), ("free_ground", "output/ground/free")):
        assert layer()[source]["topic"] == preset[private].replace("{camera}", "camera")
    named = {topic.replace("{camera}", "camera") for topic in preset.values()}
    for topic in re.findall(r"/camera/[a-z_/]+[a-z]", GUIDE):
        assert topic in named, topic


def test_points_of_the_node_lie_within_the_heights_that_the_layer_keeps() -> None:
    height = next(d.default_value for d in DECLARATIONS if d.name == "ground.point_height_m")
    for limits in (layer(), layer()["obstacles"], layer()["free_ground"]):
        assert limits["min_obstacle_height"] < height < limits["max_obstacle_height"]


def test_every_parameter_of_the_guide_is_the_nodes() -> None:
    declared = {d.name: d for d in DECLARATIONS}
    [values] = [block["/**"]["ros__parameters"] for block in blocks() if "/**" in block]
    for name, value in values.items():
        default = declared[name].default_value
        assert isinstance(value, list if isinstance(default, tuple) else type(default)), name
    for name in re.findall(r"`((?:region|persistence|ground|mounting)\.[a-z_]+)", GUIDE):
        assert name in declared, name


def test_presets_and_views_have_only_topics_that_the_node_has() -> None:
    topics = {*OUTPUT_TOPICS.values(), *INPUT_TOPICS.values(), CAMERA_INFO_TOPIC}
    for path in (ROOT / "config" / "topics").glob("*.yaml"):
        assert set(yaml.safe_load(path.read_text())) <= topics, path
    view = (ROOT / "config" / "view" / "perception.rviz").read_text()
    shown = set(re.findall(r"Value: /perception_node/([a-z_/]+)", view))
    assert len(shown) == 6
    assert shown <= topics
