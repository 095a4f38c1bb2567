"""The node waits for the vehicle's pose at a frame's stamp: real messages on a real executor."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rclpy
from bench import Bench, NodeProcess, image
from nav_msgs.msg import Odometry
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from std_msgs.msg import Header

from ros_ood_perception.node.vehicle_motion import OdometryMotion
from ros_ood_perception.obstacles.motion import MotionSettings, PlanarPose

MS = 1_000_000
WAIT_S = 2.0


@pytest.fixture
def node() -> Iterator[Node]:
    # A context of its own: another test of this process may have the global one.
    context = Context()
    rclpy.init(context=context)
    node = Node("vehicle", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    yield node
    executor.shutdown()
    thread.join()
    node.destroy_node()
    rclpy.shutdown(context=context)


def send(publisher: Publisher[Odometry], stamp_ms: int, x: float) -> None:
    message = Odometry()
    message.header.stamp.sec, message.header.stamp.nanosec = 7, stamp_ms * MS
    message.pose.pose.position.x = x
    publisher.publish(message)


def at(motion: OdometryMotion, stamp_ms: int) -> tuple[PlanarPose | None, str, float]:
    """Pose, problem and seconds of waiting for a frame that came now."""
    begun = time.monotonic()
    found = motion.at(0, 7_000_000_000 + stamp_ms * MS, begun)
    return found.pose, found.problem, time.monotonic() - begun


def test_a_frame_waits_for_the_pose_after_it_and_no_longer_than_allowed(node: Node) -> None:
    publisher = node.create_publisher(Odometry, "/odometry", 10)
    motion = OdometryMotion(node, MotionSettings("/odometry", wait_s=WAIT_S))
    assert at(motion, 10)[:2] == (None, "nothing comes on /odometry")
    while not publisher.get_subscription_count():
        time.sleep(0.01)
    while at(motion, 0)[0] is None:
        send(publisher, 0, 1.0)
        time.sleep(0.02)
    late = threading.Timer(0.2, send, (publisher, 20, 2.0))
    late.start()
    pose, problem, waited_s = at(motion, 10)
    assert (pose, problem) == (PlanarPose(1.5, 0.0, 0.0), "")
    assert 0.1 < waited_s < WAIT_S
    late.join()
    pose, problem, waited_s = at(motion, 30)
    assert pose is None
    assert "within ground.motion_wait_s (2 s)" in problem
    assert waited_s >= WAIT_S
    send(publisher, 40, float("nan"))
    while not motion.counts():
        time.sleep(0.01)
    assert motion.counts() == {"pose unusable": 1}
    motion.close()


@pytest.mark.alone
def test_odometry_that_stalls_delays_a_frame_and_does_not_end_the_node(
    bench: Bench, start_node: Callable[..., NodeProcess], brightness_bundle: Path
) -> None:
    """The wait for a pose is longer here than the deadline of a frame."""
    running = start_node(
        bundle=brightness_bundle,
        ground__odometry_topic="/odometry",
        ground__motion_wait_s=3.0,
        inference_deadline_s=1.5,
    )
    publisher = bench.node.create_publisher(Odometry, "/odometry", 10)
    bench.bring_up()
    bench.wait_for_node(publisher)
    frame = image(7)
    before = Odometry(header=Header(stamp=frame.header.stamp))
    before.header.stamp.sec = max(frame.header.stamp.sec - 1, 0)
    before.pose.pose.orientation.w = 1.0
    publisher.publish(before)
    time.sleep(0.3)
    bench.send(image(7))
    bench.wait_for_outputs(1)
    bench.spin_until(lambda: "no pose with a stamp at" in bench.facts.get("motion", ""), "the reason in diagnostics")
    assert "deadline" not in running.log.lower()
