"""The lifecycle node: frames of one camera or several in; class ids, anomaly score, mask and obstacles out.

    ros2 run ros_ood_perception perception_node --ros-args -p bundle:=FOLDER -r ~/input/image:=/camera/image_raw

Two threads beside the main one, which waits for signals: the executor's thread only checks messages and leaves them in
a one-frame slot a camera; the inference thread converts, runs the engine and publishes.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import wraps

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import ChangeState
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from ros_ood_perception.bundle.model_bundle import Bundle, BundleDescription, BundleError, read_bundle
from ros_ood_perception.inference.engine import ENGINES, EngineError, InferenceEngine
from ros_ood_perception.inference.opening import open_engine
from ros_ood_perception.inference.perception import Perception
from ros_ood_perception.node.camera import Camera, ReceivedFrame
from ros_ood_perception.node.camera_outputs import has_vision_msgs
from ros_ood_perception.node.engine_supervisor import EngineSupervisor
from ros_ood_perception.node.frames.slots import FrameSlots
from ros_ood_perception.node.health.deadlines import InferenceDeadline, Seen
from ros_ood_perception.node.health.diagnostics import diagnostic_array, status, twins_status
from ros_ood_perception.node.health.health import CameraHealth
from ros_ood_perception.node.health.watchdog import LOOK_PERIOD_S, AbandonedError, Watchdog
from ros_ood_perception.node.inference_loop import InferenceLoop
from ros_ood_perception.node.middleware.abandoned_shared_memory import remove_abandoned_segments
from ros_ood_perception.node.middleware.name_twins import TwinSearch
from ros_ood_perception.node.middleware.transport import (
    FIX,
    PROFILE_VARIABLES,
    SharedMemory,
    looks_up_types,
    shared_memory,
)
from ros_ood_perception.node.parameters import NodeParameters
from ros_ood_perception.node.process.node_process import RCLError, run
from ros_ood_perception.node.transforms import Transforms
from ros_ood_perception.obstacles.tracks import ObstacleDetector
from ros_ood_perception.parameters.settings import FixedSettings, LiveSettings, ParameterError

NODE_NAME = "perception_node"
STATE_PERIOD_S = 0.5
"""So long at most after a camera went silent for too long, `output/state` says so."""


@dataclass(frozen=True)
class Configured:
    """All that configure makes and cleanup gives back."""

    bundle: Bundle
    supervisor: EngineSupervisor
    cameras: tuple[Camera, ...]
    transforms: Transforms | None


@dataclass(frozen=True)
class Active:
    """All that activate makes and deactivate gives back."""

    slots: FrameSlots[ReceivedFrame]
    loop: InferenceLoop


ChangeStateCallback = Callable[[ChangeState.Request, ChangeState.Response], ChangeState.Response]
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
    """Several cameras, one engine.

    Args:
        alive: see `Watchdog`.

    Attributes:
        watchdog: over every call of the engine; when something is stuck, the process must end.
    """

    def __init__(self, name: str = NODE_NAME, alive: Callable[[float], None] = lambda silence_s: None) -> None:
        super().__init__(name)
        self.watchdog = Watchdog(self.get_logger().error, alive)
        self._node_parameters = NodeParameters(self)
        self._live: LiveSettings | None = None
        self._configured: Configured | None = None
        self._active: Active | None = None
        self._finalized = False
        # Up to Jazzy, rclpy gives no answer where the state does not allow a transition, and who asked waits for ever.
        service = self._service_change_state
        service.callback = self._answered(service.callback)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Of a steady clock: with simulated time and no /clock, a ROS timer would never say that there is none.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self.create_timer(1.0, self.publish_diagnostics, clock=steady)
        # Of its own: without frames nothing else publishes the states, and the diagnostics may come once a minute.
        self._state_timer = self.create_timer(STATE_PERIOD_S, self._publish_states, clock=steady)
        self._look_timer = self.create_timer(LOOK_PERIOD_S, self.watchdog.look, clock=steady)
        self._published_at = 0.0
        self._twins = TwinSearch(self, self.get_logger().warning)
        self._engine_lost = self.create_guard_condition(self._on_engine_lost)
        self._jumps = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True),
            post_callback=self._on_clock_jump,
        )

    def _answered(self, change_state: ChangeStateCallback) -> ChangeStateCallback:
        def answer(request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
            try:
                return change_state(request, response)
            except RCLError as error:
                self.get_logger().error(f"transition {request.transition.id} refused: {error}")
                response.success = False
                return response

        return answer

    # -- transitions ---------------------------------------------------------------------------------------------

    @_told
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and verify the bundle, open the engine, run it twice, make the publishers."""
        try:
            fixed, live = self._node_parameters.read()
            started = time.monotonic()
            bundle, supervisor = self.watchdog.call(
                lambda: self._open(fixed, live), self._meanwhile, until_leaving=True
            )
            threshold = live.threshold(bundle.description)
        except (ParameterError, BundleError, EngineError) as error:
            self.get_logger().error(f"configure failed: {error}")
            return TransitionCallbackReturn.FAILURE
        cameras: list[Camera] = []
        transforms: Transforms | None = None
        memory = shared_memory(rclpy.get_rmw_implementation_identifier(), os.environ)
        try:
            if None in fixed.mountings:
                transforms = Transforms(self, fixed.base_frame)
            for number in range(len(fixed.cameras)):
                perception = Perception(
                    supervisor,
                    threshold,
                    len(bundle.description.classes),
                    ObstacleDetector(),
                    output_size=(bundle.description.input.height, bundle.description.input.width),
                )
                cameras.append(Camera(self, number, fixed, bundle.description, perception, memory, transforms))
        except Exception:
            for camera in cameras:
                camera.close()
            if transforms is not None:
                transforms.close()
            self.watchdog.call(supervisor.close, self._meanwhile)
            raise
        self._configured = Configured(bundle, supervisor, tuple(cameras), transforms)
        self.watchdog.usual_limit_s = supervisor.deadline_s
        self._node_parameters.lock(lambda settings: _check(settings, bundle), self._on_live_settings)
        self._on_live_settings(live)
        self._say_what_is_missing(memory)
        self.get_logger().info(
            f"configured: bundle '{bundle.description.name}' ({bundle.description.model_sha256[:12]}) on "
            f"{supervisor.name}, threshold {threshold:.4f}, opened and run twice in "
            f"{(time.monotonic() - started) * 1e3:.0f} ms, cameras: {', '.join(fixed.cameras) or 'one'}"
        )
        return super().on_configure(state)

    @_told
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the inference thread, then listen."""
        configured, live = self._configured, self._live
        if configured is None or live is None:
            self.get_logger().error("activate failed: the node is not configured")
            return TransitionCallbackReturn.FAILURE
        try:
            # It may have been given up since.
            self.watchdog.call(configured.supervisor.open, self._meanwhile, until_leaving=True)
        except EngineError as error:
            self.get_logger().error(f"activate failed: {error}")
            return TransitionCallbackReturn.FAILURE
        slots: FrameSlots[ReceivedFrame] = FrameSlots(len(configured.cameras))
        slots.limit_rate(live.max_rate_hz)
        topics = [camera.listen(_into(slots, number)) for number, camera in enumerate(configured.cameras)]
        result = super().on_activate(state)
        description = configured.bundle.description
        loop = InferenceLoop(
            configured.cameras,
            slots,
            configured.supervisor,
            description,
            self._settings,
            self._engine_lost.trigger,
            self.watchdog.lose,
        )
        for camera in configured.cameras:
            camera.outputs.announce(live, live.threshold(description), "")
            camera.publish_state(live)
        self.watchdog.on_overdue(loop.expire)
        # Last, so that nothing that fails above leaves a thread waiting.
        loop.start()
        self._active = Active(slots, loop)
        self.get_logger().info(f"active: listening on {', '.join(topics)}")
        return result

    @_told
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening, finish the frames in hand and in the slots, say where every frame went."""
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

    def _open(self, fixed: FixedSettings, live: LiveSettings) -> tuple[Bundle, EngineSupervisor]:
        """The bundle and its engine, opened; on a thread of its own, so it touches nothing of the node's."""
        with self.watchdog.watch.at(f"reading the bundle {fixed.bundle}", lambda: fixed.opening_deadline_s):
            bundle = read_bundle(fixed.bundle, fixed.bundle_public_key)
            _check(live, bundle)
        supervisor = self._supervisor(fixed, bundle)
        supervisor.open()
        return bundle, supervisor

    def _supervisor(self, fixed: FixedSettings, bundle: Bundle) -> EngineSupervisor:
        model_size = (bundle.description.input.height, bundle.description.input.width)

        gpu = replace(fixed.gpu, log=self.get_logger().info)
        deadline = InferenceDeadline(fixed.inference_deadline_s)

        def open_and_run_twice(name: str) -> InferenceEngine:
            engine = open_engine(bundle, name, fixed.num_threads, gpu)
            # TensorRT 8.6 takes frames of one size only.
            size = model_size if engine.name == "onnxruntime" else gpu.image_size
            try:
                engine.run(np.zeros((1, *size, 3), np.uint8))
                # Once more: what is made at the first run says nothing about how long the others take.
                started = time.monotonic()
                engine.run(np.zeros((1, *size, 3), np.uint8))
                deadline.add(time.monotonic() - started)
            except BaseException:
                engine.close()
                raise
            return engine

        order = [name for name in ENGINES if name != "auto"]
        return EngineSupervisor(
            open_and_run_twice,
            fixed.engine,
            order,
            fixed.failure_policy,
            self._on_engine_event,
            watch=self.watchdog.watch,
            deadline=deadline,
            opening_s=fixed.opening_deadline_s,
        )

    def _say_what_is_missing(self, memory: SharedMemory) -> None:
        log = self.get_logger()
        if _is_fast_dds() and not any(os.environ.get(name) for name in PROFILE_VARIABLES) and memory.segment_bytes:
            log.warning(
                f"no Fast DDS profile is set: images above {memory.segment_bytes // 1024} KB may be lost without a "
                f"word. To mend it, {FIX}"
            )
        if looks_up_types():
            log.warning(
                "Fast DDS looks up the type of each subscriber before it sends to it, and can forget a subscriber over "
                f"that, which then never gets a message. To mend it, {FIX}, or fastdds.type_propagation to disabled in "
                "a profile of your own"
            )
        if not has_vision_msgs():
            log.warning(
                "vision_msgs is not installed: output/anomaly/detections and output/semantic/label_info are not "
                "published; Nav2's semantic segmentation layer drops masks without the latter. On a distribution: "
                "sudo apt install ros-$ROS_DISTRO-vision-msgs"
            )

    def _stop(self) -> None:
        active, self._active = self._active, None
        configured = self._configured
        if configured is None:
            return
        for camera in configured.cameras:
            camera.stop_listening()
        if active is None:
            return
        active.loop.close()
        with suppress(AbandonedError):
            self.watchdog.wait(active.loop.ended, self._meanwhile)
        for camera in configured.cameras:
            camera.deactivate()
        self.publish_diagnostics()

    def _give_back(self) -> None:
        configured, self._configured = self._configured, None
        self._node_parameters.unlock()
        if configured is None:
            return
        for camera in configured.cameras:
            camera.close()
        if configured.transforms is not None:
            configured.transforms.close()
        # An engine that is stuck in a call is not closed under it.
        if not self.watchdog.stuck:
            with suppress(AbandonedError):
                self.watchdog.call(configured.supervisor.close, self._meanwhile)

    def _meanwhile(self, seen: Seen) -> None:
        """What the timers would do, while the thread that drives them waits for an engine."""
        period_s = self._live.diagnostics_period_s if self._live is not None else 1.0
        if time.monotonic() - self._published_at >= period_s:
            self.publish_diagnostics()
        self._publish_states()

    def start(self) -> None:
        """Configure and activate, if the parameter autostart says so; what fails is logged and can be asked for again.

        By the node itself, not by a launch file: for a node that was killed and started again, a request to configure
        may go to its predecessor, which stays on the graph for a while.
        """
        wanted = self.get_parameter("autostart").value
        if wanted and self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def shut_down(self) -> None:
        """The last transition, from whatever state; nothing more once a client has shut the node down."""
        if not self._finalized:
            self.trigger_shutdown()
        self._jumps.unregister()

    # -- what changes while it runs ------------------------------------------------------------------------------

    def _settings(self) -> LiveSettings:
        assert self._live is not None
        return self._live

    def _on_live_settings(self, live: LiveSettings) -> None:
        # One reference: a frame sees either all of the old settings or all of the new ones.
        self._live = live
        for timer, period_s in (
            (self._timer, live.diagnostics_period_s),
            (self._state_timer, min(STATE_PERIOD_S, live.stale_after_s / 4)),
        ):
            if timer.timer_period_ns != (period_ns := round(period_s * 1e9)):
                timer.timer_period_ns = period_ns
                # Without it, the call that is already due keeps the old period.
                timer.reset()
        if self._active is not None:
            self._active.slots.limit_rate(live.max_rate_hz)

    def _on_engine_event(self, text: str) -> None:
        self.get_logger().error(text)

    def _on_engine_lost(self) -> None:
        # On the executor's thread: the inference thread cannot wait for its own end.
        if self._active is not None:
            self.get_logger().fatal("no engine is left: going inactive. Activate the node to try again")
            self.trigger_deactivate()

    def _on_clock_jump(self, _jump: object) -> None:
        if self._configured is not None:
            for camera in self._configured.cameras:
                camera.restart_time()

    # -- what the node says of itself ----------------------------------------------------------------------------

    def _publish_states(self) -> None:
        if self._configured is not None and self._live is not None:
            for camera in self._configured.cameras:
                camera.publish_state(self._live)

    def publish_diagnostics(self) -> None:
        """How each camera is, where its frames went, how long the stages took."""
        configured, live = self._configured, self._live
        self._published_at = time.monotonic()
        stamp = self.get_clock().now().to_msg()
        if configured is None or live is None:
            work = self.watchdog.watch.work
            title = self.get_fully_qualified_name().lstrip("/")
            health = CameraHealth("inactive", work.what if work else "the node is not configured")
            if self.watchdog.stuck:
                health = CameraHealth("failed", self.watchdog.stuck)
            nothing = status(title, self.get_name(), health, {})
            self._diagnostics.publish(diagnostic_array(stamp, [*self._twins_statuses(()), nothing]))
            return
        description = configured.bundle.description
        supervisor = configured.supervisor
        threshold = live.threshold(description)
        facts: dict[str, str | float] = {
            "engine": supervisor.name,
            "engine_open": str(supervisor.is_open).lower(),
            "engine_failures": supervisor.failures,
            "engine_reopened": supervisor.reopened,
            "inference_deadline_s": supervisor.deadline_s(),
            "bundle": description.name,
            "model_sha256": description.model_sha256,
            "score_temperature": repr(description.score.temperature),
            "operating_point": _operating_point(live, description),
            "anomaly_threshold": repr(threshold),
        }
        if self.get_parameter("use_sim_time").value and not self.get_clock().now().nanoseconds:
            facts["clock"] = "use_sim_time is set, but nothing has come on /clock (ros2 bag play --clock)"
        statuses = self._twins_statuses(configured.cameras)
        for camera in configured.cameras:
            statuses.append(camera.report(live, facts))
            camera.publish_state(live)
        self._diagnostics.publish(diagnostic_array(stamp, statuses))

    def _twins_statuses(self, cameras: Sequence[Camera]) -> list[DiagnosticStatus]:
        twins = self._twins.look([topic for camera in cameras for topic in camera.outputs.topics()])
        title = self.get_fully_qualified_name().lstrip("/")
        return [twins_status(title, self.get_name(), twins)] if twins else []


