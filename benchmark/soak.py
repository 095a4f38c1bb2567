"""The node under load for a long time: do memory, threads or descriptors grow, and do the counts stay exact?

    python -m benchmark.soak --minutes 30 [--bundle FOLDER] [--cameras 3] [--rate 10] [--size 480 640]
      [--restart-every 20] [--json FILE]

Cameras, node and consumer are processes of their own over Fast DDS. Every 10 s a live parameter changes, every 20 s one
camera is killed and restarted (`--restart-every 0`: never). Exit code 0 if the node's resident memory grows by less
than 1 MB per 10 minutes, threads and descriptors do not grow, every sum in the diagnostics was exact, and frames were
published to the end. The slope of memory is a least-squares fit after the first quarter, or the first minute if that is
later.

Memory is private memory and mapped files (RssAnon + RssFile). Shared memory of the cameras (RssShmem) varies with the
cameras and is only reported. Its segments are counted, as those of dead cameras must be released.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from ros_ood_perception.files.atomic_files import write_file
from ros_ood_perception.files.package_files import package_file
from ros_ood_perception.launching.transport_environment import local_graph_environment
from ros_ood_perception.number_arguments import real, whole
from ros_ood_perception.parent_process import ends_with_this_process
from ros_ood_perception.pipeline.fates import SENT_FATES

NODE = "/perception_node"
SEGMENT = "/dev/shm/fast"
SWINGS = {"threads": 1, "descriptors": 1, "segments": 2}
"""Variation of each by one camera more or less. In 30 minutes, a leak at each start of a camera grows by 30."""
START_TIMEOUT_S = 180.0
SETTLED_AFTER = 0.25
SETTLED_AFTER_S = 60.0
MAX_MB_PER_10_MINUTES = 1.0


class Load:
    """The node and its cameras."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.names = [f"camera_{number}" for number in range(options.cameras)]
        arguments = ["-p", f"bundle:={options.bundle}", "-p", f"cameras:=[{', '.join(self.names)}]"]
        for name in self.names:
            arguments += ["-r", f"~/{name}/input/image:=/{name}/image_raw"]
        command = [sys.executable, "-m", "ros_ood_perception.node.perception_node", "--ros-args", *arguments]
        self.node = subprocess.Popen(ends_with_this_process(command))
        self.cameras = {name: self._camera(name) for name in self.names}

    def _camera(self, name: str) -> subprocess.Popen[bytes]:
        size = [str(side) for side in self.options.size]
        command = [sys.executable, "-m", "benchmark.camera_process", "--topic", f"/{name}/image_raw"]
        command += ["--rate", str(self.options.rate), "--size", *size]
        return subprocess.Popen(ends_with_this_process(command), stdout=subprocess.DEVNULL)

    def restart_a_camera(self, turn: int) -> None:
        """Kill a camera, as if its driver crashed, and start it again."""
        name = self.names[turn % len(self.names)]
        self.cameras[name].kill()
        self.cameras[name].wait()
        self.cameras[name] = self._camera(name)

    def resources(self) -> dict[str, float]:
        """Resources of the node: MB of its own and of shared memory, threads, descriptors, shared-memory segments."""
        process = Path(f"/proc/{self.node.pid}")
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        own, files, shared = (int(status[f"Rss{kind}"].split()[0]) / 1024 for kind in ("Anon", "File", "Shmem"))
        maps = (process / "maps").read_text().splitlines()
        return {
            "resident_mb": own + files,
            "shared_mb": shared,
            "threads": int(status["Threads"]),
            "descriptors": len(os.listdir(process / "fd")),
            "segments": len({line.split()[5] for line in maps if SEGMENT in line}),
        }

    def end(self) -> int:
        """End all processes; returns the node's exit code."""
        for camera in self.cameras.values():
            camera.terminate()
        self.node.send_signal(signal.SIGINT)
        try:
            return self.node.wait(30)
        except subprocess.TimeoutExpired:
            self.node.kill()
            self.node.wait()
            return -1
        finally:
            for camera in self.cameras.values():
                try:
                    camera.wait(10)
                except subprocess.TimeoutExpired:
                    camera.kill()
                    camera.wait()


