"""The processes of the live graph: node, cameras, consumer, recorder. Ended ones are restarted, as launch does."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.faults.frames import CAMERAS, image_topic, info_topic
from benchmark.faults.processes.faulty_engine import VARIABLE
from benchmark.faults.topics import NODE, OUTPUTS

DIAGNOSTICS_PERIOD_S = 0.2
GRACE_S = 30.0


@dataclass
class Process:
    """One process of the graph.

    Attributes:
        started: number of starts.
        log: of its output, one file each time it is started.
        ended: exit code and time (monotonic, s) of each end.
        restart_at: time of the next start; None while it runs.
    """

    name: str
    arguments: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    with_input: bool = False
    popen: subprocess.Popen[bytes] | None = None
    started: int = 0
    logs: list[Path] = field(default_factory=list)
    ended: list[tuple[int, float]] = field(default_factory=list)
    restart_at: float | None = None

    @property
    def pid(self) -> int:
        """Of the running or last process."""
        assert self.popen is not None
        return self.popen.pid

    @property
    def running(self) -> bool:
        """Whether it runs; a stopped process counts as running."""
        return self.popen is not None and self.popen.poll() is None

    def start(self, folder: Path) -> None:
        """Start it; its output goes to a new file in the folder."""
        self.started += 1
        self.restart_at = None
        log = folder / f"{self.name}_{self.started}.log"
        self.logs.append(log)
        arguments = [argument.replace("{START}", str(self.started)) for argument in self.arguments]
        with log.open("wb") as output:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdin=subprocess.PIPE if self.with_input else subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
            )

    def tell(self, command: str) -> None:
        """Write a line to its standard input; without effect if it has died."""
        assert self.popen is not None
        assert self.popen.stdin is not None
        try:
            self.popen.stdin.write(f"{command}\n".encode())
            self.popen.stdin.flush()
        except BrokenPipeError:
            pass

    def signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.running:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait."""
        if self.popen is not None and self.running:
            self.popen.kill()
            self.popen.wait()

    def limit(self, kind: int, soft: int) -> int:
        """Set a soft resource limit, if it runs; the hard limit stays. Returns the previous soft limit."""
        try:
            before, hard = resource.prlimit(self.pid, kind)
            resource.prlimit(self.pid, kind, (soft, hard))
        except ProcessLookupError:
            return soft
        return before

    def address_space(self) -> int:
        """Mapped memory, bytes; 0 when it has ended."""
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[0]) * resource.getpagesize()
        except (OSError, IndexError):
            return 0

    def peak_mb(self) -> float:
        """Peak resident memory, MB; 0 when it has ended."""
        try:
            text = Path(f"/proc/{self.pid}/status").read_text()
            return int(text.split("VmHWM:")[1].split()[0]) / 1024
        except (OSError, IndexError):
            return 0.0


