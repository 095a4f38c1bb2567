"""One camera of a replay: a shell around `CameraPipeline` that counts frames and writes messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle.model_bundle import BundleDescription
from ros_ood_perception.camera.calibration.camera_info import CameraInfoMessage, not_rectified
from ros_ood_perception.camera.compressed_image import check_compressed, decode
from ros_ood_perception.camera.decoder_process import shared_decoder
from ros_ood_perception.camera.raw_image import MalformedImageError, check_image, to_colour
from ros_ood_perception.inference.engine import EngineError, EngineOutput
from ros_ood_perception.messages.label_info import label_info
from ros_ood_perception.messages.results import result_message, warnings_for_outputs
from ros_ood_perception.messages.stamps import stamp_ns
from ros_ood_perception.messages.topics import OUTPUT_TOPICS, camera_topic
from ros_ood_perception.parameters.settings import FixedSettings, LiveSettings
from ros_ood_perception.pipeline.camera_pipeline import NO_MOTION, TOO_FAR_APART, CameraPipeline, FrameResult
from ros_ood_perception.pipeline.fates import FAILED, LEFT_OUT, MALFORMED, PUBLISHED, REPLAYED_FATES
from ros_ood_perception.pipeline.frame_headers import FrameHeaders
from ros_ood_perception.recordings.message_types import MessageTypes
from ros_ood_perception.replay.cameras import CameraTopics
from ros_ood_perception.replay.engine_pool import ComputedEngine, EnginePool
from ros_ood_perception.replay.inputs import InputFrame
from ros_ood_perception.replay.transforms.static_transforms import StaticTransforms

MAX_PROBLEMS = 20
"""Largest number of problems that are kept as sentences; further ones are only counted."""


@dataclass(frozen=True)
class FrameEnd:
    """What became of a frame.

    Attributes:
        fate: `LEFT_OUT` or one of `REPLAYED_FATES`.
        problem: why it is malformed or failed; else "".
        doubts: kinds of warnings about it that matter to the outputs, sorted.
    """

    fate: str
    problem: str = ""
    doubts: tuple[str, ...] = ()


def colour_image(message: Any, compressed: bool, order: str, max_pixels: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of a frame's message, checked as the node checks it.

    Raises:
        MalformedImageError: the node would drop the frame.
    """
    if compressed:
        check_compressed(message, max_pixels)
        # As in the node, but in a process of its own: a recording may come from an untrusted source.
        return decode(message, order, max_pixels, shared_decoder())
    check_image(message, max_pixels)
    return to_colour(message, order)


