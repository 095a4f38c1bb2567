"""The processes that are compared: the engine alone, the node, a plain node; and the cameras and consumers of both."""

from __future__ import annotations

import argparse
import json
import os
import re
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ros_ood_perception.messages.results import IMAGE, TYPES
from ros_ood_perception.messages.stamps import NANOSECONDS_PER_SECOND
from ros_ood_perception.messages.topics import OUTPUT_TOPICS

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 180.0
LOST_AFTER_S = 5.0
UNDER_WAY = 2
"""Frames of one camera: one in inference and one that waits."""
STAMP, STAMP_OFFSET = "<iI", 4
"""Of the header, with which all these messages begin, behind the four bytes that name the encoding (CDR)."""
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
STAGES = ("wait", "conversion", "inference", "publish", "receive_to_publish", "age")
"""Of the node's own diagnostics."""
NAMES = {
    topic.removeprefix("output/"): name
    for name, topic in OUTPUT_TOPICS.items()
    if name != "label_info" and (find_spec("vision_msgs") or not TYPES.get(name, IMAGE).startswith("vision_msgs/"))
}
"""Topic below `output/` to the name of the output, without those whose messages are not installed here."""


@dataclass(frozen=True)
class Saturated:
    """A node with frames waiting at any time.

    Attributes:
        frames_a_second: rate.
        node_cpu_s, bench_cpu_s: CPU seconds a frame, of the node, and of this process as its camera and consumer.
    """

    frames_a_second: float
    node_cpu_s: float
    bench_cpu_s: float


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
            "--threads",
            str(options.threads),
            *([] if options.frames is None else ["--frames", str(options.frames)]),
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
    """A node, and this process's cameras and consumers of it.

    Cameras send bytes, and consumers look at the stamp in the bytes only. Turning them into Python's messages and back
    would cost more than a camera driver in C++ does.

    Args:
        executor: of `bench`.
        checkout: whose node it is; None: the plain node.
    """

    def __init__(
        self, bench: Any, executor: Any, name: str, checkout: Path | None, options: argparse.Namespace
    ) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import CameraInfo, CompressedImage, Image

        self._bench, self._executor, self.name, self.is_plain = bench, executor, name, checkout is None
        self.cameras = [f"camera_{number}" for number in range(options.cameras)]
        suffix = "" if options.transport == "raw" else "/compressed"
        command = self._plain_command(options) if checkout is None else self._node_command(options, suffix)
        folder = checkout or ROOT
        self.process = subprocess.Popen(command, cwd=folder, env={**os.environ, "PYTHONPATH": _paths(folder)})
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
        self._sent: dict[tuple[int, int], bytearray] = {}
        self._missing: dict[int, int] = {}
        self._outputs = len(options.outputs)
        self._reported: dict[str, float] = {}
        for camera in self.cameras:
            for output in options.outputs:
                topic = f"/{name}/{camera}/{_topic(output)}"
                bench.create_subscription(_message_class(output), topic, self._on_output, reliable, raw=True)
        bench.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, reliable)

    def _node_command(self, options: argparse.Namespace, suffix: str) -> list[str]:
        arguments = ["-r", f"__node:={self.name}", "-p", f"bundle:={options.bundle}", "-p", "engine:=onnxruntime"]
        arguments += ["-p", f"cameras:=[{', '.join(self.cameras)}]"]
        arguments += ["-p", f"image_transport:={'compressed' if suffix else 'raw'}"]
        arguments += ["-p", "mounting.height_m:=[1.5]", "-p", f"num_threads:={options.threads}"]
        arguments += ["-p", f"outputs:=[{', '.join(NAMES[output] for output in options.outputs)}]"]
        for camera in self.cameras:
            arguments += ["-r", f"~/{camera}/input/image{suffix}:=/{self.name}/{camera}/image_raw{suffix}"]
            arguments += ["-r", f"~/{camera}/input/camera_info:=/{self.name}/{camera}/camera_info"]
        return [sys.executable, "-m", "ros_ood_perception.node.perception_node", "--ros-args", *arguments]

    def _plain_command(self, options: argparse.Namespace) -> list[str]:
        command = [sys.executable, "-m", "benchmark.node.plain_node", "--name", self.name]
        command += ["--bundle", str(options.bundle), "--transport", options.transport]
        command += ["--threads", str(options.threads)]
        return [*command, "--cameras", *self.cameras, "--outputs", *options.outputs]

    def _on_output(self, message: bytes) -> None:
        seconds, nanoseconds = struct.unpack_from(STAMP, message, STAMP_OFFSET)
        stamp = seconds * NANOSECONDS_PER_SECOND + nanoseconds
        if stamp in self._missing:
            self._missing[stamp] -= 1
            if not self._missing[stamp]:
                del self._missing[stamp]

    def listen(self, seconds: float) -> None:
        """Take messages for a while."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._executor.spin_once(timeout_sec=0.1)

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            if self.name in status.name or self.name in status.hardware_id:
                for pair in status.values:
                    if re.fullmatch(r"[a-z_]+_ms_p[0-9]+", pair.key):
                        self._reported[pair.key] = float(pair.value)

    def stages_ms(self) -> dict[str, dict[str, float]]:
        """Percentiles of the node's own stages over its last frames, milliseconds; none of a plain node."""
        found: dict[str, dict[str, float]] = {}
        for stage in STAGES:
            values = {f"p{q}": self._reported.get(f"{stage}_ms_p{q}") for q in (50, 95, 99)}
            if None not in values.values():
                found[stage] = {key: value for key, value in values.items() if value is not None}
        return found

    def memory_mb(self) -> dict[str, float]:
        """Resident memory of the process, now and at its peak."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        fields = {"resident": "VmRSS", "peak": "VmHWM"}
        return {name: int(re.findall(rf"{key}:\s+(\d+) kB", status)[0]) / 1024 for name, key in fields.items()}

    def bring_up(self) -> None:
        """Configure and activate."""
        if not self.is_plain:
            self._configure_and_activate()
        self._wait(lambda: all(p.get_subscription_count() for p in self._publishers), "its subscriptions")

    def _configure_and_activate(self) -> None:
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        client = self._bench.create_client(ChangeState, f"/{self.name}/change_state")
        self._wait(client.service_is_ready, "its lifecycle service")
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            future = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
            self._wait(future.done, f"transition {transition}")
            if not future.result().success:
                raise RuntimeError(f"{self.name}: transition {transition} failed")

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"{self.name}: {what}: not within {TIMEOUT_S:.0f} s, or the node has ended")
            self._executor.spin_once(timeout_sec=0.05)

    def _send(self, camera: int, message: Any) -> int:
        from rclpy.serialization import serialize_message

        header, key = self._info.header, (camera, id(message))
        header.frame_id = self.cameras[camera]
        if key not in self._sent:
            message.header = header
            self._sent[key] = bytearray(serialize_message(message))
        stamp = time.time_ns()
        header.stamp.sec, header.stamp.nanosec = divmod(stamp, NANOSECONDS_PER_SECOND)
        struct.pack_into(STAMP, self._sent[key], STAMP_OFFSET, header.stamp.sec, header.stamp.nanosec)
        self._missing[stamp] = self._outputs
        self._info_publishers[camera].publish(self._info)
        self._publishers[camera].publish(bytes(self._sent[key]))
        return stamp

    def one_at_a_time(self, messages: list[Any], frames: int) -> dict[str, Any]:
        """Milliseconds from `publish` to the last output of each frame, frames lost, CPU seconds a frame."""
        times_ms, lost, cpu_s = [], 0, self._cpu_s()
        for number in range(frames):
            started = time.perf_counter()
            stamp = self._send(number % len(self.cameras), messages[number % len(messages)])
            while stamp in self._missing and time.perf_counter() - started < LOST_AFTER_S:
                self._executor.spin_once(timeout_sec=0.1)
            if stamp in self._missing:
                del self._missing[stamp]
                lost += 1
            else:
                times_ms.append((time.perf_counter() - started) * 1e3)
        return {"times_ms": times_ms, "lost": lost, "cpu_s_a_frame": (self._cpu_s() - cpu_s) / frames}

    def saturated(self, messages: list[Any], frames: int) -> Saturated:
        """With `UNDER_WAY` frames of each camera under way at any time."""
        started, node_cpu_s, bench_cpu_s = time.perf_counter(), self._cpu_s(), time.process_time()
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
            self._executor.spin_once(timeout_sec=0.1)
        rate = done / (time.perf_counter() - started)
        found = Saturated(rate, (self._cpu_s() - node_cpu_s) / done, (time.process_time() - bench_cpu_s) / done)
        self._wait(lambda: not self._missing or time.perf_counter() - now > LOST_AFTER_S, "the last frames")
        self._missing.clear()
        return found

    def _cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def _paths(checkout: Path) -> str:
    return os.pathsep.join([str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])])


def _topic(output: str) -> str:
    """`semantic/mask` -> `output/semantic/mask`, and `debug/overlay` as it is."""
    return OUTPUT_TOPICS[NAMES[output]]


def _message_class(output: str) -> Any:
    from ros_ood_perception.node.middleware.message_classes import message_class

    return message_class(TYPES.get(NAMES[output], IMAGE))
