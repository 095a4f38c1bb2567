"""The launch files, run by the real launch_ros from the package as `colcon build` installs it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("launch_ros", reason="launch_ros is not installed (it comes with a ROS 2 distribution)")
pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from ros_ood_perception.launching.transport_environment import PROFILE_VARIABLES, profile_variables

ROOT = Path(__file__).resolve().parents[1]
SHARE = "install/ros_ood_perception/share/ros_ood_perception"
ENVIRONMENT = {
    "ROS_DOMAIN_ID": str(101 + os.getpid() % 100),
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
}


class Launched:
    """`ros2 launch` of one of the package's files, in a process group of its own."""

    def __init__(self, workspace: Path, log: Path, file: str, arguments: list[str], **environment: str) -> None:
        # From the installed package, not from this checkout.
        path = [part for part in os.environ.get("PYTHONPATH", "").split(":") if part and Path(part) != ROOT]
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("FASTDDS_DEF", "FASTRTPS_DEF", "MALLOC_"))}
        command = [sys.executable, str(ROOT / "test" / "ros" / "run_launch_file.py"), f"{SHARE}/launch/{file}"]
        script = "source install/setup.bash && exec " + " ".join(f"'{part}'" for part in [*command, *arguments])
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                ["bash", "-c", script],
                cwd=workspace,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={
                    **clean,
                    "PYTHONPATH": ":".join(path),
                    "ROS_LOG_DIR": str(log.parent),
                    **ENVIRONMENT,
                    **environment,
                },
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for(self, pattern: str, times: int = 1, timeout_s: float = 60.0) -> re.Match[str]:
        """Wait until the log has the pattern so often; its last match."""
        deadline = time.monotonic() + timeout_s
        while len(found := list(re.finditer(pattern, self.log))) < times:
            assert time.monotonic() < deadline, f"no {pattern!r} in\n{self.log}"
            assert self.process.poll() is None, self.log
            time.sleep(0.1)
        return found[-1]

    def wait_for_node(self, times: int = 1) -> int:
        """Wait until the node is active for that many times; its process id."""
        self.wait_for(r"active: listening", times)
        return int(self.wait_for(r"\[perception_node-\d+\]: process started with pid \[(\d+)\]", times).group(1))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


Launch = Callable[..., Launched]


@pytest.fixture
def launch(workspace: Path, tmp_path: Path) -> Iterator[Launch]:
    started: list[Launched] = []

    def start(file: str, *arguments: str, **environment: str) -> Launched:
        log = tmp_path / f"launch_{len(started)}.log"
        started.append(Launched(workspace, log, file, list(arguments), **environment))
        return started[-1]

    yield start
    for launched in started:
        launched.close()


