"""One camera of a replay: what the node does to its frames, in their order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle.model_bundle import BundleDescription
from ros_ood_perception.camera.compressed_image import check_compressed, decode
from ros_ood_perception.camera.decoder_process import shared_decoder
from ros_ood_perception.camera.plausibility import FramePlausibility
from ros_ood_perception.camera.raw_image import check_image, to_colour
from ros_ood_perception.inference.engine import EngineError, EngineOutput, ImageSizeError
from ros_ood_perception.inference.perception import FramePerception, Perception
from ros_ood_perception.messages.label_info import label_info
from ros_ood_perception.messages.obstacles import ground_header
from ros_ood_perception.messages.results import ground_message, picture_message
from ros_ood_perception.messages.topics import OF_OBSTACLES, ON_THE_GROUND, OUTPUT_TOPICS, camera_topic
from ros_ood_perception.obstacles.camera_geometry import CameraGeometry, GroundLimits
from ros_ood_perception.obstacles.ground import CameraPose
from ros_ood_perception.obstacles.regions import RegionFinder
from ros_ood_perception.obstacles.tracks import ObstacleDetector
from ros_ood_perception.parameters.settings import FixedSettings, LiveSettings
from ros_ood_perception.recordings.message_types import MessageTypes
from ros_ood_perception.replay.cameras import CameraTopics
from ros_ood_perception.replay.engine_pool import ComputedEngine, EnginePool
from ros_ood_perception.replay.inputs import InputFrame
from ros_ood_perception.replay.static_transforms import StaticTransforms

FATES = ("published", "malformed", "failed")
MAX_PROBLEMS = 20
"""So many different ones are kept as sentences; the others are only counted."""


def colour_image(message: Any, compressed: bool, order: str, max_pixels: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of a frame's message, checked as the node checks it.

    Raises:
        MalformedImageError: the node would drop the frame.
    """
    if compressed:
        check_compressed(message, max_pixels)
        # As in the node, but in a process that may die: a recording of a stranger is not played on a vehicle.
        return decode(message, order, max_pixels, shared_decoder())
    check_image(message, max_pixels)
    return to_colour(message, order)


