"""The lifecycle node: camera frames in; class ids, anomaly score and anomaly mask out.

    ros2 run ros_ood_perception perception_node --ros-args -p bundle:=FOLDER -r ~/input/image:=/camera/image_raw

Two threads beside the main one, which waits for signals: the executor's thread only checks messages and leaves them in
a one-frame slot; the inference thread converts, runs the engine and publishes.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription
from rclpy.time import Time
from sensor_msgs.msg import Image

from ros_ood_perception.bundle import Bundle, BundleError, read_bundle
from ros_ood_perception.inference.engine import EngineError, InferenceEngine, open_engine
from ros_ood_perception.node.diagnostics import StageLatencies, diagnostic_array
from ros_ood_perception.node.frame_accounting import FrameAccounting
from ros_ood_perception.node.image_messages import MalformedImageError, check_image, to_colour, to_message
from ros_ood_perception.node.latest_frame import LatestFrame
from ros_ood_perception.node.parameters import NodeParameters, NodeSettings, ParameterError
from ros_ood_perception.overlay import overlay_picture
from ros_ood_perception.perception import FramePerception, Perception

if TYPE_CHECKING:
    # Not there before Kilted.
    from rclpy.subscription import MessageInfo

NODE_NAME = "perception_node"
DIAGNOSTICS_PERIOD_S = 1.0
SIGNAL_CHECK_PERIOD_S = 0.1
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
"""Where Fast DDS looks for its transport profile: 3.x, and 2.x (Humble, Jazzy)."""


OUTPUT_TOPICS = ("~/output/semantic/mask", "~/output/anomaly/mask", "~/output/anomaly/score", "~/debug/overlay")


@dataclass(frozen=True)
class ReceivedImage:
    """A checked message and when it came, on the monotonic clock in seconds."""

    message: Image
    received_at: float


@dataclass(frozen=True)
class Configured:
    """All that configure makes and cleanup gives back."""

    settings: NodeSettings
    bundle: Bundle
    engine: InferenceEngine
    perception: Perception
    semantic_mask: LifecyclePublisher[Image]
    anomaly_mask: LifecyclePublisher[Image]
    anomaly_score: LifecyclePublisher[Image]
    overlay: LifecyclePublisher[Image]

    @property
    def publishers(self) -> tuple[LifecyclePublisher[Image], ...]:
        return (self.semantic_mask, self.anomaly_mask, self.anomaly_score, self.overlay)


@dataclass(frozen=True)
class Active:
    """All that activate makes and deactivate gives back."""

    subscription: Subscription[Image]
    slot: LatestFrame[ReceivedImage]
    thread: threading.Thread


RCLError = rclpy_implementation.RCLError

Transition = Callable[["PerceptionNode", LifecycleState], TransitionCallbackReturn]


def _told(transition: Transition) -> Transition:
    """rclpy turns an exception in a transition into an error state without a word: log it first."""

    @wraps(transition)
    def wrapped(node: PerceptionNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception:
            node.get_logger().fatal(f"{transition.__name__} raised:\n{traceback.format_exc()}")
            raise

    return wrapped


class PerceptionNode(LifecycleNode):
    """One camera, one engine."""

    def __init__(self, name: str = NODE_NAME) -> None:
        super().__init__(name)
        self._settings_source = NodeParameters(self)
        self._configured: Configured | None = None
        self._active: Active | None = None
        self._accounting = FrameAccounting()
        self._latencies = StageLatencies()
        self._logged: Counter[str] = Counter()
        self._logged_lock = threading.Lock()
        self._input_topic = ""
        self._finalized = False
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self.publish_diagnostics)

    # -- transitions ---------------------------------------------------------------------------------------------

    @_told
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and verify the bundle, open the engine, run it once, make the publishers."""
        engine: InferenceEngine | None = None
        try:
            settings = self._settings_source.read()
            bundle = read_bundle(settings.bundle)
            threshold = settings.anomaly_threshold
            if threshold is None:
                threshold = bundle.description.operating_point(settings.operating_point).threshold
            engine = open_engine(bundle, settings.engine, settings.num_threads)
            perception = Perception(engine, threshold, len(bundle.description.classes))
            warm_up = np.zeros((bundle.description.input.height, bundle.description.input.width, 3), np.uint8)
            started = time.monotonic()
            perception(warm_up)
        except (ParameterError, BundleError, EngineError) as error:
            if engine is not None:
                engine.close()
            self.get_logger().error(f"configure failed: {error}")
            return TransitionCallbackReturn.FAILURE
        publishers: list[LifecyclePublisher[Image]] = []
        try:
            for topic in OUTPUT_TOPICS:
                publishers.append(self._output(topic))
        except Exception:
            for publisher in publishers:
                self.destroy_lifecycle_publisher(publisher)
            engine.close()
            raise
        self._configured = Configured(settings, bundle, engine, perception, *publishers)
        self._warn_of_small_segment()
        self._accounting = FrameAccounting()
        self._latencies = StageLatencies()
        self._logged.clear()
        self._settings_source.locked = True
        self.get_logger().info(
            f"configured: bundle '{bundle.description.name}' ({bundle.description.model_sha256[:12]}) on "
            f"{engine.name}, threshold {threshold:.4f}, first run {(time.monotonic() - started) * 1e3:.0f} ms"
        )
        return super().on_configure(state)

    @_told
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the inference thread, then listen."""
        configured = self._configured
        if configured is None:
            self.get_logger().error("activate failed: the node is not configured")
            return TransitionCallbackReturn.FAILURE
        slot: LatestFrame[ReceivedImage] = LatestFrame()
        self._accounting.forget_publishers()
        subscription = self._input(slot)
        result = super().on_activate(state)
        # Last, so that nothing that fails above leaves a thread waiting.
        thread = threading.Thread(target=self._infer_frames, args=(configured, slot), name="inference")
        thread.start()
        self._input_topic = subscription.topic_name
        self._active = Active(subscription, slot, thread)
        self.get_logger().info(f"active: listening on {subscription.topic_name}")
        return result

    @_told
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening, finish the frame in hand and the one in the slot, say where every frame went."""
        self._stop()
        self.get_logger().info("inactive")
        return super().on_deactivate(state)

    @_told
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give back engine and publishers."""
        self._give_back()
        return super().on_cleanup(state)

    @_told
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """From any state."""
        self._stop()
        self._give_back()
        self._finalized = True
        return super().on_shutdown(state)

    @_told
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """A transition raised: give everything back, so that the node can be configured again."""
        self._stop()
        self._give_back()
        return TransitionCallbackReturn.SUCCESS

    def _output(self, topic: str) -> LifecyclePublisher[Image]:
        # A profile for each: rclpy writes a topic's overrides into the object that it is given.
        return self.create_lifecycle_publisher(
            Image,
            topic,
            QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def _input(self, slot: LatestFrame[ReceivedImage]) -> Subscription[Image]:
        def with_info(message: Image, info: MessageInfo) -> None:
            self._on_image(slot, message, info)

        def without_info(message: Image) -> None:
            self._on_image(slot, message, None)

        # Humble calls back without the message's sequence number.
        callback = with_info if hasattr(Subscription, "CallbackType") else without_info
        return self.create_subscription(
            Image,
            "~/input/image",
            callback,
            QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def _warn_of_small_segment(self) -> None:
        fast_dds = rclpy.get_rmw_implementation_identifier().startswith("rmw_fastrtps")
        if fast_dds and not any(os.environ.get(name) for name in PROFILE_VARIABLES):
            self.get_logger().warning(
                "no Fast DDS profile is set: images above 512 KB may be lost without a word. Set "
                f"{' and '.join(PROFILE_VARIABLES)} to config/fastdds_large_images.xml of this package, for the camera "
                "driver, this node and its consumers"
            )

    def _stop(self) -> None:
        active, self._active = self._active, None
        if active is None:
            return
        self.destroy_subscription(active.subscription)
        active.slot.close()
        active.thread.join()
        self.publish_diagnostics()

    def _give_back(self) -> None:
        configured, self._configured = self._configured, None
        self._settings_source.locked = False
        if configured is None:
            return
        for publisher in configured.publishers:
            self.destroy_lifecycle_publisher(publisher)
        configured.engine.close()

    def shut_down(self) -> None:
        """The last transition, from whatever state; nothing more once a client has shut the node down."""
        if not self._finalized:
            self.trigger_shutdown()

    # -- a frame's way -------------------------------------------------------------------------------------------

    def _on_image(self, slot: LatestFrame[ReceivedImage], message: Image, info: MessageInfo | None) -> None:
        received_at = time.monotonic()
        self._accounting.receive(*self._numbering(info))
        try:
            check_image(message)
        except MalformedImageError as error:
            self._settle_malformed(error)
            return
        if slot.put(ReceivedImage(message, received_at)) is not None:
            self._accounting.settle("replaced_unread")

    def _numbering(self, info: MessageInfo | None) -> tuple[bytes, int | None]:
        """Who sent a message, and its number among the sender's; (b"", None) where that cannot be known."""
        if info is None:
            return b"", None
        number = info.get("publication_sequence_number")
        gid = info.get("publisher_gid")
        if gid is not None:
            return bytes(gid["data"]), number
        # Jazzy numbers the messages, but does not say whose they are: with one publisher there is no doubt.
        return b"", number if self.count_publishers(self._input_topic) == 1 else None

    def _infer_frames(self, configured: Configured, slot: LatestFrame[ReceivedImage]) -> None:
        while (received := slot.take()) is not None:
            try:
                fate = self._infer(configured, received)
            except MalformedImageError as error:
                self._settle_malformed(error)
                continue
            except Exception as error:  # whatever it was, the frame is accounted for and the next one gets its chance
                self._log_once(f"failed: {type(error).__name__}", f"a frame failed: {type(error).__name__}: {error}")
                fate = "failed"
            self._accounting.settle(fate)

    def _infer(self, configured: Configured, received: ReceivedImage) -> str:
        message, settings = received.message, configured.settings
        begun = time.monotonic()
        if settings.max_frame_age_ms > 0:
            age_ms = (self.get_clock().now() - Time.from_msg(message.header.stamp)).nanoseconds / 1e6
            if age_ms > settings.max_frame_age_ms:
                self._log_once(
                    "too old", f"a frame is {age_ms:.0f} ms old; max_frame_age_ms is {settings.max_frame_age_ms:.0f}"
                )
                return "too_old"
        image = to_colour(message, configured.bundle.description.input.colour_order)
        converted = time.monotonic()
        result = configured.perception(image)
        inferred = time.monotonic()
        self._publish(configured, message, image, result)
        published = time.monotonic()
        self._latencies.add(
            {
                "wait": (begun - received.received_at) * 1e3,
                "conversion": (converted - begun) * 1e3,
                "inference": (inferred - converted) * 1e3,
                "publish": (published - inferred) * 1e3,
                "receive_to_publish": (published - received.received_at) * 1e3,
            }
        )
        return "published"

    def _publish(self, configured: Configured, message: Image, image: np.ndarray, result: FramePerception) -> None:
        """What nobody subscribes to is not computed."""
        header = message.header
        if configured.semantic_mask.get_subscription_count():
            configured.semantic_mask.publish(to_message(result.semantic, "mono8", header))
        if configured.anomaly_mask.get_subscription_count():
            mask = result.anomaly_mask.astype(np.uint8) * np.uint8(255)
            configured.anomaly_mask.publish(to_message(mask, "mono8", header))
        if configured.anomaly_score.get_subscription_count():
            encoding = configured.settings.score_encoding
            score = result.anomaly_score if encoding == "32FC1" else score_to_mono8(result.anomaly_score)
            configured.anomaly_score.publish(to_message(score, encoding, header))
        if configured.overlay.get_subscription_count():
            description = configured.bundle.description
            rgb = image if description.input.colour_order == "rgb" else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            picture = overlay_picture(rgb, result.semantic, result.anomaly_mask, description.colours)
            configured.overlay.publish(to_message(picture, "rgb8", header))

    def _settle_malformed(self, error: MalformedImageError) -> None:
        self._accounting.settle("malformed")
        self._log_once(f"malformed: {error.kind}", f"malformed image dropped: {error}")

    # -- what the node says of itself ----------------------------------------------------------------------------

    def _log_once(self, kind: str, text: str) -> None:
        with self._logged_lock:
            self._logged[kind] += 1
            first = self._logged[kind] == 1
        if first:
            self.get_logger().error(f"{text} (logged once; counted in /diagnostics as '{kind}')")

    def publish_diagnostics(self) -> None:
        """Where every frame went, and how long the stages took."""
        with self._logged_lock:
            facts: dict[str, str | float] = dict(self._logged)
        facts.update(self._latencies.percentiles())
        configured = self._configured
        if configured is not None:
            facts["engine"] = configured.engine.name
            facts["bundle"] = configured.bundle.description.name
            facts["model_sha256"] = configured.bundle.description.model_sha256
            facts["anomaly_threshold"] = repr(configured.perception.anomaly_threshold)
            for publisher in configured.publishers:
                facts[f"subscribers of {publisher.topic_name}"] = str(publisher.get_subscription_count())
        stamp = self.get_clock().now().to_msg()
        name = f"{self.get_fully_qualified_name().lstrip('/')}: camera"
        self._diagnostics.publish(
            diagnostic_array(stamp, name, self.get_name(), self._active is not None, self._accounting.snapshot(), facts)
        )


