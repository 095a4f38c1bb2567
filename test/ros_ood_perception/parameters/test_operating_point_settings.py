"""Settings that an operating point holds: they replace defaults, the user's own values win, and errors name them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ros_ood_perception.bundle.description import BundleDescription, OperatingPoint
from ros_ood_perception.bundle.model_bundle import read_bundle, write_description
from ros_ood_perception.parameters.declarations import DECLARATIONS
from ros_ood_perception.parameters.settings import LiveSettings, ParameterError, live_settings
from ros_ood_perception.replay.comparison.settings_differences import settings_differences

CALM: dict[str, Any] = {
    "region.hysteresis": 0.9,
    "region.min_area": 0.001,
    "region.min_size_m": 0.3,
    "region.hidden_foot": 0.5,
    "persistence.seen_frames": 3,
    "persistence.of_frames": 5,
    "ground.max_range_m": 25,
}


def live(**changes: Any) -> LiveSettings:
    given = {name.replace("__", "."): value for name, value in changes.items()}
    return live_settings({d.name: d.default_value for d in DECLARATIONS} | given)


def description(bundle: Path, settings: dict[str, Any]) -> BundleDescription:
    found = read_bundle(bundle).description
    points = (OperatingPoint("bare", 0.5, "by hand", "none"), OperatingPoint("calm", 0.9, "by hand", "none"))
    return replace(found, operating_points=(points[0], replace(points[1], settings=settings)))


def test_a_point_changes_threshold_and_settings_at_once_and_gives_way_to_the_users_values(shipped_bundle: Path) -> None:
    known = description(shipped_bundle, CALM)
    bare = live().pipeline_settings(known)
    assert (bare.anomaly_threshold, bare.region.hysteresis, bare.persistence.of_frames) == (0.5, 0.7, 3)
    assert (bare.region.min_area, bare.region.min_size_m) == (0.0002, 0.0)
    calm = live(operating_point="calm").pipeline_settings(known)
    assert (calm.anomaly_threshold, calm.region.hysteresis, calm.region.min_area) == (0.9, 0.9, 0.001)
    assert (calm.region.min_size_m, calm.region.hidden_foot) == (0.3, 0.5)
    assert (calm.persistence.seen_frames, calm.persistence.of_frames, calm.ground.max_range_m) == (3, 5, 25.0)
    own = live(operating_point="calm", region__min_area=0.0004, anomaly_threshold=0.6)
    settings = own.pipeline_settings(known)
    assert (settings.anomaly_threshold, settings.region.min_area, settings.region.hysteresis) == (0.6, 0.0004, 0.9)
    sources = own.in_force(known).sources
    assert sources["region.min_area"] == "parameter"
    assert sources["region.hysteresis"] == "operating point calm"
    assert sources["region.max_regions"] == "default"
    assert str(own.in_force(known)) == (
        "region.hysteresis 0.9 (operating point calm), region.min_area 0.0004 (parameter), "
        "region.min_size_m 0.3 (operating point calm), region.hidden_foot 0.5 (operating point calm), "
        "persistence.seen_frames 3 (operating point calm), persistence.of_frames 5 (operating point calm), "
        "ground.max_range_m 25 (operating point calm)"
    )


def test_a_default_that_is_written_down_gives_way_as_the_packages_own_file_writes_all(shipped_bundle: Path) -> None:
    known = description(shipped_bundle, {"region.drivable_classes": ["pavement"], "region.min_area": 0.001})
    for default in ([], [""], ("",)):
        found = live(operating_point="calm", region__drivable_classes=default, region__min_area=0.0002)
        assert found.pipeline_settings(known).region.min_area == 0.001
        assert found.drivable_names(known) == ("pavement",)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"region.min_are": 0.1},
            r"operating point 'calm' of the bundle: holds 'region.min_are'.*nearest: 'region.min",
        ),
        ({"bundle": "/tmp"}, "holds 'bundle'"),
        ({"region.ego_mask": ["mask.png"]}, "holds 'region.ego_mask'"),
        ({"region.min_area": 7.0}, "parameter 'region.min_area' is 7.0; it must be from 0 to 1; correct bundle.yaml"),
        ({"region.min_size_m": -1.0}, "parameter 'region.min_size_m' is -1.0; it must be from 0 to 10"),
        ({"region.min_area": True}, "'region.min_area' is True, a bool; it must be a double"),
        ({"persistence.seen_frames": 2.5}, "'persistence.seen_frames' is 2.5, a double; it must be an integer"),
        ({"persistence.seen_frames": 9}, "settings of the operating point 'calm': .*persistence is 9 of 3"),
        ({"persistence.max_gap_s": 0.1}, "settings of the operating point 'calm': parameter 'max_rate_hz' is 4"),
        ({"region.drivable_classes": ["lawn"]}, "'region.drivable_classes' holds 'lawn'"),
    ],
)
def test_a_setting_that_the_node_cannot_have_is_refused_with_point_name_and_value(
    settings: dict[str, Any], message: str, shipped_bundle: Path
) -> None:
    with pytest.raises(ParameterError, match=message):
        live(operating_point="calm", max_rate_hz=4.0).pipeline_settings(description(shipped_bundle, settings))


def test_settings_of_a_bundle_are_read_as_written_and_a_bare_point_is_written_as_before(
    shipped_bundle: Path, tmp_path: Path
) -> None:
    for file in shipped_bundle.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "bundle.yaml").unlink()
    known = description(shipped_bundle, CALM)
    write_description(tmp_path, known)
    assert read_bundle(tmp_path).description == known
    text = (tmp_path / "bundle.yaml").read_text()
    assert text.count("settings:") == 1
    assert "false_obstacles" not in text
    (tmp_path / "bundle.yaml").write_text(text.replace("region.min_area: 0.001", "region.min_area: {a: 1}"))
    with pytest.raises(ValueError, match=r"the setting 'region.min_area' of the operating point 'calm'"):
        read_bundle(tmp_path)


def test_a_comparison_of_replays_names_settings_that_only_the_operating_points_change() -> None:
    def summary(min_area: float) -> dict[str, Any]:
        of_point = {"value": min_area, "from": "operating point calm"}
        own = {"value": min_area, "from": "parameter"}
        return {"settings": {"region.min_area": of_point, "region.hysteresis": own}}

    assert settings_differences(summary(0.1), summary(0.2)) == [
        {"setting": "region.min_area of the operating point", "this": 0.1, "other": 0.2}
    ]
