"""The package as `colcon build` installs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


def in_workspace(workspace: Path, command: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    script = f"source {workspace}/install/setup.bash && {command}"
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False, env=environment, cwd=workspace, timeout=60
    )


def test_colcon_build_installs_what_the_vehicle_needs(workspace: Path) -> None:
    prefix = workspace / "install" / "ros_ood_perception"
    share = prefix / "share" / "ros_ood_perception"
    for file in (
        "package.xml",
        "launch/perception.launch.py",
        "launch/replay.launch.py",
        "config/perception_node.param.yaml",
        "config/fastdds_large_images.xml",
        "config/topics/plain.yaml",
        "config/topics/nav2.yaml",
        "config/topics/autoware.yaml",
        "config/view/perception.rviz",
        "config/view/perception.foxglove.json",
        "models/camvid_small/model.onnx",
        "models/camvid_small/bundle.yaml",
    ):
        assert (share / file).is_file(), file
    assert (prefix / "share/ament_index/resource_index/packages/ros_ood_perception").is_file()
    assert (prefix / "lib/ros_ood_perception/perception_node").is_file()
    assert not list(prefix.rglob("training/*"))


def test_the_installed_package_finds_its_files_and_imports_no_torch(workspace: Path) -> None:
    code = (
        "import sys, ros_ood_perception.node.perception_node, ros_ood_perception.demo.run_demo;"
        "from ros_ood_perception.package_files import package_file;"
        "from ros_ood_perception.bundle import read_bundle;"
        "print(package_file('config/fastdds_large_images.xml'));"
        "print(read_bundle(package_file('models/camvid_small')).description.name);"
        "assert 'torch' not in sys.modules and 'training' not in sys.modules"
    )
    result = in_workspace(workspace, f'{sys.executable} -c "{code}"')
    assert result.returncode == 0, result.stderr
    profile, name = result.stdout.split()
    assert profile.startswith(str(workspace / "install"))
    assert name == "camvid_small"


def test_the_installed_executable_starts_the_node(workspace: Path, tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    executable = "install/ros_ood_perception/lib/ros_ood_perception/perception_node"
    script = f"source install/setup.bash && exec {executable} --ros-args -r __node:=installed_node"
    with (tmp_path / "log").open("wb") as log:
        node = subprocess.Popen(["bash", "-c", script], cwd=workspace, stdout=log, stderr=subprocess.STDOUT)
    try:
        watcher = [sys.executable, str(ROOT / "test" / "ros" / "wait_for_node.py"), "installed_node"]
        assert subprocess.run(watcher, check=False, timeout=60).returncode == 0, (tmp_path / "log").read_text()
        node.send_signal(signal.SIGINT)
        assert node.wait(20) == 0, (tmp_path / "log").read_text()
    finally:
        node.kill()


def test_the_parameter_file_holds_the_nodes_parameters_and_defaults() -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from ros_ood_perception.node.parameters import DECLARATIONS

    written = yaml.safe_load((ROOT / "config" / "perception_node.param.yaml").read_text())["/**"]["ros__parameters"]
    assert written == {declaration.name: declaration.default for declaration in DECLARATIONS}


def test_the_readme_names_every_parameter_and_topic() -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from ros_ood_perception.node.parameters import DECLARATIONS

    readme = (ROOT / "README.md").read_text()
    assert not re.search(r"@[A-Z]+@", readme)
    topics = ("input/image", "output/semantic/mask", "output/anomaly/score", "output/anomaly/mask", "debug/overlay")
    for name in [d.name for d in DECLARATIONS] + [f"~/{topic}" for topic in topics]:
        assert f"`{name}`" in readme, name
