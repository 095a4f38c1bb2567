"""One camera: its subscription, what came of its frames, and what is known of its health."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image

from ros_ood_perception.bundle.model_bundle import BundleDescription
from ros_ood_perception.camera import compressed_image as compressed_images
from ros_ood_perception.camera.plausibility import FramePlausibility
from ros_ood_perception.camera.raw_image import MalformedImageError, check_image, to_colour
from ros_ood_perception.inference.engine import EngineError, ImageSizeError
from ros_ood_perception.inference.perception import Perception
from ros_ood_perception.messages.topics import CAMERA_INFO_TOPIC, INPUT_TOPICS, STATE_TOPIC, camera_topic
from ros_ood_perception.node.camera_geometry import SubscribedGeometry
from ros_ood_perception.node.camera_outputs import CameraOutputs
from ros_ood_perception.node.frames.accounting import FrameAccounting
from ros_ood_perception.node.frames.timeline import FrameTime, FrameTimeline
from ros_ood_perception.node.health.diagnostics import status
from ros_ood_perception.node.health.health import CameraHealth, CameraPulse, StageLatencies
from ros_ood_perception.node.health.logged_kinds import LoggedKinds
from ros_ood_perception.node.middleware.qos_events import subscription_events
from ros_ood_perception.node.middleware.transport import SharedMemory
from ros_ood_perception.node.transforms import Transforms
from ros_ood_perception.obstacles.camera_geometry import GroundLimits
from ros_ood_perception.obstacles.ground_map import GroundMap
from ros_ood_perception.obstacles.regions import RegionFinder
from ros_ood_perception.parameters.settings import FixedSettings, LiveSettings

if TYPE_CHECKING:
    # Not there before Kilted.
    from rclpy.subscription import MessageInfo


INFERENCE = "inference"


class Fate:
    """Who says what became of a frame: the inference thread, or who watches its deadline. The first one does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._whose: str | None = None

    def decide(self, who: str) -> bool:
        """Whether it is up to `who`; then it stays so."""
        with self._lock:
            if self._whose is None:
                self._whose = who
            return self._whose == who


@dataclass(frozen=True)
class ReceivedFrame:
    """A checked message and when it came, on the monotonic clock in seconds."""

    message: Image | CompressedImage
    received_at: float
    fate: Fate = field(default_factory=Fate, compare=False)


