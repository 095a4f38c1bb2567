"""The lifecycle node: frames of one camera or several in; class ids, anomaly score, mask and obstacles out.

    ros2 run ros_ood_perception perception_node --ros-args -p bundle:=FOLDER -r ~/input/image:=/camera/image_raw

Three threads: the main one waits for signals. The executor's thread checks messages and leaves them in a one-frame slot
for each camera. The inference thread converts, runs the engine and publishes.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps

import cv2
import rclpy
from lifecycle_msgs.srv import ChangeState
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from ros_ood_perception.bundle.model_bundle import BundleError
from ros_ood_perception.inference.engine import EngineError
from ros_ood_perception.node.configured import Configured, make_cameras, open_bundle
from ros_ood_perception.node.frames.received import ReceivedFrame
from ros_ood_perception.node.frames.slots import FrameSlots
from ros_ood_perception.node.given_parameters import given_parameters, unused_qos_overrides, unused_remap_rules
from ros_ood_perception.node.health.deadlines import Seen
from ros_ood_perception.node.health.watchdog import LOOK_PERIOD_S, AbandonedError, Watchdog
from ros_ood_perception.node.inference_loop import InferenceLoop
from ros_ood_perception.node.middleware.abandoned_shared_memory import remove_abandoned_segments
from ros_ood_perception.node.middleware.transport import (
    shared_memory,
)
from ros_ood_perception.node.node_report import NodeReport, environment_problems, is_fast_dds
from ros_ood_perception.node.parameters import NodeParameters
from ros_ood_perception.node.process.node_process import RCLError, run
from ros_ood_perception.node.process.ros_arguments import ros_arguments
from ros_ood_perception.parameters.settings import FixedSettings, LiveSettings, ParameterError

NODE_NAME = "perception_node"
STATE_PERIOD_S = 0.5
"""Longest time between two evaluations of the cameras' states, seconds."""


@dataclass(frozen=True)
class Active:
    """What exists from activate to deactivate."""

    slots: FrameSlots[ReceivedFrame]
    loop: InferenceLoop


ChangeStateCallback = Callable[[ChangeState.Request, ChangeState.Response], ChangeState.Response]
Transition = Callable[["PerceptionNode", LifecycleState], TransitionCallbackReturn]