def score_to_mono8(score: np.ndarray) -> np.ndarray:
    """Anomaly score (H, W) float32 in [0, 1] to the nearest of 256 grey levels."""
    return np.rint(score * np.float32(255)).astype(np.uint8)


def main(arguments: list[str] | None = None) -> int:
    """Run the node until SIGINT, SIGTERM or an error in the executor; returns the exit code."""
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    stop = threading.Event()
    failures: list[BaseException] = []

    def on_signal(number: int, _frame: object) -> None:
        stop.set()
        # A second signal of the kind ends the process the hard way.
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)

    node = PerceptionNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def spin() -> None:
        # Not executor.spin() and executor.shutdown() from outside: that pulls the wait set from under a running spin.
        try:
            while not stop.is_set():
                try:
                    executor.spin_once(timeout_sec=SIGNAL_CHECK_PERIOD_S)
                except RCLError as error:
                    # Up to Jazzy, a transition that the state does not allow ends up here.
                    node.get_logger().error(f"a request failed: {error}")
        except BaseException as error:  # reported below, in the thread that can end the process
            failures.append(error)
            stop.set()

    thread = threading.Thread(target=spin, name="executor")
    thread.start()
    stop.wait()
    thread.join()
    executor.shutdown()
    # The executor is at rest, so this thread may drive the last transition.
    node.shut_down()
    node.destroy_node()
    rclpy.shutdown()
    if failures:
        print(f"{NODE_NAME}: the executor failed: {failures[0]!r}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