class Bench:
    """The ROS node beside the node under load: drives its lifecycle, listens to its outputs and diagnostics.

    Attributes:
        facts: status name to the keys and values of its last diagnostics.
        inexact: diagnostics whose counts do not add up.
        masks: number of images received.
    """

    def __init__(self, names: list[str]) -> None:
        # Imported here: the environment must be set before rclpy is loaded.
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from lifecycle_msgs.srv import ChangeState
        from rcl_interfaces.srv import SetParameters
        from rclpy.node import Node
        from sensor_msgs.msg import Image

        rclpy.init()
        self._rclpy = rclpy
        self._node = Node("soak")
        self.facts: dict[str, dict[str, str]] = {}
        self.inexact: list[dict[str, str]] = []
        self.masks = 0
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        for name in names:
            for topic in ("output/semantic/mask", "output/anomaly/score", "debug/overlay"):
                self._node.create_subscription(Image, f"{NODE}/{name}/{topic}", self._on_mask, 2)
        self._change_state = self._node.create_client(ChangeState, f"{NODE}/change_state")
        self._set_parameters = self._node.create_client(SetParameters, f"{NODE}/set_parameters")

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            found = {pair.key: pair.value for pair in status.values}
            if "sent" not in found:
                continue
            self.facts[status.name] = found
            if int(found["sent"]) != sum(int(found[fate]) for fate in (*SENT_FATES, "in_progress")):
                self.inexact.append(found)

    def _on_mask(self, _message: Any) -> None:
        self.masks += 1

    def bring_up(self) -> None:
        """Configure and activate the node."""
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        if not self._change_state.wait_for_service(START_TIMEOUT_S):
            raise RuntimeError(f"the node did not start within {START_TIMEOUT_S:.0f} s")
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            future = self._change_state.call_async(ChangeState.Request(transition=Transition(id=transition)))
            self._rclpy.spin_until_future_complete(self._node, future, timeout_sec=START_TIMEOUT_S)
            if not future.done() or not future.result().success:
                raise RuntimeError(f"transition {transition} failed")

    def set_threshold(self, value: float) -> None:
        """Change a live parameter, without waiting for the answer."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        parameter = Parameter("anomaly_threshold", value=value).to_parameter_msg()
        self._set_parameters.call_async(SetParameters.Request(parameters=[parameter]))

    def spin_once(self) -> None:
        """Take what has arrived, for a tenth of a second."""
        self._rclpy.spin_once(self._node, timeout_sec=0.1)

    def total(self, count: str) -> int:
        """A count of the diagnostics, summed over the cameras."""
        return sum(int(found[count]) for found in self.facts.values())

    def close(self) -> None:
        """Leave the graph."""
        self._node.destroy_node()
        self._rclpy.shutdown()


def soak(options: argparse.Namespace) -> dict[str, Any]:
    """Run the node under load; returns what was measured."""
    os.environ.update(local_graph_environment(os.environ))  # before rclpy starts here and in the children
    load = Load(options)
    bench = Bench(load.names)
    try:
        bench.bring_up()
        samples, restarts = _run_load(load, bench, options)
        published_before = bench.total("published")
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            bench.spin_once()
    finally:
        exit_code = load.end()
        bench.close()
    return {
        "minutes": options.minutes,
        **judged(samples),
        "camera_restarts": restarts,
        "inexact_sums": len(bench.inexact),
        "sent": bench.total("sent"),
        "published": bench.total("published"),
        "published_in_the_last_5_s": bench.total("published") - published_before,
        "masks_received": bench.masks,
        "exit_code": exit_code,
    }


def _run_load(load: Load, bench: Bench, options: argparse.Namespace) -> tuple[list[dict[str, float]], int]:
    """Samples of the node's resources, one a second, and the number of cameras that were restarted."""
    samples: list[dict[str, float]] = []
    restarts = 0
    started = time.monotonic()
    restart_s = options.restart_every or math.inf
    next_sample, next_parameter, next_restart, turn = started, started + 10, started + restart_s, 0
    while (now := time.monotonic()) - started < options.minutes * 60 and load.node.poll() is None:
        bench.spin_once()
        if now >= next_sample:
            next_sample += 1.0
            samples.append({"s": now - started, **load.resources()})
        if now >= next_parameter:
            next_parameter += 10
            turn += 1
            bench.set_threshold(0.3 + 0.4 * (turn % 2))
        if now >= next_restart:
            next_restart += restart_s
            restarts += 1
            load.restart_a_camera(restarts)
    return samples, restarts