class Camera:
    """One camera of the node, from configure to cleanup.

    The executor's thread calls `listen`, `stop_listening`, `report` and `close`; the inference thread `use`. What both
    touch is thread-safe.

    Args:
        node: whose lifecycle the outputs follow.
        number: in the order of `settings.cameras`.
        settings: of the node.
        description: of the bundle.
        perception: of this camera alone: it may remember earlier frames.
        memory: what the transport can carry.
        transforms: of tf2; None where every camera's mounting is given.
    """

    def __init__(
        self,
        node: LifecycleNode,
        number: int,
        settings: FixedSettings,
        description: BundleDescription,
        perception: Perception,
        memory: SharedMemory,
        transforms: Transforms | None,
    ) -> None:
        self.name = name = settings.cameras[number]
        self.accounting = FrameAccounting()
        self._node = node
        self._settings = settings
        self._description = description
        self._perception = perception
        self._memory = memory
        self._latencies = StageLatencies()
        self._pulse = CameraPulse()
        self._timeline = FrameTimeline()
        self._plausibility = FramePlausibility((description.input.height, description.input.width))
        self._kinds = LoggedKinds(node.get_logger().error, f"camera '{name}': " if name else "")
        self._subscription: Subscription[Any] | None = None
        self._put: Callable[[ReceivedFrame], bool] = lambda frame: False
        self._numbers_reset = False
        self._largest_bytes = 0
        self._lost_in_transport = 0
        self._last_state: tuple[str, str] | None = None
        # The inference thread says what a frame changed, the executor's thread what its absence did.
        self._state_lock = threading.Lock()
        self._state: Publisher[DiagnosticStatus] | None = None
        self._ego_mask = settings.ego_masks[number]
        self._applied: LiveSettings | None = None
        self._drivable_ids: frozenset[int] = frozenset()
        self._geometry = SubscribedGeometry(
            node,
            camera_topic(name, CAMERA_INFO_TOPIC),
            settings.mountings[number],
            transforms,
            settings.rectified_images,
        )
        self.outputs = CameraOutputs(node, name, description, settings.base_frame)
        try:
            # Not a lifecycle publisher: it also says that the node is inactive.
            self._state = node.create_publisher(
                DiagnosticStatus,
                camera_topic(name, STATE_TOPIC),
                QoSProfile(
                    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
                ),
            )
        except BaseException:
            self.outputs.close()
            raise

    @property
    def title(self) -> str:
        """The name in diagnostics."""
        return f"{self._node.get_fully_qualified_name().lstrip('/')}: {self.name or 'camera'}"

    # -- listening -----------------------------------------------------------------------------------------------

    def listen(self, put: Callable[[ReceivedFrame], bool]) -> str:
        """Subscribe; gives back the topic.

        Args:
            put: leaves a frame for inference, and says whether an unread one had to make place for it.
        """
        self._put = put
        self.accounting.forget_publishers()
        self._timeline.restart()
        compressed = self._settings.image_transport == "compressed"
        topic = camera_topic(self.name, INPUT_TOPICS[self._settings.image_transport])

        def with_info(message: Any, info: MessageInfo) -> None:
            self._on_message(message, info)

        def without_info(message: Any) -> None:
            self._on_message(message, None)

        # Humble calls back without the message's sequence number.
        callback = with_info if hasattr(Subscription, "CallbackType") else without_info
        self._subscription = self._node.create_subscription(
            CompressedImage if compressed else Image,
            topic,
            callback,
            QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
            event_callbacks=subscription_events(self._node, topic, self._on_lost, self._on_matched),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self._geometry.listen()
        self._pulse.activate(time.monotonic())
        return str(self._subscription.topic_name)

    def stop_listening(self) -> None:
        """Destroy the subscriptions: no frame comes any more."""
        self._geometry.stop_listening()
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            self._node.destroy_subscription(subscription)

    def deactivate(self) -> None:
        """The last frame has been used: say that nothing follows."""
        self._pulse.deactivate()

    def close(self) -> None:
        """Destroy all publishers."""
        self.stop_listening()
        self.outputs.close()
        state, self._state = self._state, None
        if state is not None:
            self._node.destroy_publisher(state)

    def restart_time(self) -> None:
        """The node's clock jumped: stamps before and after cannot be compared."""
        self._timeline.restart()

    def _on_lost(self, count: int) -> None:
        self._lost_in_transport += count

    def _on_matched(self) -> None:
        # Jazzy does not say whose a number is: after a publisher came or went, numbering begins anew.
        self._numbers_reset = True

    def _on_message(self, message: Image | CompressedImage, info: MessageInfo | None) -> None:
        received_at = time.monotonic()
        publisher, number = self._numbering(info)
        self.accounting.receive(publisher, number)
        self._pulse.received(received_at)
        self._check_transport(message)
        try:
            if isinstance(message, Image):
                check_image(message, self._settings.max_image_pixels)
            else:
                compressed_images.check_compressed(message, self._settings.max_image_pixels)
        except MalformedImageError as error:
            self._settle_malformed(error)
            return
        if self._put(ReceivedFrame(message, received_at)):
            self.accounting.settle("replaced_unread")

    def _numbering(self, info: MessageInfo | None) -> tuple[bytes, int | None]:
        """Who sent a message, and its number among the sender's; (b"", None) where that cannot be known."""
        if info is None:
            return b"", None
        number = info.get("publication_sequence_number")
        gid = info.get("publisher_gid")
        if gid is not None:
            return bytes(gid["data"]), number
        if self._numbers_reset:
            self._numbers_reset = False
            self.accounting.forget_publishers()
        # With one publisher there is no doubt whose it is.
        subscription = self._subscription
        alone = subscription is not None and self._node.count_publishers(subscription.topic_name) == 1
        return b"", number if alone else None

    def _check_transport(self, message: Image | CompressedImage) -> None:
        size = len(message.data)
        if size <= self._largest_bytes:
            return
        self._largest_bytes = size
        if problem := self._memory.problem_of("a frame of the camera", size):
            self._kinds.add("frame larger than the transport's segment", problem)

    # -- a frame's way -------------------------------------------------------------------------------------------

    def use(self, frame: ReceivedFrame, live: LiveSettings, threshold: float) -> bool:
        """Convert, infer, publish; the frame is accounted for however it ends, once.

        Returns:
            Whether its results were published.

        Raises:
            EngineError: of the engine, after the frame was counted as failed.
        """
        fate = "failed"
        try:
            fate = self._use(frame, live, threshold)
            if frame.fate.decide(INFERENCE):
                self.accounting.settle(fate)
        except MalformedImageError as error:
            if frame.fate.decide(INFERENCE):
                self._settle_malformed(error)
        except EngineError as error:
            if frame.fate.decide(INFERENCE):
                self._settle_failed(error)
            raise
        except Exception as error:  # whatever it was, the frame is accounted for and the next one gets its chance
            if frame.fate.decide(INFERENCE):
                self._settle_failed(error)
        finally:
            self.publish_state(live)
        return fate == "published"

    def give_up(self, frame: ReceivedFrame, error: EngineError, live: LiveSettings) -> bool:
        """The frame in inference has passed its deadline: it has failed, and nothing of it is published any more.

        Returns:
            False where it came to its end in the meantime, or is being published already.
        """
        if not frame.fate.decide("deadline"):
            return False
        self._settle_failed(error)
        self.publish_state(live)
        return True

    def hangs(self, error: EngineError, live: LiveSettings) -> None:
        """Inference or publishing hangs, on a frame whose fate is not this camera's to decide."""
        self._pulse.refused("failed", f"no frame can be used ({type(error).__name__})")
        self.publish_state(live)

    def _use(self, frame: ReceivedFrame, live: LiveSettings, threshold: float) -> str:
        message = frame.message
        begun = time.monotonic()
        when = self._follow_time(message)
        if self._is_too_old(when, live):
            return "too_old"
        order = self._description.input.colour_order
        if isinstance(message, Image):
            image = to_colour(message, order)
        else:
            image = compressed_images.decode(message, order, self._settings.max_image_pixels)
        self._check_engine_takes(image)
        converted = time.monotonic()
        self._apply(live, threshold)
        limits = GroundLimits(live.max_range_m, live.ground_z_m)
        ground = self._geometry.ground((image.shape[0], image.shape[1]), message.header.frame_id, limits)
        try:
            result = self._perception(image, Time.from_msg(message.header.stamp).nanoseconds, ground)
        except ImageSizeError as error:
            # Of this camera, not of the engine that all of them share. TensorRT 8.6 takes frames of one size only.
            raise MalformedImageError("image size", str(error)) from error
        inferred = time.monotonic()
        if not frame.fate.decide(INFERENCE):
            raise EngineError("a result that came after the deadline was dropped")
        height, width = result.engine_semantic.shape
        self.outputs.publish(message.header, image, result, live, lambda: self._ground_map((height, width), live))
        published = time.monotonic()
        stages = {
            "wait": begun - frame.received_at,
            "conversion": converted - begun,
            "inference": inferred - converted,
            "publish": published - inferred,
            "receive_to_publish": published - frame.received_at,
        }
        durations = {stage: seconds * 1e3 for stage, seconds in stages.items()}
        if when.age_ms is not None:
            # From the stamp to the end of publishing, on the node's clock (simulated or not).
            durations["age"] = when.age_ms + (published - begun) * 1e3
        self._latencies.add(durations)
        self._pulse.published(published, self._doubts(image, published, live))
        return "published"

    def _check_engine_takes(self, image: NDArray[np.uint8]) -> None:
        height, width = self._settings.gpu.image_size
        if self._perception.engine.name == "onnxruntime" or (image.shape[0] <= height and image.shape[1] <= width):
            return
        raise MalformedImageError(
            "image too large",
            f"the frame is {image.shape[1]}x{image.shape[0]}, and the engine '{self._perception.engine.name}' was "
            f"opened for {width}x{height}; set engine_image_width and engine_image_height, and configure again",
        )

    def _apply(self, live: LiveSettings, threshold: float) -> None:
        """Settings that changed since the last frame."""
        self._perception.anomaly_threshold = threshold
        if live is self._applied or self._perception.detector is None:
            return
        region = live.region_settings(self._description)
        self._drivable_ids = region.drivable_ids or frozenset()
        self._perception.detector.configure(RegionFinder(region, self._ego_mask), live.persistence)
        self._applied = live

    def _ground_map(self, engine_size: tuple[int, int], live: LiveSettings) -> GroundMap | None:
        hysteresis, grid = live.region.hysteresis, self._settings.grid
        return self._geometry.ground_map(engine_size, self._drivable_ids, hysteresis, self._ego_mask, grid)

    def _follow_time(self, message: Image | CompressedImage) -> FrameTime:
        stamp_ns = Time.from_msg(message.header.stamp).nanoseconds
        when = self._timeline.follow(stamp_ns, self._node.get_clock().now().nanoseconds)
        if when.went_back:
            self._kinds.add(
                "stamp went back",
                "a frame's stamp is before the one of the frame before it: a bag began again, a clock was set back, or "
                "two publishers share the topic. The frame is used; what was remembered of earlier ones is forgotten",
            )
        if when.repeated:
            self._kinds.add("stamp repeated", "two frames have the same stamp; the camera driver must stamp each")
        if when.in_future:
            self._kinds.add(
                "stamp in the future",
                f"a frame's stamp is {-(when.age_ms or 0.0) / 1e3:.1f} s ahead of this node's clock; synchronise the "
                "clocks (PTP, chrony), or set use_sim_time for simulated time",
            )
        return when

    def _is_too_old(self, when: FrameTime, live: LiveSettings) -> bool:
        if not live.max_frame_age_ms or when.age_ms is None or when.age_ms <= live.max_frame_age_ms:
            return False
        self._kinds.add(
            "too old",
            f"a frame is {when.age_ms:.0f} ms old; max_frame_age_ms is {live.max_frame_age_ms:.0f}. If it comes from a "
            "bag, set use_sim_time and play with --clock; if not, the clocks differ or the camera is behind",
        )
        self._pulse.refused("rejected", "frames are older than max_frame_age_ms")
        return True

    def _doubts(self, image: NDArray[np.uint8], now: float, live: LiveSettings) -> Mapping[str, str]:
        doubts = self._plausibility.problems(image, now)
        for kind, text in doubts.items():
            self._kinds.add(f"implausible: {kind}", f"the frames are implausible ({kind}): {text}")
        if self._geometry.problem and self.outputs.wanted_on_the_ground(live):
            self._kinds.add("no place on the ground", f"obstacles cannot be placed: {self._geometry.problem}")
            doubts["no_place_on_the_ground"] = self._geometry.problem
        detector = self._perception.detector
        if detector is not None and detector.too_far_apart and self.outputs.wanted_obstacles(live):
            self._kinds.add("frames too far apart", f"no obstacle is found: {detector.too_far_apart}")
            doubts["frames_too_far_apart"] = detector.too_far_apart
        return doubts

    def _settle_malformed(self, error: MalformedImageError) -> None:
        self.accounting.settle("malformed")
        self._pulse.refused("rejected", f"malformed frames ({error.kind})")
        self._kinds.add(f"malformed: {error.kind}", f"malformed image dropped: {error}")

    def _settle_failed(self, error: Exception) -> None:
        self.accounting.settle("failed")
        kind = type(error).__name__
        self._pulse.refused("failed", f"a frame failed ({kind})")
        self._kinds.add(f"failed: {kind}", f"a frame failed: {kind}: {error}")

    # -- what is said of the camera ------------------------------------------------------------------------------

    def health(self, live: LiveSettings) -> CameraHealth:
        """Now."""
        return self._pulse.health(time.monotonic(), live.stale_after_s)

    def publish_state(self, live: LiveSettings) -> None:
        """Publish `output/state` if it is another than the last one published."""
        with self._state_lock:
            self._publish_state(self.health(live))

    def _publish_state(self, health: CameraHealth) -> None:
        # Not the reason: it counts seconds.
        state = (health.state, ", ".join(sorted(health.implausible)))
        if state == self._last_state or self._state is None:
            return
        self._last_state = state
        stamp = self._node.get_clock().now().nanoseconds
        facts: dict[str, str | float] = {
            "state": health.state,
            "valid": "true" if health.valid else "false",
            "since_ns": str(stamp),
        }
        self._state.publish(status(self.title, self._node.get_name(), health, facts))

    def report(self, live: LiveSettings, node_facts: Mapping[str, str | float]) -> DiagnosticStatus:
        """The camera's part of /diagnostics.

        Args:
            node_facts: what holds for all cameras.
        """
        now = time.monotonic()
        health = self._pulse.health(now, live.stale_after_s)
        snapshot = self.accounting.snapshot()
        received_hz, published_hz = self._pulse.rates_hz(now)
        facts: dict[str, str | float] = {
            "state": health.state,
            **snapshot.as_dict(),
            "lost_by_middleware": self._lost_in_transport,
            "ground": self._geometry.problem or "known",
            "overwritten_in_queue": max(0, snapshot.lost_in_transport - self._lost_in_transport),
            "received_hz": received_hz,
            "published_hz": published_hz,
            **self._latencies.percentiles(),
            **self._kinds.counts(),
            **{f"subscribers of {topic}": count for topic, count in self.outputs.subscriber_counts().items()},
            **node_facts,
        }
        return status(self.title, self._node.get_name(), self._explained(health, live), facts)

    def _explained(self, health: CameraHealth, live: LiveSettings) -> CameraHealth:
        """Why nothing comes in, as far as the graph says it; or why nothing goes out."""
        if health.nothing_received:
            why = self._why_nothing_comes()
        elif health.state == "stale":
            why = _why_no_result(live)
        else:
            return health
        return replace(health, reason=f"{health.reason}; {why}") if why else health

    def _why_nothing_comes(self) -> str:
        subscription = self._subscription
        if subscription is None:
            return ""
        topic = subscription.topic_name
        publishers = self._node.get_publishers_info_by_topic(topic)
        wanted = "CompressedImage" if self._settings.image_transport == "compressed" else "Image"
        others = sorted({info.topic_type for info in publishers if not info.topic_type.endswith(f"/{wanted}")})
        if others:
            return (
                f"{topic} is published as {', '.join(others)}, and {wanted} is expected: remap "
                f"{INPUT_TOPICS[self._settings.image_transport]} or set image_transport"
            )
        if not publishers:
            return f"nobody publishes on {topic}: start the camera, or remap {topic} to its topic"
        return f"{len(publishers)} publishers on {topic}, but none of their frames arrives" + self._memory.hint()


def _why_no_result(live: LiveSettings) -> str:
    # "If it lasts": it is so for a moment too, while the first frame after a pause is in inference.
    why = (
        f"if it lasts, a result takes longer than stale_after_s ({live.stale_after_s:g} s): use a faster engine, a "
        "smaller bundle or fewer cameras, or raise stale_after_s"
    )
    return f"{why} or max_rate_hz ({live.max_rate_hz:g})" if live.max_rate_hz else why
