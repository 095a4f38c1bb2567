from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from recorded_drive import camera_info

from ros_ood_perception.obstacles.camera_geometry import CameraGeometry, GroundLimits
from ros_ood_perception.obstacles.ground import CameraPose, GroundProjection

SIZE = (96, 128)
AHEAD = CameraPose.from_mounting(1.5, 5.0)
BODY_AXES = CameraPose.from_transform((0.0, 0.0, 1.5), (0.0, 0.0, 0.0, 1.0))
"""What tf2 gives for `camera_link` where `camera_optical` was meant."""
ABSURD = (1e8, 0.0, 0.0, 0.0, 0.0)


def geometry(pose: CameraPose, distortion: tuple[float, ...] = (0.0,) * 5) -> CameraGeometry:
    found = CameraGeometry(lambda _: pose, False, lambda: "no camera_info")
    info: Any = camera_info(0)
    info.d = np.array(distortion)
    found.set_camera_info(info)
    return found


@pytest.mark.parametrize(
    ("pose", "distortion", "max_range_m"),
    [
        (BODY_AXES, (0.0,) * 5, 40.0),
        (AHEAD, ABSURD, 40.0),
        (CameraPose.from_mounting(1.5, -40.0), (0.0,) * 5, 40.0),
        # 5 degrees and half of the view down, the nearest ground is 2.4 m away.
        (AHEAD, (0.0,) * 5, 2.0),
    ],
)
def test_a_camera_that_shows_no_ground_has_no_place_over_it_and_says_why(
    pose: CameraPose, distortion: tuple[float, ...], max_range_m: float
) -> None:
    camera = geometry(pose, distortion)
    assert camera.ground(SIZE, "camera", GroundLimits(max_range_m, 0.0)) is None
    assert f"no pixel of the image shows ground within {max_range_m:g} m" in camera.problem
    assert "frame_id must be the camera's optical frame" in camera.problem


@pytest.mark.parametrize(
    "pose",
    [
        # The last row is 25.2 degrees below the axis, the farthest ground 2.1 degrees below the horizon.
        CameraPose.from_mounting(1.5, -23.0),
        CameraPose.from_mounting(1.5, -28.0, roll_deg=12.0),
        CameraPose.from_mounting(1.5, 90.0),
        CameraPose.from_mounting(1.5, 5.0, roll_deg=-40.0),
        CameraPose.from_mounting(1.5, 85.0, roll_deg=3.0),
    ],
)
def test_a_camera_that_shows_ground_only_at_an_edge_or_a_corner_is_used(pose: CameraPose) -> None:
    camera = geometry(pose)
    assert camera.ground(SIZE, "camera", GroundLimits(40.0, 0.0)) is not None
    assert camera.problem == ""


@pytest.mark.parametrize("pitch_deg", [10.0, 30.0, 60.0])
@pytest.mark.parametrize("roll_deg", [50.0, 90.0, -90.0, 180.0])
def test_a_camera_that_is_not_upright_has_no_place_over_the_ground(pitch_deg: float, roll_deg: float) -> None:
    camera = geometry(CameraPose.from_mounting(1.5, pitch_deg, roll_deg=roll_deg))
    assert camera.ground(SIZE, "camera", GroundLimits(40.0, 0.0)) is None
    assert "the camera is not upright" in camera.problem
    assert "turn the image in the driver" in camera.problem


def test_ground_is_looked_for_once_and_again_when_the_pose_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    place = GroundProjection.place

    def counted(self: GroundProjection, pixels: Any) -> Any:
        calls.append(1)
        return place(self, pixels)

    monkeypatch.setattr(GroundProjection, "place", counted)
    poses = [BODY_AXES] * 3 + [AHEAD] * 3
    camera = geometry(AHEAD)
    camera._pose_of = lambda _: poses.pop(0)
    known = [camera.ground(SIZE, "camera", GroundLimits(40.0, 0.0)) is not None for _ in range(6)]
    assert known == [False] * 3 + [True] * 3
    assert len(calls) == 2