def judged(samples: list[dict[str, float]]) -> dict[str, Any]:
    """Slope and growth over the samples after the first minute or quarter."""
    duration_s = samples[-1]["s"]
    settled_s = max(duration_s * SETTLED_AFTER, min(SETTLED_AFTER_S, duration_s / 2))
    kept = [sample for sample in samples if sample["s"] >= settled_s]
    seconds = np.array([sample["s"] for sample in kept])
    half = len(kept) // 2

    def slope(name: str) -> float:
        return float(np.polyfit(seconds, [sample[name] for sample in kept], 1)[0] * 600)

    def growth(name: str) -> float:
        # Medians: restarted cameras make all of them vary.
        first, second = (np.median([sample[name] for sample in part]) for part in (kept[:half], kept[half:]))
        return float(second - first)

    return {
        "samples": len(samples),
        "settled_after_s": settled_s,
        "resident_mb_every_half_minute": [round(sample["resident_mb"], 1) for sample in samples[::30]],
        "shared_mb_every_half_minute": [round(sample["shared_mb"], 1) for sample in samples[::30]],
        "resident_mb_per_10_minutes": slope("resident_mb"),
        "shared_mb_per_10_minutes": slope("shared_mb"),
        **{f"{name}_growth": growth(name) for name in ("threads", "descriptors", "segments")},
    }


def problems(result: dict[str, Any], max_mb_per_10_minutes: float) -> list[str]:
    """What a user must not accept; empty where there is nothing."""
    found = []
    if result["resident_mb_per_10_minutes"] >= max_mb_per_10_minutes:
        found.append(f"memory grows by {result['resident_mb_per_10_minutes']:.2f} MB per 10 minutes")
    for name, swing in SWINGS.items():
        if result[f"{name}_growth"] > swing:
            found.append(f"{name} grow, by {result[f'{name}_growth']:g} from the first half to the second")
    for name in ("inexact_sums", "exit_code"):
        if result[name]:
            found.append(f"{name} is {result[name]}")
    if not result["published_in_the_last_5_s"]:
        found.append("nothing was published at the end")
    return found


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    above_zero = real(0.0, 1e6, above=True)
    parser.add_argument("--minutes", type=above_zero, default=30.0)
    parser.add_argument("--bundle", type=Path, default=package_file("models/camvid_small"))
    parser.add_argument("--cameras", type=whole(1, 10**6), default=3)
    parser.add_argument("--rate", type=above_zero, default=10.0)
    parser.add_argument("--size", type=whole(1, 10**6), nargs=2, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument(
        "--restart-every",
        type=above_zero,
        default=20.0,
        metavar="S",
        help="kill a camera every S seconds",
    )
    parser.add_argument("--max-growth", type=real(0.0, 1e6), default=MAX_MB_PER_10_MINUTES, help="MB per 10 minutes")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    if options.restart_every < 0:
        parser.error(f"--restart-every is {options.restart_every}; it must be positive, or 0 for never")
    result = soak(options)
    result["problems"] = problems(result, options.max_growth)
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        write_file(options.json, text + "\n")
    return 1 if result["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
