"""Where regions stand: all of a frame at once, as each of them alone."""

from __future__ import annotations

import numpy as np
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
    assert len(together.ground_points) == len(regions)
    for number, one in enumerate(regions):
        alone = standings([one], ground)
        here, there = together.ground_points[number], alone.ground_points[0]
        assert len(here) == len(there)
        np.testing.assert_allclose(np.reshape(here, (-1, 3)), np.reshape(there, (-1, 3)), rtol=1e-9, atol=1e-9)
        for name in ("range_m", "bearing_rad", "width_m"):
            [value], [expected] = getattr(together, name)[number : number + 1], getattr(alone, name)
            np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-9)
            assert np.isnan(value) == (not here)


def test_a_region_behind_the_vehicle_is_as_wide_as_it_is() -> None:
    # The directions of its ends are just below and just above half a turn.
    ground = GroundProjection(CameraModel(480, 640, 400, 400, 320, 240), POSES[2])
    ends = ground.pixels([(1.2 - 10, -1.0, 0), (1.2 - 10, 1.0, 0)]).tolist()
    before = ground.pixels([(1.2 - 5, 1.0, 0)]).tolist()
    found = standings([region(before), region(ends)], ground)
    np.testing.assert_allclose(found.width_m, [0, 2], rtol=0.01)
    np.testing.assert_allclose(np.cos(found.bearing_rad[1]), -1)