class CameraReplay:
    """Takes one frame after the other; holds what the node's camera holds.

    Args:
        number: of the camera in `settings.cameras`.
        outputs: names of `OUTPUT_TOPICS` to make.
        node_name: what `~` stands for in the outputs' topics.
    """

    def __init__(
        self,
        topics: CameraTopics,
        number: int,
        settings: FixedSettings,
        live: LiveSettings,
        description: BundleDescription,
        pool: EnginePool,
        transforms: StaticTransforms,
        types: MessageTypes,
        outputs: Sequence[str],
        node_name: str,
    ) -> None:
        self.topics = topics
        self._settings, self._live, self._description = settings, live, description
        self._types = types
        self._outputs = outputs
        self.output_topics = {
            name: camera_topic(topics.name, OUTPUT_TOPICS[name]).replace("~", node_name, 1) for name in outputs
        }
        self._engine = ComputedEngine(pool)
        region = live.region_settings(description)
        self._drivable_ids = region.drivable_ids or frozenset()
        self._ego_mask = settings.ego_masks[number]
        self.detector = ObstacleDetector(RegionFinder(region, self._ego_mask), live.persistence)
        self.threshold = live.threshold(description)
        self._perception = Perception(
            self._engine,
            self.threshold,
            len(description.classes),
            self.detector,
            output_size=(description.input.height, description.input.width),
        )
        self._plausibility = FramePlausibility((description.input.height, description.input.width))
        mounting = settings.mountings[number]

        def pose_of(frame_id: str) -> CameraPose:
            return transforms.pose(frame_id, settings.base_frame) if mounting is None else mounting

        self.geometry = CameraGeometry(
            pose_of, settings.rectified_images, lambda: f"nothing was recorded on {topics.info}"
        )
        self.accounting = dict.fromkeys(("frames", "left_out", *FATES), 0)
        self.doubts: dict[str, int] = {}
        self.problems: list[str] = []
        self.too_far_apart: dict[str, Any] = {"frames": 0, "problem": ""}
        """After how many frames no obstacle could be found because they come too seldom, and why the first time."""
        self._announced = False
        self._last_fate = ""
        self._last_doubts: list[str] = []

    # -- frames --------------------------------------------------------------------------------------------------

    def use(self, frame: InputFrame, image: NDArray[np.uint8], future: Future[EngineOutput]) -> FramePerception | None:
        """The results of the next frame; None where the engine failed on it, which is counted."""
        self._engine.expect(future)
        header = frame.message.header
        limits = GroundLimits(self._live.max_range_m, self._live.ground_z_m)
        ground = self.geometry.ground((image.shape[0], image.shape[1]), header.frame_id, limits)
        stamp_ns = header.stamp.sec * 1_000_000_000 + header.stamp.nanosec
        try:
            result = self._perception(image, stamp_ns, ground)
        except ImageSizeError as error:
            # As in the node: the frame's fault, and not the engine's.
            self.settle("malformed", f"{frame.name}: {error}")
            return None
        except EngineError as error:
            self.settle("failed", f"{frame.name}: {error}")
            return None
        doubts = self._plausibility.problems(image, frame.time_ns / 1e9)
        for kind in doubts:
            self.doubts[kind] = self.doubts.get(kind, 0) + 1
        self.settle("published")
        self._last_doubts = sorted(doubts)
        if self.detector.too_far_apart and OF_OBSTACLES.intersection(self._outputs):
            self.too_far_apart["frames"] += 1
            self.too_far_apart["problem"] = self.too_far_apart["problem"] or self.detector.too_far_apart
            self._last_doubts.append("frames_too_far_apart")
        return result

    def settle(self, fate: str, problem: str = "") -> None:
        """Count a frame as one of `FATES`."""
        self.accounting["frames"] += 1
        self.accounting[fate] += 1
        self._last_fate, self._last_doubts = fate, []
        if problem and len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)

    def leave_out(self) -> None:
        """Count a frame that was not asked for (`every`)."""
        self.accounting["frames"] += 1
        self.accounting["left_out"] += 1

    def messages(
        self, frame: InputFrame, image: NDArray[np.uint8], result: FramePerception
    ) -> Iterator[tuple[str, bytes]]:
        """Topic and serialised message of every output of a frame that `use` gave."""
        types, header = self._types, frame.message.header
        # The header of ROS 1 has another field; every output carries the frame's stamp and frame_id.
        header = types("std_msgs/msg/Header", stamp=self._stamp(header.stamp), frame_id=header.frame_id)
        placed = ground_header(types, header.stamp, self._settings.base_frame)
        engine_size = result.engine_semantic.shape
        for name in self._outputs:
            if name == "label_info":
                if self._announced:
                    continue
                self._announced = True
                message = label_info(types, self._description, self.threshold, header)
            elif name in ON_THE_GROUND:
                ground_map = self.geometry.ground_map(
                    (engine_size[0], engine_size[1]),
                    self._drivable_ids,
                    self._live.region.hysteresis,
                    self._ego_mask,
                    self._settings.grid,
                )
                if ground_map is None:
                    # As in the node: nothing rather than an empty cloud, which a planner would read as a free road.
                    continue
                message = ground_message(types, name, placed, result, ground_map, self._live.point_height_m)
            else:
                message = picture_message(
                    types, name, header, image, result, self._description, self._live.score_encoding
                )
            yield self.output_topics[name], types.serialized(message)

    def _stamp(self, stamp: Any) -> Any:
        return self._types("builtin_interfaces/msg/Time", sec=stamp.sec, nanosec=stamp.nanosec)

    # -- what is said of the camera ------------------------------------------------------------------------------

    def diagnostic_status(self, node_name: str, facts: Mapping[str, str]) -> Any:
        """`diagnostic_msgs/DiagnosticStatus`: nothing in it depends on when or how fast the replay ran."""
        bad = self._last_fate in ("malformed", "failed")
        level = 2 if bad else 1 if self._last_doubts else 0
        text = (
            f"the last frame was {self._last_fate}" if bad else ", ".join(self._last_doubts) or "every frame replayed"
        )
        values = {
            **{name: str(count) for name, count in self.accounting.items()},
            **{f"implausible: {kind}": str(count) for kind, count in sorted(self.doubts.items())},
            "frames too far apart": str(self.too_far_apart["frames"]),
            "ground": self.geometry.problem or "known",
            **facts,
        }
        return self._types(
            "diagnostic_msgs/msg/DiagnosticStatus",
            level=level,
            name=f"{node_name.lstrip('/')}: {self.topics.name or 'camera'}",
            message=text,
            hardware_id=node_name.rpartition("/")[2],
            values=[self._types("diagnostic_msgs/msg/KeyValue", key=key, value=value) for key, value in values.items()],
        )

    def state(self) -> dict[str, Any]:
        """What is needed to go on after the last frame, as plain data (JSON)."""
        return {
            "detector": self.detector.state(),
            "plausibility": self._plausibility.state(),
            "accounting": self.accounting,
            "doubts": self.doubts,
            "problems": self.problems,
            "too_far_apart": self.too_far_apart,
            "announced": self._announced,
            "last_fate": self._last_fate,
            "last_doubts": self._last_doubts,
            # Of the last frame, and in the diagnostics until the next one.
            "ground": self.geometry.problem,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.detector.restore(state["detector"])
        self._plausibility.restore(state["plausibility"])
        self.accounting, self.doubts = dict(state["accounting"]), dict(state["doubts"])
        self.problems, self._announced = list(state["problems"]), state["announced"]
        self.too_far_apart = dict(state["too_far_apart"])
        self._last_fate, self._last_doubts = state["last_fate"], list(state["last_doubts"])
        self.geometry.problem = state["ground"]