def _logs_errors(transition: Transition) -> Transition:
    """Log an exception of a transition: rclpy turns it into an error state without a log line."""

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
        arguments: of the command line; None: those of the process.

    Attributes:
        watchdog: watches every call of the engine. If one is stuck, the process must end.
    """

    def __init__(
        self,
        name: str = NODE_NAME,
        alive: Callable[[float], None] = lambda silence_s: None,
        arguments: Sequence[str] | None = None,
    ) -> None:
        super().__init__(name)
        self.watchdog = Watchdog(self.get_logger().error, alive)
        self._arguments = ros_arguments(arguments)
        self._given = given_parameters(self, self._arguments)
        for problem in self._given.for_others:
            self.get_logger().warning(problem)
        self._node_parameters = NodeParameters(self, self._given)
        self._live: LiveSettings | None = None
        self._configured: Configured | None = None
        self._active: Active | None = None
        self._finalized = False
        # Up to Jazzy, rclpy does not answer where the state does not allow a transition: the client waits for ever.
        service = self._service_change_state
        service.callback = self._answered(service.callback)
        self._report = NodeReport(self, self.watchdog)
        # On a steady clock: with simulated time and no /clock, a ROS timer would never fire to report that.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self.create_timer(1.0, self.publish_diagnostics, clock=steady)
        # A timer of its own: without frames nothing else publishes the states, and diagnostics may be rare.
        self._state_timer = self.create_timer(STATE_PERIOD_S, self._publish_states, clock=steady)
        self._look_timer = self.create_timer(LOOK_PERIOD_S, self.watchdog.look, clock=steady)
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

    def _check_remap_rules(self, fixed: FixedSettings) -> None:
        """Refuse a rule that only this node could take, and does not; name the others in the log."""
        given = (*fixed.camera_info_topics, fixed.motion.odometry_topic)
        for own, problem in unused_remap_rules(self, self._arguments, fixed.cameras, given):
            if own:
                raise ParameterError(f"{problem}; correct or remove it")
            self.get_logger().warning(problem)

    # -- transitions --------------------------------------------------------------------------------------------------

    @_logs_errors
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read and verify the bundle, open the engine, run it twice, make the publishers."""
        try:
            fixed, live = self._node_parameters.read()
            self._check_remap_rules(fixed)
            started = time.monotonic()
            bundle, supervisor = self.watchdog.call(
                lambda: open_bundle(fixed, live, self.watchdog.watch, self.get_logger()),
                self._while_waiting,
                until_leaving=True,
            )
            threshold = live.threshold(bundle.description)
        except (ParameterError, BundleError, EngineError) as error:
            self.get_logger().error(f"configure failed: {error}")
            return TransitionCallbackReturn.FAILURE
        memory = shared_memory(rclpy.get_rmw_implementation_identifier(), os.environ)
        try:
            self._configured = make_cameras(self, fixed, live, bundle, supervisor, memory)
        except Exception:
            self.watchdog.call(supervisor.close, self._while_waiting)
            raise
        self.watchdog.usual_limit_s = supervisor.deadline_s

        def check(settings: LiveSettings, changed: Collection[str]) -> tuple[str, str]:
            settings.pipeline_settings(bundle.description)
            note = settings.without_effect(changed, bundle.description)
            return str(settings.in_force(bundle.description)), note

        self._node_parameters.lock(check, self._on_live_settings)
        self._on_live_settings(live)
        for problem in (*environment_problems(memory), *fixed.doubts):
            self.get_logger().warning(problem)
        description = bundle.description
        self.get_logger().info(
            f"configured: bundle '{description.name}' ({description.model_sha256[:12]}, "
            f"{description.input.sizes_text}) on {supervisor.name}, threshold {threshold:.4f}, opened and run twice in "
            f"{(time.monotonic() - started) * 1e3:.0f} ms, cameras: {', '.join(fixed.cameras) or 'one'}, "
            f"drivable classes: {', '.join(live.drivable_names(description)) or 'none, every region counts'}, "
            f"settings of obstacles: {live.in_force(description)}"
        )
        return super().on_configure(state)

    @_logs_errors
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the inference thread, then listen."""
        configured, live = self._configured, self._live
        if configured is None or live is None:
            self.get_logger().error("activate failed: the node is not configured")
            return TransitionCallbackReturn.FAILURE
        try:
            # It may have been given up since configure.
            self.watchdog.call(configured.supervisor.open, self._while_waiting, until_leaving=True)
        except EngineError as error:
            self.get_logger().error(f"activate failed: {error}")
            return TransitionCallbackReturn.FAILURE
        slots: FrameSlots[ReceivedFrame] = FrameSlots(len(configured.cameras))
        slots.limit_rate(live.max_rate_hz)
        topics = [camera.listen(_into(slots, number)) for number, camera in enumerate(configured.cameras)]
        for problem in unused_qos_overrides(self, self._given):
            self.get_logger().warning(problem)
        result = super().on_activate(state)
        description = configured.bundle.description
        loop = InferenceLoop(
            configured.cameras,
            slots,
            configured.supervisor,
            self._settings,
            self._engine_lost.trigger,
            self.watchdog.lose,
            configured.pose_wait_s,
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

    @_logs_errors
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening, use the frames that wait, and publish where every frame went."""
        self._stop()
        self.get_logger().info("inactive")
        return super().on_deactivate(state)

    @_logs_errors
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close the engine, and destroy subscriptions and publishers."""
        self._close_all()
        return super().on_cleanup(state)

    @_logs_errors
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close everything, from any state."""
        self._stop()
        self._close_all()
        self._finalized = True
        return super().on_shutdown(state)

    @_logs_errors
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close everything after an error in a transition, so that the node can be configured again."""
        self._stop()
        self._close_all()
        return TransitionCallbackReturn.SUCCESS

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
            self.watchdog.wait(active.loop.ended, self._while_waiting)
        for camera in configured.cameras:
            camera.deactivate()
        self.publish_diagnostics()

    def _close_all(self) -> None:
        configured, self._configured = self._configured, None
        self._node_parameters.unlock()
        if configured is None:
            return
        configured.close()
        # An engine that is stuck in a call is not closed.
        if not self.watchdog.stuck:
            with suppress(AbandonedError):
                self.watchdog.call(configured.supervisor.close, self._while_waiting)

    def _while_waiting(self, seen: Seen) -> None:
        """Do the timers' work while the executor's thread waits for an engine."""
        period_s = self._live.diagnostics_period_s if self._live is not None else 1.0
        if time.monotonic() - self._report.published_at >= period_s:
            self.publish_diagnostics()
        self._publish_states()

    def start(self) -> None:
        """Configure and activate, if the parameter autostart says so. A failure is logged; a client can try again.

        The node does it itself and not a launch file: after a restart, a request to configure may go to the killed
        predecessor, which stays on the graph for a while.
        """
        wanted = self.get_parameter("autostart").value
        if not wanted:
            self.get_logger().info(
                "unconfigured: waits for a lifecycle manager; the parameter autostart:=true configures and activates"
            )
            return
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()
            return
        name = self.get_fully_qualified_name()
        self.get_logger().error(
            "the node stays up, unconfigured, and publishes nothing. Correct what the error above names, then "
            f"configure it again (ros2 lifecycle set {name} configure, and activate) or start it again"
        )

    def shut_down(self) -> None:
        """Shut down from any state, unless a client has done so."""
        if not self._finalized:
            self.trigger_shutdown()
        self._jumps.unregister()

    # -- changes while the node runs ----------------------------------------------------------------------------------

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

    def _on_engine_lost(self) -> None:
        # On the executor's thread: the inference thread cannot wait for its own end.
        if self._active is not None:
            self.get_logger().fatal("no engine is left: going inactive. Activate the node to try again")
            self.trigger_deactivate()

    def _on_clock_jump(self, _jump: object) -> None:
        if self._configured is not None:
            for camera in self._configured.cameras:
                camera.restart_time()

    # -- reports ------------------------------------------------------------------------------------------------------

    def _publish_states(self) -> None:
        self._node_parameters.log_what_waits()
        if self._configured is not None and self._live is not None:
            for camera in self._configured.cameras:
                camera.publish_state(self._live)

    def publish_diagnostics(self) -> None:
        """Publish /diagnostics now."""
        self._report.publish(self._configured, self._live)


def _into(slots: FrameSlots[ReceivedFrame], camera: int) -> Callable[[ReceivedFrame], bool]:
    return lambda frame: slots.put(camera, frame) is not None


def main(arguments: list[str] | None = None) -> int:
    """Run the node until a signal or an error ends it, see `node_process.run`; returns the exit code."""
    # OpenCV's further threads spin while they wait for work, and what it does here takes less time than to wake them.
    cv2.setNumThreads(1)
    # Before this process allocates shared memory of its own.
    removed = remove_abandoned_segments() if is_fast_dds() else None

    def make_node(alive: Callable[[float], None]) -> PerceptionNode:
        node = PerceptionNode(alive=alive, arguments=arguments)
        if removed and removed.segments:
            node.get_logger().info(
                f"removed {removed.megabytes:.0f} MB of shared memory that processes of Fast DDS left when they died "
                f"({removed.segments} segments)"
            )
        return node

    return run(make_node, arguments)


if __name__ == "__main__":
    sys.exit(main())