class CameraReplay:
    """Takes the frames of one camera in their order.

    Args:
        number: the camera's index in `settings.cameras`.
        outputs: names of `OUTPUT_TOPICS` to write.
        node_name: replaces `~` in the outputs' topics.
        no_calibration: the problem to report while there is no calibration.

    Attributes:
        accounting: number of frames, and how many of them ended as each of `LEFT_OUT` and `REPLAYED_FATES`.
        warning_counts: kind of an implausible image to number of frames, see `FramePlausibility`.
        warning_texts: kind of an implausible image to the first sentence about it.
        problems: sentences about frames that were not replayed, at most `MAX_PROBLEMS`.
        too_far_apart: number of frames in which no obstacle could be found because frames come too seldom, and the
            first sentence about it.
        no_place: number of frames in which nothing could be placed on the ground, and the first sentence about it.
        no_motion: number of frames at which it is not known where the vehicle was although something is to tell it,
            and the first sentence about it.
        headers: of the frames that were used.
        pose_by_frame_id: the camera's pose is that of the frame_id of its images, and not from `mounting.*`.
        last_end: what became of the last frame; None before the first.
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
        no_calibration: str,
    ) -> None:
        self.topics = topics
        self._description = description
        self._types = types
        self._outputs = outputs
        self._output_settings = live.output_settings(settings.base_frame)
        self.output_topics = {
            name: camera_topic(topics.name, OUTPUT_TOPICS[name]).replace("~", node_name, 1) for name in outputs
        }
        self._engine = ComputedEngine(pool)
        setup = settings.camera_setup(number)
        self.pose_by_frame_id = setup.mounting is None
        self._rectified = setup.rectified_images
        self._info: CameraInfoMessage | None = setup.calibration
        pipeline_settings = live.pipeline_settings(description)
        self.threshold = pipeline_settings.anomaly_threshold
        self._pipeline = CameraPipeline(
            self._engine,
            len(description.classes),
            description.input,
            pipeline_settings,
            setup,
            lambda frame_id: transforms.pose(frame_id, settings.base_frame),
            lambda: no_calibration,
        )
        self.accounting = dict.fromkeys(("frames", LEFT_OUT, *REPLAYED_FATES), 0)
        self.warning_counts: dict[str, int] = {}
        self.warning_texts: dict[str, str] = {}
        self.problems: list[str] = []
        self.too_far_apart: dict[str, Any] = {"frames": 0, "problem": ""}
        self.no_place: dict[str, Any] = {"frames": 0, "problem": ""}
        self.no_motion: dict[str, Any] = {"frames": 0, "problem": ""}
        self.headers = FrameHeaders()
        self._label_info_written = False
        self._last_fate = ""
        self._last_warnings: list[str] = []
        self.last_end: FrameEnd | None = None

    # -- frames -------------------------------------------------------------------------------------------------------

    def set_camera_info(self, info: CameraInfoMessage) -> None:
        """Use this calibration from the next frame on."""
        self._info = info
        self._pipeline.set_camera_info(info)

    def use(self, frame: InputFrame, image: NDArray[np.uint8], future: Future[EngineOutput]) -> FrameResult | None:
        """Process the next frame.

        Returns:
            Its results; None if it was malformed or the engine failed on it; that is counted.
        """
        self._engine.expect(future)
        header = frame.message.header
        try:
            result = self._pipeline(image, stamp_ns(header.stamp), header.frame_id, lambda: frame.motion)
        except MalformedImageError as error:
            self.count(MALFORMED, f"{frame.name}: {error}")
            return None
        except EngineError as error:
            self.count(FAILED, f"{frame.name}: {error}")
            return None
        self.headers.add(stamp_ns(header.stamp), header.frame_id)
        if self._pipeline.ground_problem:
            self.no_place["frames"] += 1
            self.no_place["problem"] = self.no_place["problem"] or self._pipeline.ground_problem
        if frame.motion is not None and frame.motion.problem:
            self.no_motion["frames"] += 1
            self.no_motion["problem"] = self.no_motion["problem"] or frame.motion.problem
        warnings = warnings_for_outputs(self._pipeline.warnings(result, frame.time_ns / 1e9), self._outputs)
        for kind, text in warnings.picture.items():
            self.warning_counts[kind] = self.warning_counts.get(kind, 0) + 1
            self.warning_texts.setdefault(kind, text)
        self.count(PUBLISHED)
        self._last_warnings = sorted(warnings.picture)
        if warnings.too_far_apart:
            self.too_far_apart["frames"] += 1
            self.too_far_apart["problem"] = self.too_far_apart["problem"] or warnings.too_far_apart
            self._last_warnings.append(TOO_FAR_APART)
        if warnings.no_motion:
            self._last_warnings.append(NO_MOTION)
        self.last_end = FrameEnd(PUBLISHED, doubts=tuple(sorted(self._last_warnings)))
        return result

    def count(self, fate: str, problem: str = "") -> None:
        """Count a frame as one of `REPLAYED_FATES`, and keep the sentence about its problem."""
        self.accounting["frames"] += 1
        self.accounting[fate] += 1
        self._last_fate, self._last_warnings = fate, []
        self.last_end = FrameEnd(fate, problem)
        if problem and len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)

    def leave_out(self) -> None:
        """Count a frame that is skipped because of `every`."""
        self.accounting["frames"] += 1
        self.accounting[LEFT_OUT] += 1
        self.last_end = FrameEnd(LEFT_OUT)

    def messages(self, frame: InputFrame, result: FrameResult) -> Iterator[tuple[str, bytes]]:
        """Topic and serialised message of every output of a frame."""
        types, header = self._types, frame.message.header
        # The header of ROS 1 has another field; every output carries the frame's stamp and frame_id.
        stamp = types("builtin_interfaces/msg/Time", sec=header.stamp.sec, nanosec=header.stamp.nanosec)
        header = types("std_msgs/msg/Header", stamp=stamp, frame_id=header.frame_id)
        for name in self._outputs:
            if name != "label_info":
                message = result_message(types, name, header, result, self._description, self._output_settings)
            elif not self._label_info_written:
                self._label_info_written = True
                message = label_info(types, self._description, self.threshold, header)
            else:
                continue
            if message is not None:
                yield self.output_topics[name], types.serialized(message)

    # -- reports ------------------------------------------------------------------------------------------------------

    @property
    def ground(self) -> str:
        """`known`, or why nothing in the last frame can be placed on the ground."""
        return self._pipeline.ground_problem or "known"

    @property
    def motion(self) -> str:
        """`known`, or why it is not known where the vehicle was at the last frame."""
        return self._pipeline.motion

    @property
    def calibration(self) -> CameraInfoMessage | None:
        """In use for the last frame; None: there is none."""
        return self._info

    @property
    def rectified_problem(self) -> str:
        """Why the images may be rectified while their calibration is taken for one of raw images; "" if not."""
        return "" if self._rectified or self._info is None else not_rectified(self.topics.image, self._info)

    def diagnostic_status(self, node_name: str, facts: Mapping[str, str]) -> Any:
        """`diagnostic_msgs/DiagnosticStatus`. Nothing in it depends on when or how fast the replay ran."""
        bad = self._last_fate in (MALFORMED, FAILED)
        level = 2 if bad else 1 if self._last_warnings else 0
        texts = {
            **self.warning_texts,
            TOO_FAR_APART: self.too_far_apart["problem"],
            NO_MOTION: self.no_motion["problem"],
        }
        warned = "; ".join(f"{kind}: {texts[kind]}" for kind in self._last_warnings)
        text = f"the last frame was {self._last_fate}" if bad else warned or "every frame replayed"
        values = {
            **{name: str(count) for name, count in self.accounting.items()},
            **{f"implausible: {kind}": str(count) for kind, count in sorted(self.warning_counts.items())},
            "frames too far apart": str(self.too_far_apart["frames"]),
            "frames without motion": str(self.no_motion["frames"]),
            "ground": self.ground,
            "motion": self.motion,
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
        """The data needed to continue after the last frame, as plain values (JSON)."""
        remembered = self._pipeline.state()
        return {
            "detector": remembered["detector"],
            "plausibility": remembered["plausibility"],
            "accounting": self.accounting,
            "doubts": self.warning_counts,
            "doubt_texts": self.warning_texts,
            "problems": self.problems,
            "too_far_apart": self.too_far_apart,
            "no_place": self.no_place,
            "no_motion": self.no_motion,
            "headers": self.headers.state(),
            "announced": self._label_info_written,
            "last_fate": self._last_fate,
            "last_doubts": self._last_warnings,
            # Of the last frame, and in the diagnostics until the next one.
            "ground": remembered["ground"],
            "motion": remembered["motion"],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        self._pipeline.restore(state)
        self.accounting, self.warning_counts = dict(state["accounting"]), dict(state["doubts"])
        self.warning_texts = dict(state["doubt_texts"])
        self.problems, self._label_info_written = list(state["problems"]), state["announced"]
        self.too_far_apart, self.no_place = dict(state["too_far_apart"]), dict(state["no_place"])
        self.no_motion = dict(state["no_motion"])
        self.headers.restore(state["headers"])
        self._last_fate, self._last_warnings = state["last_fate"], list(state["last_doubts"])