def environment_of(process: int) -> dict[str, str]:
    pairs = Path(f"/proc/{process}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def command_of(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_bytes().decode().replace("\0", " ")


def test_the_node_is_active_with_the_transports_environment_and_ends_with_the_launch(
    launch: Launch, shipped_bundle: Path
) -> None:
    launched = launch(
        "perception.launch.py", f"bundle:={shipped_bundle}", "input_image:=/front/image", "namespace:=car"
    )
    process = launched.wait_for_node()
    environment = environment_of(process)
    variable, *others = sorted(PROFILE_VARIABLES, key=lambda name: name != profile_variables(os.environ)[0])
    assert environment[variable].endswith(f"{SHARE}/config/fastdds_large_images.xml")
    assert not set(others) & set(environment)
    assert "deprecated" not in launched.log
    assert environment["MALLOC_MMAP_THRESHOLD_"] == "268435456"
    assert environment["MALLOC_ARENA_MAX"] == "1"
    assert "~/input/image:=/front/image" in command_of(process)
    assert "~/input/camera_info:=/camera/camera_info" in command_of(process)
    assert "__ns:=/car" in command_of(process)
    launched.process.send_signal(signal.SIGINT)
    assert launched.process.wait(20) == 0
    assert "process has finished cleanly" in launched.log


def test_a_node_that_is_killed_is_active_again(launch: Launch, shipped_bundle: Path) -> None:
    launched = launch("perception.launch.py", f"bundle:={shipped_bundle}")
    first = launched.wait_for_node()
    os.kill(first, signal.SIGKILL)
    assert launched.wait_for_node(times=2) != first


def test_what_the_user_set_in_the_environment_stays(launch: Launch, shipped_bundle: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.xml"
    variable = profile_variables(os.environ)[0]
    shutil.copy(ROOT / "config" / "fastdds_large_images.xml", mine)
    launched = launch(
        "perception.launch.py",
        f"bundle:={shipped_bundle}",
        **{variable: str(mine)},
        MALLOC_TRIM_THRESHOLD_="1000000",
    )
    environment = environment_of(launched.wait_for_node())
    assert {name: environment[name] for name in PROFILE_VARIABLES if name in environment} == {variable: str(mine)}
    assert environment["MALLOC_TRIM_THRESHOLD_"] == "1000000"


def test_each_camera_of_a_preset_has_its_topics(launch: Launch, shipped_bundle: Path) -> None:
    launched = launch(
        "perception.launch.py",
        f"bundle:={shipped_bundle}",
        "cameras:=front, left",
        "preset:=autoware",
        "autostart:=false",
    )
    process = int(launched.wait_for(r"process started with pid \[(\d+)\]").group(1))
    for camera in ("front", "left"):
        assert f"~/{camera}/input/image:=/sensing/camera/{camera}/image_raw" in command_of(process)


def test_each_camera_of_the_parameter_file_has_its_topics(launch: Launch, shipped_bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "vehicle.param.yaml"
    file.write_text("/car/perception_node: {ros__parameters: {cameras: [front, left]}}")
    launched = launch(
        "perception.launch.py",
        f"bundle:={shipped_bundle}",
        f"params_file:={file}",
        "namespace:=car",
        "preset:=autoware",
        "autostart:=false",
    )
    process = int(launched.wait_for(r"process started with pid \[(\d+)\]").group(1))
    for camera in ("front", "left"):
        assert f"~/{camera}/input/image:=/sensing/camera/{camera}/image_raw" in command_of(process)


def test_with_an_enclave_security_is_enforced(launch: Launch, shipped_bundle: Path, tmp_path: Path) -> None:
    launched = launch(
        "perception.launch.py",
        f"bundle:={shipped_bundle}",
        "enclave:=/perception_node",
        "respawn:=false",
        ROS_SECURITY_KEYSTORE=str(tmp_path),
    )
    process = int(launched.wait_for(r"process started with pid \[(\d+)\]").group(1))
    environment = environment_of(process)
    assert (environment["ROS_SECURITY_ENABLE"], environment["ROS_SECURITY_STRATEGY"]) == ("true", "Enforce")
    assert "--enclave /perception_node" in command_of(process)
    # The keystore is empty, so the node does not start.
    assert launched.process.wait(60) is not None
    assert "active: listening" not in launched.log


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["enclave:=/perception_node"], "the argument enclave needs ROS_SECURITY_KEYSTORE"),
        (["preset:=apollo"], "no such preset of topics; there are autoware, nav2, plain"),
        (["cameras:=front,left", "input_image:=/image"], r"would both be /image; write {camera} in the public name"),
        (["input_image:=not a topic"], "the argument input_image: input/image is remapped to 'not a topic'"),
        (["bundel:=models/mine"], "the launch file has no argument 'bundel' (nearest: 'bundle')"),
        (["params_file:=nowhere.yaml"], "No such file or directory: 'nowhere.yaml'"),
        (["params_file:=nowhere.yaml", "cameras:=front"], "No such file or directory: 'nowhere.yaml'"),
    ],
)
def test_an_argument_that_cannot_work_ends_the_launch_with_the_reason(
    launch: Launch, arguments: list[str], message: str
) -> None:
    launched = launch("perception.launch.py", *arguments)
    assert launched.process.wait(30) != 0
    assert message in launched.log


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "/perception_nod: {ros__parameters: {num_threads: 1}}",
            "only of /perception_nod (nearest: '/perception_nod')",
        ),
        ("/**: {ros__parameters: {num_thread: 1}}", "the node has no parameter 'num_thread'; correct or remove it"),
        ("/**: {ros__parameters: {max_rate_hz: 20}}", "is 20, an integer; it must be a double: write 20.0"),
    ],
)
def test_a_parameter_file_that_the_node_cannot_have_ends_the_launch_with_the_reason(
    launch: Launch, tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "vehicle.param.yaml"
    file.write_text(text)
    launched = launch("perception.launch.py", f"params_file:={file}")
    assert launched.process.wait(30) != 0
    assert message in launched.log
    assert "process started" not in launched.log


def test_a_replay_refuses_an_argument_that_it_does_not_have(launch: Launch) -> None:
    launched = launch("replay.launch.py", "bag:=/bags/drive", "loops:=true")
    assert launched.process.wait(30) != 0
    assert "the launch file has no argument 'loops' (nearest: 'loop'" in launched.log


def test_an_including_launch_file_may_have_arguments_of_its_own_and_push_a_namespace(
    launch: Launch, workspace: Path, shipped_bundle: Path, tmp_path: Path
) -> None:
    parameters = tmp_path / "fleet.param.yaml"
    parameters.write_text("/fleet/perception_node: {ros__parameters: {cameras: [front]}}")
    outer = workspace / SHARE / "launch" / "vehicle.launch.py"
    outer.write_text(
        "from pathlib import Path\n"
        "from launch import LaunchDescription\n"
        "from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription\n"
        "from launch.launch_description_sources import PythonLaunchDescriptionSource\n"
        "from launch_ros.actions import PushRosNamespace\n"
        "def generate_launch_description():\n"
        "    file = str(Path(__file__).with_name('perception.launch.py'))\n"
        f"    arguments = {{'bundle': {str(shipped_bundle)!r}, 'params_file': {str(parameters)!r}}}\n"
        "    included = IncludeLaunchDescription(\n"
        "        PythonLaunchDescriptionSource(file), launch_arguments=arguments.items())\n"
        "    return LaunchDescription(\n"
        "        [DeclareLaunchArgument('bundles'), PushRosNamespace('fleet'), included])\n"
    )
    launched = launch("vehicle.launch.py", "bundles:=all")
    launched.wait_for(r"active: listening on /front/image_raw")


def test_without_autostart_the_node_waits_to_be_configured(launch: Launch, shipped_bundle: Path) -> None:
    launched = launch("perception.launch.py", f"bundle:={shipped_bundle}", "autostart:=false")
    launched.wait_for(r"process started with pid")
    time.sleep(4)
    assert "configured" not in launched.log
    assert launched.process.poll() is None


def test_a_replay_starts_the_bag_once_the_node_is_active(launch: Launch, shipped_bundle: Path, tmp_path: Path) -> None:
    # `ros2 bag` is not where launch_ros is alone: what is started is seen, and what a player would print.
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "ros2").write_text('#!/bin/sh\necho "played: $*"\n')
    (tools / "ros2").chmod(0o755)
    launched = launch(
        "replay.launch.py",
        f"bundle:={shipped_bundle}",
        "bag:=/bags/drive",
        "rate:=0.5",
        "rviz:=false",
        "exit_at_end:=true",
        PATH=f"{tools}:{os.environ['PATH']}",
    )
    assert launched.process.wait(60) == 0, launched.log
    assert "played: bag play /bags/drive --clock --rate 0.5" in launched.log
    assert launched.log.index("active: listening") < launched.log.index("played:")
