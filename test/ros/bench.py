"""A real node in a process of its own, and a bench in this process that talks to it over DDS."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from image_messages import to_message
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from numpy.typing import NDArray
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from ros_ood_perception.launching.transport_environment import profile_variables
from ros_ood_perception.pipeline.fates import SENT_FATES

ROOT = Path(__file__).resolve().parents[2]
INPUT_TOPIC = "/camera/image_raw"
RELIABLE = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
OUTPUTS = {
    "semantic": "/perception_node/output/semantic/mask",
    "mask": "/perception_node/output/anomaly/mask",
    "score": "/perception_node/output/anomaly/score",
}
OVERLAY = "/perception_node/debug/overlay"
TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
}

INACTIVE, UNCONFIGURED, ACTIVE = (
    State.PRIMARY_STATE_INACTIVE,
    State.PRIMARY_STATE_UNCONFIGURED,
    State.PRIMARY_STATE_ACTIVE,
)

PATIENCE_S = 180.0
"""A wait this long has failed. It costs nothing where the machine is idle, and a busy one needs it: a node has taken a
minute to start beside ten other processes on two cores."""

# Before rclpy starts, here and in every child. No worker's domain is one that demo and benchmarks choose (1 to 90).
# A worker replaces what it has from the process that started it, or both would be on one graph.
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
if WORKER:
    os.environ["ROS_DOMAIN_ID"] = str(91 + 2 * (os.getppid() % 5) + int(WORKER.removeprefix("gw")) % 2)
else:
    os.environ.setdefault("ROS_DOMAIN_ID", str(91 + os.getpid() % 10))
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault(profile_variables(os.environ)[0], str(ROOT / "config" / "fastdds_large_images.xml"))


def end(processes: Sequence[subprocess.Popen[Any]], number: int = signal.SIGTERM, grace_s: float = 30.0) -> None:
    """Ends what still runs of them, in an orderly way if it can be had: a killed process leaves its shared memory."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)
    deadline = time.monotonic() + grace_s
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


