"""Seconds from the start of the node to its first mask, and where they go. The goal is 3.0 on two idle cores.

    python -m benchmark.start_up [--rounds 3] [--size 720 1280] [--bundle FOLDER] [--json FILE]
    python -m benchmark.start_up --launch          # ros2 launch of the installed package, with its own start

This process is the camera, at 10 frames a second, and waits for the first `semantic/mask`. The stages are seconds on
the wall clock; the CPU seconds beside the total are those of the node's process. Other load changes them less.

- **interpreter**: from the start of the process to Python's first line. With --launch, `ros2 launch` is in it.
- **imports**: until all modules of the node are loaded
- **node**: ROS 2 is initialised, the parameters are declared, the timers run
- **configure**: the bundle is verified, the engine opened and run twice, the publishers made
- **activate**: subscriptions
- **first mask**: a frame arrives, is inferred, and its mask arrives here

Exit code 1: the median is above the goal.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ros_ood_perception.files.package_files import package_file
from ros_ood_perception.launching.transport_environment import local_graph_environment
from ros_ood_perception.number_arguments import whole

GOAL_S = 3.0
TIMEOUT_S = 300.0
PERIOD_S = 0.1
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
ROOT = Path(__file__).resolve().parents[1]
CHILD = """
import sys, time
print("interpreter", time.time(), flush=True)
from ros_ood_perception.node.perception_node import main
print("imports", time.time(), flush=True)
sys.exit(main())
"""
"""The node, with the times of its first two stages on standard output."""
LOGGED = {"configure": "configured: ", "activate": "active: "}
"""Stage to the beginning of the log line at its end."""
STAGES = ("interpreter", "imports", "node", "configure", "activate", "first mask")
NAMESPACE = f"/start_up_{os.getpid()}"
"""Of the node and the camera, so that no other node of this machine is taken for it."""
REMAPPED = ("-r", f"__ns:={NAMESPACE}", "-r", f"~/input/image:={NAMESPACE}/image_raw")
LOG_LINE = re.compile(r"\[(\d+\.\d+)\][^:]*: (.*)")


def node_command(options: argparse.Namespace) -> list[str]:
    """The node by itself, or by `ros2 launch`."""
    if options.launch:
        ros2 = shutil.which("ros2")
        if ros2 is None:
            sys.exit("start_up: --launch needs the command ros2; source a distribution of ROS 2 and the workspace")
        given = [f"bundle:={options.bundle}", f"input_image:={NAMESPACE}/image_raw", f"namespace:={NAMESPACE}"]
        given += ["engine:=onnxruntime", "respawn:=false"]
        return [ros2, "launch", "ros_ood_perception", "perception.launch.py", *given]
    arguments = ["-p", f"bundle:={options.bundle}", "-p", "engine:=onnxruntime", "-p", "autostart:=true"]
    return [sys.executable, "-c", CHILD, "--ros-args", *arguments, *REMAPPED]


class Camera:
    """Publishes frames, and waits for the first mask."""

    def __init__(self, size: tuple[int, int]) -> None:
        import rclpy
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import Image

        from benchmark.camera_process import messages

        rclpy.init()
        self._rclpy, self._node = rclpy, rclpy.create_node("benchmark_start_up")
        reliable = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
        self._publisher = self._node.create_publisher(Image, f"{NAMESPACE}/image_raw", reliable)
        self._frame = messages(size, None, 0)[0]
        self._mask_at: float | None = None
        self._node.create_subscription(
            Image, f"{NAMESPACE}/perception_node/output/semantic/mask", self._on_mask, reliable
        )
        self._node.create_timer(PERIOD_S, self._send)

    def _send(self) -> None:
        self._frame.header.stamp = self._node.get_clock().now().to_msg()
        self._frame.header.frame_id = "camera"
        self._publisher.publish(self._frame)

    def _on_mask(self, _: Any) -> None:
        if self._mask_at is None:
            self._mask_at = time.time()

    def first_mask(self, process: subprocess.Popen[bytes]) -> float:
        """When the first mask of a node arrives (seconds since 1970)."""
        self._mask_at, until = None, time.monotonic() + TIMEOUT_S
        while self._mask_at is None:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"no mask within {TIMEOUT_S:.0f} s, or the node has ended")
            self._rclpy.spin_once(self._node, timeout_sec=0.05)
        return self._mask_at

    def wait_until_alone(self) -> None:
        """Until the node of the round before has left the graph."""
        while self._publisher.get_subscription_count():
            self._rclpy.spin_once(self._node, timeout_sec=0.05)

    def close(self) -> None:
        """Leave the graph."""
        self._node.destroy_node()
        self._rclpy.shutdown()


def one_start(camera: Camera, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of each stage that is known, of all of them (`total`), and CPU seconds of the node (`cpu`)."""
    camera.wait_until_alone()
    with tempfile.TemporaryFile() as output:
        started = time.time()
        process = subprocess.Popen(
            node_command(options), cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            mask_at = camera.first_mask(process)
            cpu = _cpu_s(process.pid)
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)
        output.seek(0)
        lines = output.read().decode(errors="replace").splitlines()
    return {**_stages(lines, started, mask_at), "total": mask_at - started, "cpu": cpu}


def _stages(lines: list[str], started: float, mask_at: float) -> dict[str, float]:
    ends: dict[str, float] = {"first mask": mask_at}
    for line in lines:
        word, _, rest = line.partition(" ")
        if word in STAGES[:2]:
            ends[word] = float(rest)
        found = LOG_LINE.search(line)
        for stage in ("configure", "activate"):
            if found is not None and found[2].startswith(LOGGED[stage]):
                ends.setdefault(stage, float(found[1]))
        opened = None if found is None else re.search(r"opened and run twice in (\d+) ms", found[2])
        if opened is not None and found is not None:
            # The publishers are made after that; they take little.
            ends["node"] = float(found[1]) - int(opened[1]) / 1e3
    known = [stage for stage in STAGES if stage in ends]
    begins = [started, *(ends[stage] for stage in known[:-1])]
    return {stage: ends[stage] - begin for stage, begin in zip(known, begins, strict=True)}


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=whole(1, 1000), default=3)
    parser.add_argument("--size", type=whole(8, 10**5), nargs=2, default=(720, 1280), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--bundle", type=Path, default=package_file("models/camvid_small"))
    parser.add_argument("--launch", action="store_true", help="start it by ros2 launch")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    options.bundle = options.bundle.resolve()
    os.environ.update(local_graph_environment(os.environ))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    camera = Camera(tuple(options.size))
    try:
        starts = [one_start(camera, options) for _ in range(options.rounds)]
    finally:
        camera.close()
    medians = {
        stage: statistics.median(start[stage] for start in starts)
        for stage in (*STAGES, "total", "cpu")
        if all(stage in start for start in starts)
    }
    for stage, seconds in medians.items():
        goal = f"   goal: at most {GOAL_S:g}" if stage == "total" else ""
        print(f"{'CPU time of the process' if stage == 'cpu' else stage:<24} {seconds:>7.2f} s{goal}")
    if options.json:
        options.json.write_text(json.dumps({"starts": starts, "medians": medians}, indent=2) + "\n", encoding="utf-8")
    return 1 if medians["total"] > GOAL_S else 0


if __name__ == "__main__":
    sys.exit(main())
