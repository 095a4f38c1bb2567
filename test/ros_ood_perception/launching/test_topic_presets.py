from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from ros_ood_perception.files.package_files import package_file
from ros_ood_perception.files.strict_yaml import SchemaError
from ros_ood_perception.launching.topic_presets import read_preset, remappings

PRESETS = sorted(path.stem for path in package_file("config/topics").glob("*.yaml"))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("cameras", [[], ["front"], ["front", "left", "right"]])
def test_every_preset_gives_every_camera_topics_of_its_own(preset: str, cameras: list[str]) -> None:
    rules = remappings(read_preset(preset), cameras)
    assert len({public for _, public in rules}) == len(rules) == len(read_preset(preset)) * max(1, len(cameras))
    assert "{" not in str(rules)


def test_a_camera_with_a_name_has_a_level_of_its_own_and_one_without_has_none() -> None:
    topics = {"input/image": "/sensing/{camera}/image_raw"}
    assert remappings(topics, ["front"]) == [("~/front/input/image", "/sensing/front/image_raw")]
    assert remappings(topics, []) == [("~/input/image", "/sensing/camera/image_raw")]


def test_two_cameras_on_one_topic_are_refused() -> None:
    with pytest.raises(SchemaError, match=r"would both be /image; write \{camera\} in the public name"):
        remappings({"input/image": "/image"}, ["front", "left"])
    assert remappings({"input/image": "/image"}, ["front"]) == [("~/front/input/image", "/image")]


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    with pytest.raises(SchemaError, match="apollo: no such preset of topics; there are autoware, nav2, plain"):
        read_preset("apollo")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- input/image", "must be a mapping of private topics to public ones"),
        ("image: /image", "'image' is not a topic of a camera"),
        ("input/image: 5", "is remapped to 5, which is not a valid topic name"),
        ("input/image: /a b", "is remapped to '/a b', which is not a valid topic name"),
        ("input/image: /{cam}/x", "which is not a valid topic name"),
        ("input/image: [", "not a readable YAML file"),
        # of one list that has itself in it
        ("input/image: &a [*a, *a]", r"aliases \(\*a\) are not supported"),
    ],
)
def test_a_file_that_is_no_preset_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(SchemaError, match=message):
        read_preset(str(tmp_path / "mine.yaml"))


def shown_by_rviz() -> dict[str, str]:
    """Topic to display class of the RViz configuration."""
    displays = yaml.safe_load(package_file("config/view/perception.rviz").read_text())["Visualization Manager"]
    return {d["Topic"]["Value"]: d["Class"].split("/")[1] for d in displays["Displays"] if "Topic" in d}


def shown_by_foxglove() -> set[str]:
    panels = json.loads(package_file("config/view/perception.foxglove.json").read_text())["configById"]
    pictures = {panel["imageMode"]["imageTopic"] for panel in panels.values() if "imageMode" in panel}
    return pictures | {topic for panel in panels.values() for topic in panel.get("topics", {})}


def test_rviz_and_foxglove_show_the_same_topics() -> None:
    assert set(shown_by_rviz()) == shown_by_foxglove()


def test_every_panel_of_the_foxglove_layout_is_placed_once() -> None:
    data = json.loads(package_file("config/view/perception.foxglove.json").read_text())

    def placed(node: object) -> list[str]:
        return placed(node["first"]) + placed(node["second"]) if isinstance(node, dict) else [str(node)]

    assert sorted(placed(data["layout"])) == sorted(data["configById"])