class NodeProcess:
    """`perception_node` as a user starts it."""

    def __init__(
        self, log: Path, parameters: dict[str, Any], command: list[str] | None = None, cameras: tuple[str, ...] = ()
    ) -> None:
        self.log_path = log
        # A node with named cameras has no topic ~/input/image, and refuses a rule for it.
        arguments = ["--ros-args", *([] if cameras else ["-r", f"~/input/image:={INPUT_TOPIC}"])]
        for camera in cameras:
            arguments += ["-r", f"~/{camera}/input/image:=/{camera}/image_raw"]
        if cameras:
            arguments += ["-p", f"cameras:=[{', '.join(cameras)}]"]
        for name, value in parameters.items():
            arguments += ["-p", f"{name}:={value}"]
        command = command or [sys.executable, "-m", "ros_ood_perception.node.perception_node"]
        # A script of a test has its own folder on the path, not the checkout.
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, *arguments], stdout=output, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": path}
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def resources(self) -> dict[str, int]:
        """Threads, open descriptors and resident memory in KiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return {
            "threads": int(re.findall(r"Threads:\s+(\d+)", status)[0]),
            "descriptors": len(os.listdir(f"/proc/{self.process.pid}/fd")),
            "resident_kib": int(re.findall(r"VmRSS:\s+(\d+)", status)[0]),
        }


class Bench:
    """Camera, consumer and lifecycle manager in one."""

    def __init__(self) -> None:
        self.node = Node("bench")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.camera = self.node.create_publisher(Image, INPUT_TOPIC, RELIABLE)
        self.change_state = self.node.create_client(ChangeState, "/perception_node/change_state")
        self.set_parameters = self.node.create_client(SetParameters, "/perception_node/set_parameters")
        # After the others: see wait_for_answers.
        self.get_state = self.node.create_client(GetState, "/perception_node/get_state")
        self.received: dict[str, list[Image]] = {name: [] for name in OUTPUTS}
        for name, topic in OUTPUTS.items():
            self.node.create_subscription(Image, topic, self.received[name].append, RELIABLE)
        self.facts: dict[str, str] = {}
        self.status: dict[str, DiagnosticStatus] = {}
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.facts = {pair.key: pair.value for pair in status.values}
            self.status[status.name.removeprefix("perception_node: ")] = status

    def facts_of(self, camera: str) -> dict[str, str]:
        """The last diagnostics of one of several cameras."""
        return {pair.key: pair.value for pair in self.status[camera].values} if camera in self.status else {}

    def spin_until(self, condition: Callable[[], object], what: str, timeout_s: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s; diagnostics {self.facts}"
            self.executor.spin_once(timeout_sec=0.05)

    def spin_for(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.executor.spin_once(timeout_sec=0.02)

    def call(self, client: Any, request: Any) -> Any:
        self.wait_for_answers()
        self.spin_until(client.service_is_ready, f"service {client.srv_name}")
        future = client.call_async(request)
        self.spin_until(future.done, f"answer of {client.srv_name}")
        return future.result()

    def wait_for_answers(self, client: Any = None) -> None:
        """Asks for the state until the answer comes.

        A node that has just started may drop an answer, because it has not yet discovered who asked; and after SIGKILL
        the middleware takes the old node for alive for a while, and what is asked may go to it. The endpoints of a
        participant are discovered in order: a node that answers here knows the clients that were created before.
        """
        client = client or self.get_state
        answers: list[Any] = []
        next_s = 0.0

        def answered() -> bool:
            nonlocal next_s
            if time.monotonic() >= next_s and client.service_is_ready():
                answers.append(client.call_async(GetState.Request()))
                next_s = time.monotonic() + 1.0
            return any(answer.done() for answer in answers)

        self.spin_until(answered, "a node that answers")

    def wait_for_node(self, *publishers: Any) -> None:
        """Waits until the node hears these publishers: a match that only this side knows of loses the first message."""
        for publisher in publishers:
            self.spin_until(publisher.get_subscription_count, f"the node's subscription to {publisher.topic_name}")
        client = self.node.create_client(GetState, self.get_state.srv_name)
        self.wait_for_answers(client)
        self.node.destroy_client(client)

    def set_atomically(self, **values: Any) -> tuple[bool, str]:
        """All of these parameters or none."""
        client = self.node.create_client(SetParametersAtomically, "/perception_node/set_parameters_atomically")
        parameters = [
            Parameter(name.replace("__", "."), value=value).to_parameter_msg() for name, value in values.items()
        ]
        result = self.call(client, SetParametersAtomically.Request(parameters=parameters)).result
        self.node.destroy_client(client)
        return bool(result.successful), str(result.reason)

    def transition(self, name: str) -> bool:
        request = ChangeState.Request(transition=Transition(id=TRANSITIONS[name]))
        return bool(self.call(self.change_state, request).success)

    def state(self) -> int:
        return int(self.call(self.get_state, GetState.Request()).current_state.id)

    def set(self, **values: Any) -> list[tuple[bool, str]]:
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        results = self.call(self.set_parameters, SetParameters.Request(parameters=parameters)).results
        return [(r.successful, r.reason) for r in results]

    def bring_up(self) -> None:
        """Configure, activate, and wait until both sides know of each other."""
        assert self.transition("configure")
        assert self.transition("activate")
        self.wait_for_discovery()

    def wait_for_discovery(self) -> None:
        self.spin_until(self.camera.get_subscription_count, "the node's subscription")
        self.facts = {}
        self.spin_until(
            lambda: all(int(self.facts.get(f"subscribers of {topic}", "0")) for topic in OUTPUTS.values()),
            "the node's knowledge of its subscribers",
        )
        self.spin_for(0.5)

    def wait_for_outputs(self, frames: int) -> None:
        """Wait until each output has come for that many frames."""
        self.spin_until(
            lambda: all(len(messages) >= frames for messages in self.received.values()),
            f"the outputs of {frames} frames",
        )

    def send(self, message: Image) -> None:
        self.camera.publish(message)

    def accounting(self, camera: str | None = None) -> dict[str, int]:
        names = (*SENT_FATES, "in_progress")
        facts = self.facts if camera is None else self.facts_of(camera)
        counts = {name: int(facts[name]) for name in ("sent", *names)}
        assert counts["sent"] == sum(counts[name] for name in names)
        return counts

    def settle(self, sent: int) -> dict[str, int]:
        """Wait until the node accounts for that many frames and is at rest; the counts."""
        self.spin_until(
            lambda: self.facts.get("sent") == str(sent) and self.facts.get("in_progress") == "0",
            f"an account of {sent} frames",
        )
        return self.accounting()

    def close(self) -> None:
        # Who leaves Fast DDS while others do can hang (Fast-DDS issue 6513). A killed process is not forgotten so soon.
        deadline = time.monotonic() + 2.0
        while len(self.node.get_node_names()) > 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.02)
        self.executor.shutdown()
        self.node.destroy_node()


class CameraProcess:
    """`benchmark.camera_process`; `stop` gives back how many frames it sent."""

    def __init__(self, topic: str, rate: float, *options: str) -> None:
        command = [sys.executable, "-m", "benchmark.camera_process", "--topic", topic, "--rate", str(rate), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)

    def wait_until_ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def stop(self) -> int:
        self.process.terminate()
        output, _ = self.process.communicate(timeout=PATIENCE_S)
        return int(output.split("sent")[1])

    def kill(self) -> None:
        """SIGKILL, as a driver that crashes."""
        self.process.kill()
        self.process.wait()


def image(number: int = 0, size: tuple[int, int] = (120, 160), encoding: str = "rgb8") -> Image:
    """A good frame; its stamp carries its number."""
    channels = {"mono8": 1, "rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4}[encoding]
    shape = size if channels == 1 else (*size, channels)
    pixels: NDArray[np.uint8] = np.random.default_rng(number).integers(0, 256, shape, np.uint8)
    return to_message(pixels, encoding, Header(stamp=Time(sec=1000 + number, nanosec=7), frame_id="front_camera"))
