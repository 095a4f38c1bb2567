from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ros_ood_perception.launching.launch_arguments import LaunchArgumentError, check_arguments


@pytest.mark.parametrize("module", ["launch_arguments", "launched_cameras", "topic_presets", "transport_environment"])
def test_what_a_launch_file_imports_needs_neither_numpy_nor_cv2(module: str) -> None:
    """The Python of `ros2 launch` may not have the packages of the node."""
    code = f"import sys, ros_ood_perception.launching.{module}; print(*sorted({{'numpy', 'cv2'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.split() == []


FILE = Path("/ws/install/share/ros_ood_perception/launch/perception.launch.py")
DECLARED = ("bundle", "cameras", "params_file")


@pytest.mark.parametrize(
    "command",
    [
        ["ros2", "launch", "ros_ood_perception", "perception.launch.py", "bundel:=mine"],
        ["ros2", "launch", str(FILE), "bundel:=mine"],
    ],
)
def test_a_misspelt_argument_of_the_started_launch_file_is_refused_with_the_nearest(command: list[str]) -> None:
    with pytest.raises(
        LaunchArgumentError, match=r"no argument 'bundel' \(nearest: 'bundle'\); it has bundle, cameras"
    ):
        check_arguments(["bundel", "cameras"], DECLARED, FILE, command)
    check_arguments(["cameras", "sigterm_timeout", "emulate_tty"], DECLARED, FILE, command)


@pytest.mark.parametrize(
    "command",
    [["ros2", "launch", "my_vehicle", "vehicle.launch.py"], ["ros2", "launch", "my_vehicle", "perception.launch.py"]],
)
def test_the_arguments_of_an_including_launch_file_are_not_refused(command: list[str]) -> None:
    check_arguments(["bundles", "cameras"], DECLARED, FILE, command)
