"""The cost of the node beyond its engine: added latency, and its throughput as a share of the engine's.

    python -m benchmark.node [--size 720 1280] [--cameras 1] [--transport raw] [--seconds 20] [--rounds 5]
      [--outputs semantic/mask anomaly/obstacles] [--against CHECKOUT] [--bundle FOLDER] [--json FILE]

The engine alone, the node, and with --against the node of another checkout are processes of their own that run in turn,
`--rounds` times, so that other load on the machine is the same for all. This process is camera and consumer of both
nodes, over Fast DDS with the shipped profile.

- **Added latency**: one frame at a time, from `publish` to the arrival of its last subscribed output, less the engine's
  median. Percentiles over the frames of all rounds.
- **Throughput ratio**: frames a second over the engine's, with two frames of each camera under way. Median of the
  rounds.
- **CPU ratio**: CPU seconds a frame over the engine's, with one frame under way.

--against gives the two nodes' medians as ratios, this checkout over the other: 1.02 is 2 % slower. Exit code 1 when
--max-ratio is given and one of them is above it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ros_ood_perception.files.package_files import package_file
from ros_ood_perception.launching.transport_environment import local_graph_environment
from ros_ood_perception.messages.stamps import NANOSECONDS_PER_SECOND, stamp_ns

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 180.0
LOST_AFTER_S = 2.0
UNDER_WAY = 2
"""Frames of one camera: one in inference and one that waits."""
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class BareEngine:
    """`benchmark.inference.bare_engine`."""

    def __init__(self, options: argparse.Namespace) -> None:
        size = [str(side) for side in options.size]
        command = [
            sys.executable,
            "-m",
            "benchmark.inference.bare_engine",
            "--bundle",
            str(options.bundle),
            "--size",
            *size,
        ]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def wait(self) -> None:
        """Until it is ready."""
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError("the engine alone did not start")

    def run(self, frames: int) -> dict[str, Any]:
        """Milliseconds of each frame, and CPU seconds of all."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(frames, file=self.process.stdin, flush=True)
        return dict(json.loads(self.process.stdout.readline()))


