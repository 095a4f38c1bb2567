"""Settings that are possible and are hardly meant."""

from __future__ import annotations

from typing import Any

import pytest

from ros_ood_perception.parameters.declarations import DECLARATIONS
from ros_ood_perception.parameters.settings import fixed_settings


@pytest.mark.parametrize(
    ("mounting", "doubted"),
    [
        ({"mounting.height_m": (1.5,)}, True),
        ({"mounting.height_m": (1.5, 1.5), "mounting.yaw_deg": (0.0, 180.0)}, False),
        ({"mounting.height_m": (0.0,)}, False),
    ],
)
def test_one_pose_for_two_cameras_is_doubted(mounting: dict[str, Any], doubted: bool) -> None:
    values = {declaration.name: declaration.default_value for declaration in DECLARATIONS}
    found = fixed_settings(values | {"cameras": ("front", "rear"), "bundle": "models/mine"} | mounting).doubts
    assert [("front, rear one pose" in text, "/tf_static" in text) for text in found] == [(True, True)] * doubted
