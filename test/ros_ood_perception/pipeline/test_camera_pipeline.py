from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from recorded_drive import camera_info

from ros_ood_perception.bundle.description import InputDescription
from ros_ood_perception.camera.raw_image import MalformedImageError
from ros_ood_perception.inference.engine import EngineError, EngineOutput, ImageSizeError
from ros_ood_perception.messages.results import warnings_for_outputs
from ros_ood_perception.obstacles.camera_geometry import GroundLimits
from ros_ood_perception.obstacles.ground import CameraPose
from ros_ood_perception.obstacles.regions import RegionSettings
from ros_ood_perception.obstacles.tracks import PersistenceSettings
from ros_ood_perception.pipeline.camera_pipeline import (
    NO_PLACE,
    TOO_FAR_APART,
    CameraPipeline,
    CameraSetup,
    FrameResult,
    PipelineSettings,
)

SIZE = (120, 160)
MOUNTING = CameraPose.from_mounting(1.5, 5.0)
STEP_NS = 100_000_000


class Darkness:
    """An engine whose score is how dark a pixel is; every pixel is of class 0."""

    name = "darkness"

    def __init__(self, error: EngineError | None = None) -> None:
        self.error = error

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        if self.error is not None:
            raise self.error
        score = 1 - images.max(axis=3).astype(np.float32) / 255
        return EngineOutput(np.zeros(score.shape, np.uint8), score)

    def close(self) -> None:
        """Nothing is open."""


def picture() -> NDArray[np.uint8]:
    image = np.full((*SIZE, 3), 200, np.uint8)
    image[80:100, 60:90] = 100
    image[85:95, 70:80] = 0
    return image


def settings(threshold: float = 0.9, **changed: Any) -> PipelineSettings:
    return PipelineSettings(anomaly_threshold=threshold, **changed)


def pipeline(first: PipelineSettings | None = None, engine: Any = None, **camera: Any) -> CameraPipeline:
    made = CameraPipeline(
        engine or Darkness(), 1, InputDescription(*SIZE), first or settings(), CameraSetup(mounting=MOUNTING, **camera)
    )
    made.set_camera_info(camera_info(0, *SIZE))
    return made


def shown(result: FrameResult) -> Any:
    return result.obstacles, result.perception.anomaly_mask.tobytes(), result.ground


def test_settings_change_between_frames_and_obstacles_keep_their_ids() -> None:
    run = pipeline(settings(persistence=PersistenceSettings(1, 1)))
    before = run(picture(), 0, "camera")
    run.configure(settings(0.5, persistence=PersistenceSettings(1, 1)))
    after = run(picture(), STEP_NS, "camera")
    assert (before.perception.anomaly_threshold, after.perception.anomaly_threshold) == (0.9, 0.5)
    assert [o.id for o in before.obstacles] == [o.id for o in after.obstacles] == [1]
    assert before.obstacles[0].region.area < after.obstacles[0].region.area


def test_a_result_keeps_the_settings_of_its_frame() -> None:
    run = pipeline(settings(region=RegionSettings(drivable_ids=frozenset({0}))))
    result = run(picture(), 0, "camera")
    run.configure(settings(ground=GroundLimits(5.0, 0.0)))
    later = run(picture(), STEP_NS, "camera")
    assert result.ground is not None
    assert later.ground is not None
    assert (result.ground.max_range_m, later.ground.max_range_m) == (40.0, 5.0)
    assert result.ground_map is not None
    assert later.ground_map is not None
    assert result.ground_map.ground == result.ground
    assert len(result.ground_map.free_edge(result.perception)) > 0
    # Without drivable classes no ground is free.
    assert len(later.ground_map.free_edge(later.perception)) == 0


def test_the_ground_map_is_made_once_while_nothing_changes() -> None:
    run = pipeline()
    first, second = (run(picture(), number * STEP_NS, "camera").ground_map for number in range(2))
    assert first is second is not None


def test_the_own_vehicle_is_no_obstacle() -> None:
    ego_mask = np.zeros(SIZE, np.bool_)
    ego_mask[70:] = True
    at_once = settings(persistence=PersistenceSettings(1, 1))
    assert len(pipeline(at_once)(picture(), 0, "camera").obstacles) == 1
    hidden = pipeline(at_once, ego_mask=ego_mask)
    assert hidden(picture(), 0, "camera").obstacles == ()
    hidden.configure(settings(0.6, persistence=PersistenceSettings(1, 1)))
    assert hidden(picture(), STEP_NS, "camera").obstacles == ()


def test_a_pipeline_continues_from_the_state_of_another_one() -> None:
    whole, first = pipeline(), pipeline()
    expected = [shown(whole(picture(), number * STEP_NS, "camera")) for number in range(4)]
    found = [shown(first(picture(), number * STEP_NS, "camera")) for number in range(2)]
    resumed = pipeline()
    resumed.restore(json.loads(json.dumps(first.state())))
    found += [shown(resumed(picture(), number * STEP_NS, "camera")) for number in range(2, 4)]
    assert found == expected
    assert resumed.state() == whole.state()


def test_warnings_name_only_what_matters_to_the_outputs_that_are_taken() -> None:
    run = CameraPipeline(
        Darkness(), 1, InputDescription(*SIZE), settings(), CameraSetup(), no_camera_info=lambda: "nothing came"
    )
    run(picture(), 0, "camera")
    result = run(picture(), 10_000_000_000, "camera")
    found = run.warnings(result, 0.0)
    assert found.no_place == run.ground_problem == "nothing came"
    kinds = {
        "anomaly_mask": set(),
        "obstacle_detections": {TOO_FAR_APART},
        "free_ground": {NO_PLACE},
        "obstacles": {NO_PLACE, TOO_FAR_APART},
    }
    for name, expected in kinds.items():
        assert set(warnings_for_outputs(found, [name]).by_kind()) == expected
    black = np.zeros((*SIZE, 3), np.uint8)
    result = run(black, 20_000_000_000, "camera")
    assert "black" in run.warnings(result, 20.0).picture


def test_a_pose_is_asked_for_only_where_no_mounting_is_given() -> None:
    asked = []

    def pose_of(frame_id: str) -> CameraPose:
        asked.append(frame_id)
        return MOUNTING

    for setup in (CameraSetup(mounting=MOUNTING), CameraSetup()):
        run = CameraPipeline(Darkness(), 1, InputDescription(*SIZE), settings(), setup, pose_of)
        run.set_camera_info(camera_info(0, *SIZE))
        assert run(picture(), 0, "front").ground is not None
    assert asked == ["front"]
    run = CameraPipeline(Darkness(), 1, InputDescription(*SIZE), settings())
    run.set_camera_info(camera_info(0, *SIZE))
    assert run(picture(), 0, "front").ground_map is None
    assert "the pose of the camera 'front' is not known" in run.ground_problem


def test_an_image_of_a_size_that_the_engine_does_not_take_is_malformed_and_other_failures_are_the_engines() -> None:
    with pytest.raises(MalformedImageError, match="too large for the plan") as caught:
        pipeline(engine=Darkness(ImageSizeError("too large for the plan")))(picture(), 0, "camera")
    assert caught.value.kind == "image size"
    with pytest.raises(EngineError, match="no device"):
        pipeline(engine=Darkness(EngineError("no device")))(picture(), 0, "camera")


def test_a_threshold_outside_the_scores_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"anomaly_threshold is 1\.5"):
        pipeline(settings(1.5))
    run = pipeline()
    with pytest.raises(ValueError, match=r"anomaly_threshold is -0\.1"):
        run.configure(settings(-0.1))
