"""Where regions stand: all of a frame at once, as each of them alone."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros_ood_perception.camera.camera_model import CameraModel
from ros_ood_perception.obstacles.ground import CameraPose, GroundProjection
from ros_ood_perception.obstacles.regions import Box, Region
from ros_ood_perception.obstacles.standing import standings

LENS = CameraModel(480, 640, 400, 400, 320, 240, "plumb_bob", (-0.2, 0.05, 0.001, -0.001, 0.0))
POSES = [CameraPose.from_mounting(1.5, 4.0, yaw_deg=yaw, forward_m=1.2) for yaw in (0, 90, 180)]


def region(feet: list[tuple[float, float]]) -> Region:
    """A region of which only the feet matter."""
    return Region(0.9, 0.9, 100, Box(0, 0, 10, 10), tuple(feet), False)


feet = st.lists(st.tuples(st.floats(0, 639), st.floats(100, 479)), max_size=5)


@given(st.lists(feet, max_size=6), st.sampled_from(POSES))
def test_many_regions_stand_where_each_of_them_stands_alone(
    of_regions: list[list[tuple[float, float]]], pose: CameraPose
) -> None:
    ground, regions = GroundProjection(LENS, pose), list(map(region, of_regions))
    together = standings(regions, ground)
    assert len(together) == len(regions)
    for found, one in zip(together, regions, strict=True):
        [alone] = standings([one], ground)
        if found is None or alone is None:
            assert found is alone
            continue
        assert len(found.ground_points) == len(alone.ground_points)
        for here, there in zip(found.ground_points, alone.ground_points, strict=True):
            assert here == pytest.approx(there, rel=1e-9, abs=1e-9)
        assert found[1:] == pytest.approx(alone[1:], rel=1e-9, abs=1e-9)


def test_a_region_behind_the_vehicle_is_as_wide_as_it_is() -> None:
    # The directions of its ends are just below and just above half a turn.
    ground = GroundProjection(CameraModel(480, 640, 400, 400, 320, 240), POSES[2])
    ends = ground.pixels([(1.2 - 10, -1.0, 0), (1.2 - 10, 1.0, 0)]).tolist()
    before = ground.pixels([(1.2 - 5, 1.0, 0)]).tolist()
    first, second = standings([region(before), region(ends)], ground)
    assert first is not None
    assert second is not None
    assert second.width_m == pytest.approx(2, rel=0.01)
    assert math.cos(second.bearing_rad) == pytest.approx(-1)
    assert first.width_m == 0