def _check(live: LiveSettings, bundle: Bundle) -> None:
    live.threshold(bundle.description)
    live.region_settings(bundle.description)


def _operating_point(live: LiveSettings, description: BundleDescription) -> str:
    """The name of what gives the threshold."""
    if live.anomaly_threshold is not None:
        return "none: anomaly_threshold is set"
    return description.operating_point(live.operating_point).name


def _into(slots: FrameSlots[ReceivedFrame], camera: int) -> Callable[[ReceivedFrame], bool]:
    return lambda frame: slots.put(camera, frame) is not None


def _is_fast_dds() -> bool:
    return rclpy.get_rmw_implementation_identifier().startswith("rmw_fastrtps")


def main(arguments: list[str] | None = None) -> int:
    """Run the node until SIGINT, SIGTERM, or what `node_process.run` ends it for; returns the exit code."""
    # Before this process asks for memory of its own.
    removed = remove_abandoned_segments() if _is_fast_dds() else None

    def make_node(alive: Callable[[float], None]) -> PerceptionNode:
        node = PerceptionNode(alive=alive)
        if removed and removed.segments:
            node.get_logger().info(
                f"removed {removed.megabytes:.0f} MB of shared memory that processes of Fast DDS left when they died "
                f"({removed.segments} segments)"
            )
        return node

    return run(make_node, arguments)


if __name__ == "__main__":
    sys.exit(main())
