from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from recorded_drive import camera_info, header

from ros_ood_perception.bundle.description import BundleDescription, InputDescription
from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.inference.engine import EngineOutput
from ros_ood_perception.messages.results import IMAGE, TYPES, OutputSettings, result_message
from ros_ood_perception.messages.topics import OUTPUT_TOPICS
from ros_ood_perception.obstacles.ground import CameraPose
from ros_ood_perception.pipeline.camera_pipeline import CameraPipeline, CameraSetup, FrameResult, PipelineSettings
from ros_ood_perception.recordings.message_types import message_types

BUNDLE = Path(__file__).resolve().parents[3] / "models" / "camvid_small"
SIZE = (96, 128)


class Uniform:
    """An engine that finds class 0 and the score 0 everywhere."""

    name = "uniform"

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        return EngineOutput(np.zeros(images.shape[:3], np.uint8), np.zeros(images.shape[:3], np.float32))

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture(scope="module")
def description() -> BundleDescription:
    return read_bundle(BUNDLE).description


@pytest.fixture(scope="module")
def result() -> FrameResult:
    mounting = CameraPose.from_mounting(1.5, 5.0)
    pipeline = CameraPipeline(
        Uniform(), 1, InputDescription(*SIZE), PipelineSettings(0.5), CameraSetup(mounting=mounting)
    )
    pipeline.set_camera_info(camera_info(0, *SIZE))
    return pipeline(np.full((*SIZE, 3), 128, np.uint8), 0, "camera_optical")


# label_info is not of a frame; the node and the replay make it once.
@pytest.mark.parametrize("name", sorted(set(OUTPUT_TOPICS) - {"label_info"}))
def test_every_output_of_a_frame_has_its_message(
    name: str, result: FrameResult, description: BundleDescription
) -> None:
    settings = OutputSettings(score_encoding="mono8", point_height_m=0.3, base_frame="base_link")
    message = result_message(message_types(), name, header(0), result, description, settings)
    assert message is not None
    assert message.__msgtype__ == TYPES.get(name, IMAGE)


def test_every_message_type_is_of_an_output_that_has_a_topic() -> None:
    assert set(TYPES) <= set(OUTPUT_TOPICS)