class LiveNode:
    """A node of one checkout, and this process's cameras and consumers of it."""

    def __init__(self, bench: Any, name: str, checkout: Path, options: argparse.Namespace) -> None:
        import rclpy
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

        self._bench, self._spin, self.name = bench, rclpy.spin_once, name
        self.cameras = [f"camera_{number}" for number in range(options.cameras)]
        suffix = "" if options.transport == "raw" else "/compressed"
        arguments = ["-r", f"__node:={name}", "-p", f"bundle:={options.bundle}", "-p", "engine:=onnxruntime"]
        arguments += ["-p", f"cameras:=[{', '.join(self.cameras)}]"]
        arguments += ["-p", f"image_transport:={'compressed' if suffix else 'raw'}"]
        arguments += ["-p", "mounting.height_m:=[1.5]"]
        for camera in self.cameras:
            arguments += ["-r", f"~/{camera}/input/image{suffix}:=/{name}/{camera}/image_raw{suffix}"]
            arguments += ["-r", f"~/{camera}/input/camera_info:=/{name}/{camera}/camera_info"]
        command = [sys.executable, "-m", "ros_ood_perception.node.perception_node", "--ros-args", *arguments]
        self.process = subprocess.Popen(command, cwd=checkout, env={**os.environ, "PYTHONPATH": _paths(checkout)})
        reliable = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
        kind = CompressedImage if suffix else Image
        self._publishers = [
            bench.create_publisher(kind, f"/{name}/{camera}/image_raw{suffix}", reliable) for camera in self.cameras
        ]
        self._info_publishers = [
            bench.create_publisher(CameraInfo, f"/{name}/{camera}/camera_info", reliable) for camera in self.cameras
        ]
        height, width = options.size
        k = [float(width), 0.0, width / 2, 0.0, float(width), height / 2, 0.0, 0.0, 1.0]
        r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
        p = [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0]
        self._info = CameraInfo(height=height, width=width, distortion_model="plumb_bob", d=[0.0] * 5, k=k, r=r, p=p)
        self._missing: dict[int, int] = {}
        self._outputs = len(options.outputs)
        for camera in self.cameras:
            for output in options.outputs:
                of_output = PointCloud2 if output == "anomaly/obstacles" else Image
                bench.create_subscription(of_output, f"/{name}/{camera}/output/{output}", self._on_output, reliable)

    def _on_output(self, message: Any) -> None:
        stamp = stamp_ns(message.header.stamp)
        if stamp in self._missing:
            self._missing[stamp] -= 1
            if not self._missing[stamp]:
                del self._missing[stamp]

    def bring_up(self) -> None:
        """Configure and activate."""
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        client = self._bench.create_client(ChangeState, f"/{self.name}/change_state")
        self._wait(client.service_is_ready, "its lifecycle service")
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            future = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
            self._wait(future.done, f"transition {transition}")
            if not future.result().success:
                raise RuntimeError(f"{self.name}: transition {transition} failed")
        self._wait(lambda: all(p.get_subscription_count() for p in self._publishers), "its subscriptions")

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"{self.name}: {what}: not within {TIMEOUT_S:.0f} s, or the node has ended")
            self._spin(self._bench, timeout_sec=0.05)

    def _send(self, camera: int, message: Any) -> int:
        stamp = time.time_ns()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, NANOSECONDS_PER_SECOND)
        message.header.frame_id = self.cameras[camera]
        self._missing[stamp] = self._outputs
        self._info.header = message.header
        self._info_publishers[camera].publish(self._info)
        self._publishers[camera].publish(message)
        return stamp

    def one_at_a_time(self, messages: list[Any], frames: int) -> dict[str, Any]:
        """Milliseconds from `publish` to the last output of each frame, frames lost, CPU seconds a frame."""
        times_ms, lost, cpu_s = [], 0, self._cpu_s()
        for number in range(frames):
            started = time.perf_counter()
            stamp = self._send(number % len(self.cameras), messages[number % len(messages)])
            while stamp in self._missing and time.perf_counter() - started < LOST_AFTER_S:
                self._spin(self._bench, timeout_sec=0.1)
            if stamp in self._missing:
                del self._missing[stamp]
                lost += 1
            else:
                times_ms.append((time.perf_counter() - started) * 1e3)
        return {"times_ms": times_ms, "lost": lost, "cpu_s_a_frame": (self._cpu_s() - cpu_s) / frames}

    def frames_a_second(self, messages: list[Any], frames: int) -> float:
        """With `UNDER_WAY` frames of each camera under way at any time."""
        started = time.perf_counter()
        sent = done = 0
        waiting: list[dict[int, float]] = [{} for _ in self.cameras]
        while done < frames:
            now = time.perf_counter()
            for camera, stamps in enumerate(waiting):
                for stamp in [s for s, at in stamps.items() if s not in self._missing or now - at > LOST_AFTER_S]:
                    del stamps[stamp]
                    done += stamp not in self._missing
                    self._missing.pop(stamp, None)
                while len(stamps) < UNDER_WAY:
                    stamps[self._send(camera, messages[sent % len(messages)])] = time.perf_counter()
                    sent += 1
            self._spin(self._bench, timeout_sec=0.1)
        rate = done / (time.perf_counter() - started)
        self._wait(lambda: not self._missing or time.perf_counter() - now > LOST_AFTER_S, "the last frames")
        self._missing.clear()
        return rate

    def _cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def _paths(checkout: Path) -> str:
    return os.pathsep.join([str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the benchmark; returns what was measured."""
    os.environ.update(local_graph_environment(os.environ))  # before rclpy starts here and in the children
    import rclpy

    from benchmark.camera_process import messages

    rclpy.init()
    bench = rclpy.create_node("benchmark_node")
    frames = messages(tuple(options.size), None if options.transport == "raw" else options.transport, seed=0)
    engine = BareEngine(options)
    nodes = [LiveNode(bench, "this_node", ROOT, options)]
    if options.against:
        nodes.append(LiveNode(bench, "other_node", options.against.resolve(), options))
    try:
        engine.wait()
        for node in nodes:
            node.bring_up()
        rounds = _run_rounds(engine, nodes, frames, options)
    finally:
        processes: list[subprocess.Popen[Any]] = [engine.process, *(node.process for node in nodes)]
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)
        bench.destroy_node()
        rclpy.shutdown()
    found = rounds.of_nodes
    median_ms, mean_cpu_s = statistics.median(rounds.engine_ms), statistics.fmean(rounds.engine_cpu_s)
    figures = {name: _figures(of_node, median_ms, mean_cpu_s) for name, of_node in found.items()}
    result = {
        "size": list(options.size),
        "cameras": options.cameras,
        "transport": options.transport,
        "outputs": options.outputs,
        "frames": rounds.frames,
        "engine_ms": {f"p{q}": float(np.percentile(rounds.engine_ms, q)) for q in (50, 95, 99)},
        **figures["this_node"],
    }
    if options.against:
        mine, other = found["this_node"], found["other_node"]
        result["other"] = figures["other_node"]
        result["ratio_to_other"] = {
            "latency_p50": _round_ratio(mine, other, lambda r: statistics.median(r["times_ms"])),
            "seconds_a_frame": _round_ratio(mine, other, lambda r: 1 / r["throughput_ratio"]),
            "cpu_s_a_frame": _round_ratio(mine, other, lambda r: r["cpu_s_a_frame"]),
        }
    return result


@dataclass
class Rounds:
    """What was measured in all rounds.

    Attributes:
        frames: number of frames that each node processed one at a time.
        engine_ms: of each frame of the engine alone.
        engine_cpu_s: CPU seconds a frame of the engine alone, by round.
        of_nodes: name of a node to the figures of its rounds.
    """

    frames: int = 0
    engine_ms: list[float] = field(default_factory=list)
    engine_cpu_s: list[float] = field(default_factory=list)
    of_nodes: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def _run_rounds(engine: BareEngine, nodes: list[LiveNode], frames: list[Any], options: argparse.Namespace) -> Rounds:
    found = Rounds(of_nodes={node.name: [] for node in nodes})
    engine.run(20)
    once_ms = max(statistics.median(node.one_at_a_time(frames, 20)["times_ms"]) for node in nodes)
    count = max(10, int(options.seconds / options.rounds * 1e3 / once_ms))
    found.frames = count * options.rounds
    for turn in range(options.rounds):
        result = engine.run(count)
        round_ms = [time_ns / 1e6 for time_ns in result["times_ns"]]
        found.engine_ms += round_ms
        found.engine_cpu_s.append(result["cpu_s"] / count)
        for node in nodes[:: 1 if turn % 2 == 0 else -1]:
            one = node.one_at_a_time(frames, count)
            rate = node.frames_a_second(frames, count)
            found.of_nodes[node.name].append({**one, "throughput_ratio": rate * statistics.fmean(round_ms) / 1e3})
        print(f"round {turn + 1} of {options.rounds}", file=sys.stderr)
    return found


def _figures(rounds: list[dict[str, Any]], engine_ms: float, engine_cpu_s: float) -> dict[str, Any]:
    times_ms = [time_ms for found in rounds for time_ms in found["times_ms"]]
    return {
        "latency_ms": {f"p{q}": float(np.percentile(times_ms, q)) for q in (50, 95, 99)},
        "added_latency_ms": {f"p{q}": float(np.percentile(times_ms, q)) - engine_ms for q in (50, 95, 99)},
        "throughput_ratio": statistics.median(found["throughput_ratio"] for found in rounds),
        "cpu_ratio": statistics.fmean(found["cpu_s_a_frame"] for found in rounds) / engine_cpu_s,
        "lost": sum(found["lost"] for found in rounds),
    }


def _round_ratio(
    mine: list[dict[str, Any]], other: list[dict[str, Any]], figure: Callable[[dict[str, Any]], float]
) -> float:
    """The median of the rounds' ratios: within a round, other load is the same for both."""
    return statistics.median(figure(a) / figure(b) for a, b in zip(mine, other, strict=True))


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(720, 1280), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--cameras", type=int, default=1)
    parser.add_argument("--transport", choices=("raw", "jpeg", "png"), default="raw")
    parser.add_argument(
        "--seconds",
        type=float,
        default=20.0,
        help="of the frames that go through the node one at a time, over all rounds",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--outputs", nargs="+", default=["semantic/mask", "anomaly/obstacles"], help="topics below output/"
    )
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="the node of another checkout, in turn")
    parser.add_argument("--max-ratio", type=float, help="exit code 1 where a ratio to the other is above this")
    parser.add_argument("--bundle", type=Path, default=package_file("models/camvid_small"))
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    if options.cameras < 1 or options.rounds < 1 or options.seconds <= 0:
        parser.error("--cameras, --rounds and --seconds must be positive")
    options.bundle = options.bundle.resolve()
    result = measure(options)
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    ratios = result.get("ratio_to_other", {}).values()
    return 1 if options.max_ratio and any(ratio > options.max_ratio for ratio in ratios) else 0


if __name__ == "__main__":
    sys.exit(main())
