"""One camera of the node: a shell around `CameraPipeline` that receives, publishes and counts its frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image

from ros_ood_perception.bundle.model_bundle import BundleDescription
from ros_ood_perception.camera import compressed_image
from ros_ood_perception.camera.raw_image import MalformedImageError, check_image, to_colour
from ros_ood_perception.inference.engine import EngineError, InferenceEngine
from ros_ood_perception.messages.results import warnings_for_outputs
from ros_ood_perception.node.camera_input import CameraInput
from ros_ood_perception.node.camera_outputs import CameraOutputs
from ros_ood_perception.node.camera_status import CameraStatus
from ros_ood_perception.node.frames.received import ReceivedFrame
from ros_ood_perception.node.frames.timeline import FrameTime, FrameTimeline
from ros_ood_perception.node.middleware.transport import SharedMemory
from ros_ood_perception.node.transforms import RecentPose, Transforms
from ros_ood_perception.node.vehicle_motion import VehicleMotion
from ros_ood_perception.obstacles.motion import FrameMotion
from ros_ood_perception.parameters.settings import FixedSettings, LiveSettings
from ros_ood_perception.pipeline.camera_pipeline import CameraPipeline, FrameResult
from ros_ood_perception.pipeline.fates import ASLEEP, COMPUTED, GOOD_FATES, PUBLISHED, REPLACED_UNREAD, TOO_OLD

INFERENCE, DEADLINE = "inference", "deadline"
"""Owners that may claim a frame: the inference thread, and the deadline that it passed."""


class Camera:
    """One camera of the node, from configure to cleanup.

    The executor's thread calls all methods but `use`, which the inference thread calls.

    Args:
        node: whose lifecycle the outputs follow.
        number: the camera's index in `settings.cameras`.
        settings: the node's settings from configure to cleanup.
        live: live settings until the first frame; `use` gets newer ones.
        description: the bundle's description.
        engine: shared by all cameras.
        memory: what the transport can carry.
        transforms: gives poses from tf2; None if every camera's mounting is given by parameters.
        motion: tells where the vehicle was; None: nothing does.
    """

    def __init__(
        self,
        node: LifecycleNode,
        number: int,
        settings: FixedSettings,
        live: LiveSettings,
        description: BundleDescription,
        engine: InferenceEngine,
        memory: SharedMemory,
        transforms: Transforms | None,
        motion: VehicleMotion | None,
    ) -> None:
        self._number, self._motion = number, motion
        self.name = name = settings.cameras[number]
        self._node = node
        self._settings = settings
        self._description = description
        self._engine = engine
        self._live = live
        self._timeline = FrameTimeline()
        self._image_size: tuple[int, ...] = ()
        self._put: Callable[[ReceivedFrame], bool] = lambda frame: False
        self._status = status = CameraStatus(node, name)
        try:
            self._input = CameraInput(
                node,
                name,
                settings.image_transport,
                status.accounting,
                status.doubts,
                memory,
                settings.camera_info_topics[number],
            )
            self._pipeline = CameraPipeline(
                engine,
                len(description.classes),
                description.input,
                live.pipeline_settings(description),
                settings.camera_setup(number),
                None if transforms is None else RecentPose(transforms),
                self._input.no_camera_info,
            )
            self.outputs = CameraOutputs(node, name, description, settings.base_frame)
        except BaseException:
            status.close()
            raise

    # -- lifecycle ----------------------------------------------------------------------------------------------------

    def listen(self, put: Callable[[ReceivedFrame], bool]) -> str:
        """Subscribe; returns the full name of the images' topic.

        Args:
            put: stores a frame for inference. Returns whether it replaced an unread one.
        """
        self._put = put
        self._timeline.restart()
        topic = self._input.listen(self._on_image, self._pipeline.set_camera_info)
        self._status.pulse.activate(time.monotonic())
        return topic

    def stop_listening(self) -> None:
        """Destroy the subscriptions: no frame comes any more."""
        self._input.stop()

    def deactivate(self) -> None:
        """Report the camera as inactive, after its last frame was used."""
        self._status.pulse.deactivate()

    def close(self) -> None:
        """Destroy subscriptions and publishers."""
        self.stop_listening()
        self.outputs.close()
        self._status.close()

    def restart_time(self) -> None:
        """Forget the last stamp: the node's clock jumped."""
        self._timeline.restart()

    # -- frames -------------------------------------------------------------------------------------------------------

    def _on_image(self, message: Image | CompressedImage, received_at: float) -> None:
        self._status.pulse.received(received_at)
        try:
            if isinstance(message, Image):
                check_image(message, self._settings.max_image_pixels)
            else:
                compressed_image.check_compressed(message, self._settings.max_image_pixels)
        except MalformedImageError as error:
            self._status.count_malformed(error)
            return
        if self._put(ReceivedFrame(message, received_at)):
            self._status.accounting.count(REPLACED_UNREAD)

    def use(self, frame: ReceivedFrame, live: LiveSettings) -> bool:
        """Convert, infer and publish a frame. However that ends, the frame is counted once.

        Returns:
            Whether its results were computed.

        Raises:
            EngineError: the engine failed. The frame has been counted as failed.
        """
        fate = ""
        try:
            fate = self._use(frame, live)
            if frame.claim.claim(INFERENCE):
                self._status.accounting.count(fate)
        except MalformedImageError as error:
            if frame.claim.claim(INFERENCE):
                self._status.count_malformed(error)
        except EngineError as error:
            if frame.claim.claim(INFERENCE):
                self._status.count_failed(error)
            raise
        except Exception as error:  # whatever it was, the frame is counted and the next one gets its chance
            if frame.claim.claim(INFERENCE):
                self._status.count_failed(error)
        finally:
            self.publish_state(live)
        return fate in GOOD_FATES

    def _use(self, frame: ReceivedFrame, live: LiveSettings) -> str:
        """Returns how the frame ended."""
        message = frame.message
        begun = time.monotonic()
        stamp_ns = Time.from_msg(message.header.stamp).nanoseconds
        when = self._follow_time(stamp_ns)
        if self._is_too_old(when, live):
            return TOO_OLD
        if live.sleep_without_subscribers and not self.outputs.any_wanted(live):
            self._status.pulse.slept(begun)
            return ASLEEP
        image = self._decoded(message)
        self._log_size(image)
        self._check_engine_takes(image)
        converted = time.monotonic()
        self._configure(live)
        result = self._pipeline(
            image, stamp_ns, message.header.frame_id, lambda: self._motion_at(stamp_ns, frame.received_at)
        )
        inferred = time.monotonic()
        if not frame.claim.claim(INFERENCE):
            raise EngineError("a result that came after the deadline was dropped")
        wanted, messages = self.outputs.publish(message.header, result, live)
        published = time.monotonic()
        stages = {
            "wait": begun - frame.received_at,
            "conversion": converted - begun,
            "inference": inferred - converted,
            "publish": published - inferred,
            "receive_to_publish": published - frame.received_at,
        }
        durations = {stage: seconds * 1e3 for stage, seconds in stages.items()}
        if when.age_ms is not None and when.one_clock:
            # From the stamp to the end of publishing, on the node's clock (simulated or not).
            durations["age"] = when.age_ms + (published - begun) * 1e3
        self._status.latencies.add(durations)
        # After publishing, so that the checks do not delay the results.
        self._status.pulse.published(published, self._warnings(result, published, wanted))
        return PUBLISHED if messages else COMPUTED

    def _motion_at(self, stamp_ns: int, received_at: float) -> FrameMotion | None:
        return None if self._motion is None else self._motion.at(self._number, stamp_ns, received_at)

    def _decoded(self, message: Image | CompressedImage) -> NDArray[np.uint8]:
        order = self._description.input.colour_order
        if isinstance(message, Image):
            return to_colour(message, order)
        return compressed_image.decode(message, order, self._settings.max_image_pixels)

    def _log_size(self, image: NDArray[np.uint8]) -> None:
        before, self._image_size = self._image_size, image.shape
        if before and before != image.shape:
            sizes = " to ".join(f"{shape[1]}x{shape[0]}" for shape in (before, image.shape))
            self._status.log.warnings.add("warning", f"the image size changed from {sizes}")

    def _check_engine_takes(self, image: NDArray[np.uint8]) -> None:
        height, width = self._settings.gpu.image_size
        any_size = self._engine.name == "onnxruntime" or self._description.input.fit == "letterbox"
        if any_size or (image.shape[0] <= height and image.shape[1] <= width):
            return
        raise MalformedImageError(
            "image too large",
            f"the frame is {image.shape[1]}x{image.shape[0]}, and the engine '{self._engine.name}' was opened for "
            f"{width}x{height}; set engine_image_width and engine_image_height, and configure again",
        )

    def _configure(self, live: LiveSettings) -> None:
        """Apply settings that changed since the last frame."""
        if live is not self._live:
            self._pipeline.configure(live.pipeline_settings(self._description))
            self._live = live

    def _follow_time(self, stamp_ns: int) -> FrameTime:
        when = self._timeline.follow(stamp_ns, self._node.get_clock().now().nanoseconds)
        for kind, text in when.problems().items():
            self._status.doubts.add(kind, text)
        return when

    def _is_too_old(self, when: FrameTime, live: LiveSettings) -> bool:
        if not live.max_frame_age_ms or when.age_ms is None or when.age_ms <= live.max_frame_age_ms:
            return False
        self._status.kinds.add(
            "too old",
            f"a frame is {when.age_ms:.0f} ms old; max_frame_age_ms is {live.max_frame_age_ms:.0f}. If it comes from a "
            "bag, set use_sim_time and play with --clock; if not, the clocks differ or the camera is behind",
        )
        self._status.pulse.refused("rejected", "frames are older than max_frame_age_ms")
        return True

    def _warnings(self, result: FrameResult, now_s: float, wanted: list[str]) -> Mapping[str, str]:
        """Warnings about the results of the last frame, kind to sentence."""
        found, doubts = warnings_for_outputs(self._pipeline.warnings(result, now_s), wanted), self._status.doubts
        # They are in the camera's health, and logged from there when they begin and end.
        for kind in found.picture:
            doubts.count(f"implausible: {kind}")
        if found.no_place:
            doubts.count("no place on the ground")
        if found.too_far_apart:
            doubts.count("frames too far apart")
        if found.no_motion:
            doubts.count("frames without motion")
        return found.by_kind()

    def give_up(self, frame: ReceivedFrame, error: EngineError, live: LiveSettings) -> bool:
        """Count the frame in inference as failed: it passed its deadline. Its results will not be published.

        Returns:
            False if the frame has ended in the meantime, or is already being published.
        """
        if not frame.claim.claim(DEADLINE):
            return False
        self._status.count_failed(error)
        self.publish_state(live)
        return True

    def report_hang(self, error: EngineError, live: LiveSettings) -> None:
        """Report that no frame can be used: inference or publishing hangs on a frame that is not this camera's."""
        self._status.pulse.refused("failed", f"no frame can be used ({type(error).__name__})")
        self.publish_state(live)

    # -- reports ------------------------------------------------------------------------------------------------------

    def publish_state(self, live: LiveSettings) -> None:
        """Log the state and publish `output/state`, if it changed since the last time."""
        self._status.publish(live, self._input)

    def report(self, live: LiveSettings, node_facts: Mapping[str, str | float]) -> DiagnosticStatus:
        """The camera's part of /diagnostics.

        Args:
            node_facts: keys and values that are the same for all cameras.
        """
        return self._status.report(
            live,
            self._input,
            {"ground": self._pipeline.ground_problem or "known", "motion": self._pipeline.motion},
            self.outputs.subscriber_counts(),
            node_facts,
        )