class Graph:
    """All processes of the campaign.

    Args:
        folder: for logs, what the cameras sent, and recordings.
        bundle: of the node.
        size: height and width of the frames, pixels.
        rate: frames a second of each camera.
        respawn_delay_s: from the end of a process to its next start.
        parameters: of the node besides those of this graph.
    """

    def __init__(
        self,
        folder: Path,
        bundle: Path,
        size: tuple[int, int],
        rate: float,
        respawn_delay_s: float,
        parameters: dict[str, Any],
    ) -> None:
        self.folder = folder
        self.respawn_delay_s = respawn_delay_s
        self.engine_link = folder / "engine_mode"
        os.environ["ROS_LOG_DIR"] = str(folder / "ros_log")
        self.node = Process(
            "node",
            ["benchmark.faults.processes.faulty_engine", "--ros-args", *_node_arguments(bundle, parameters)],
            {VARIABLE: str(self.engine_link)},
        )
        sides = [str(side) for side in size]
        sender = ["benchmark.faults.processes.sender", "--rate", str(rate), "--size", *sides]
        self.cameras = {
            name: Process(
                name,
                [*sender, "--camera", name, "--log", f"{folder}/{name}_{{START}}.sent"],
                with_input=True,
            )
            for name in CAMERAS
        }
        self.consumer = Process(
            "consumer",
            ["benchmark.faults.processes.consumer", "--node", NODE, "--log", f"{folder}/consumer_{{START}}.received"],
        )
        topics = [f"{NODE}/{camera}/{output}:sensor_msgs/msg/Image" for camera in CAMERAS for output in OUTPUTS]
        self.recorder = Process(
            "recorder",
            [
                *("demo.live.output_recorder", f"{folder}/recording_{{START}}", *topics),
                *("--arrivals", f"{folder}/recording_{{START}}.jsonl"),
            ],
        )
        self.strangers = {
            name: Process(
                f"stranger_to_{name}",
                [*sender, "--camera", name, "--log", f"{folder}/stranger_to_{name}_{{START}}.sent"],
                with_input=True,
            )
            for name in CAMERAS
        }

    @property
    def processes(self) -> list[Process]:
        """All processes, the node first."""
        return [self.node, *self.senders, self.consumer, self.recorder]

    @property
    def senders(self) -> list[Process]:
        """The cameras, and other publishers on their topics."""
        return [*self.cameras.values(), *self.strangers.values()]

    def start(self) -> None:
        """All of them."""
        for process in self.processes:
            process.start(self.folder)

    def sent_logs(self, camera: str) -> dict[str, Path]:
        """Logs of the processes that publish on a camera's topics, by name and start."""
        found = {}
        for process in (self.cameras[camera], self.strangers[camera]):
            for number in range(1, process.started + 1):
                found[f"{process.name}_{number}"] = self.folder / f"{process.name}_{number}.sent"
        return found

    def sender_of(self, camera: str) -> str:
        """The name of the running camera in `sent_logs`."""
        return f"{camera}_{self.cameras[camera].started}"

    def tend(self) -> tuple[list[Process], list[Process]]:
        """Restart ended processes after their delay. Returns the ended and the started ones."""
        now = time.monotonic()
        ended, started = [], []
        for process in self.processes:
            if process.popen is None or process.running:
                continue
            if process.restart_at is None:
                process.ended.append((process.popen.returncode, now))
                process.restart_at = now + self.respawn_delay_s
                ended.append(process)
            elif now >= process.restart_at:
                process.start(self.folder)
                started.append(process)
        return ended, started

    def keep_logs(self, target: Path, since: float) -> None:
        """Copy the logs of the processes that ran since a time."""
        target.mkdir(parents=True, exist_ok=True)
        for process in self.processes:
            for number, log in enumerate(process.logs):
                ended_at = process.ended[number][1] if number < len(process.ended) else None
                if ended_at is None or ended_at >= since:
                    shutil.copy(log, target)

    def end(self) -> int:
        """End all processes; returns the node's exit code, -1 if it had to be killed."""
        # Processes that leave Fast DDS at the same time can hang (Fast-DDS issue 6513): only the node ends cleanly.
        for process in self.processes[1:]:
            process.kill()
        if self.node.popen is None:
            return -1
        self.node.signal(signal.SIGCONT)
        self.node.signal(signal.SIGINT)
        try:
            return self.node.popen.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.node.kill()
            return -1


def _node_arguments(bundle: Path, parameters: dict[str, Any]) -> list[str]:
    values = {
        "bundle": bundle,
        "engine": "onnxruntime",
        "num_threads": 1,
        "cameras": f"[{', '.join(CAMERAS)}]",
        "autostart": "true",
        "diagnostics_period_s": DIAGNOSTICS_PERIOD_S,
        # After too many failures the node gives up, and the campaign activates it, as a lifecycle manager does.
        "max_engine_failures": 6,
        "engine_retry_s": 0.05,
        # Far above the usual durations, and short enough for a round that waits for them.
        "inference_deadline_s": 3.0,
        "engine_opening_deadline_s": 20.0,
        # So that obstacles and ground are computed as well.
        "mounting.height_m": "[1.5]",
        "mounting.pitch_deg": "[10.0]",
        "region.drivable_classes": "[road]",
        **parameters,
    }
    arguments = [text for name, value in values.items() for text in ("-p", f"{name}:={value}")]
    for camera in CAMERAS:
        for transport, topic in (("raw", "input/image"), ("compressed", "input/image/compressed")):
            arguments += ["-r", f"~/{camera}/{topic}:={image_topic(camera, transport)}"]
        arguments += ["-r", f"~/{camera}/input/camera_info:={info_topic(camera)}"]
    return arguments
