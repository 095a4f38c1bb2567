"""The package as `colcon build` installs it."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from catkin_pkg.package import parse_package

from ros_ood_perception.messages.topics import CAMERA_INFO_TOPIC, INPUT_TOPICS, OUTPUT_TOPICS, STATE_TOPIC

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
        "config/perception_node.schema.json",
        "config/fastdds_large_images.xml",
        "config/topics/plain.yaml",
        "config/topics/nav2.yaml",
        "config/topics/autoware.yaml",
        "config/view/perception.rviz",
        "config/view/perception.foxglove.json",
    ):
        assert (share / file).is_file(), file
    assert (prefix / "share/ament_index/resource_index/packages/ros_ood_perception").is_file()
    for file in ("page.css", "player.js"):
        assert list(prefix.rglob(f"ros_ood_perception/replay/report/{file}")), file
    for executable in ("perception_node", "build_engine", "replay"):
        assert (prefix / "lib/ros_ood_perception" / executable).is_file()


def test_colcon_build_installs_nothing_of_training_demo_renderer_and_benchmark(workspace: Path) -> None:
    prefix = workspace / "install" / "ros_ood_perception"
    for folder in ("training", "demo", "sample_drive", "fleet", "benchmark"):
        assert not list(prefix.rglob(f"{folder}/*")), folder
    installed = sum(path.stat().st_size for path in prefix.rglob("*") if path.is_file())
    assert installed < 4e6


def test_no_weights_are_installed_and_nothing_that_is_not_for_a_product(
    workspace: Path, licences: Mapping[str, str]
) -> None:
    restricted = [name for name, licence in licences.items() if licence != "Apache-2.0"]
    assert any(name.endswith(".onnx") for name in restricted)
    installed = [path for path in (workspace / "install").rglob("*") if path.is_file()]
    assert {digest(path) for path in installed} & {digest(ROOT / name) for name in restricted} == set()
    assert [path for path in installed if path.suffix == ".onnx" or path.name == "bundle.yaml"] == []


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_installed_manifest_has_the_texts_of_its_licences_beside_it(workspace: Path) -> None:
    manifest = workspace / "install/ros_ood_perception/share/ros_ood_perception/package.xml"
    licences = parse_package(str(manifest)).licenses
    assert "Apache-2.0" in licences
    for licence in licences:
        assert (manifest.parent / licence.file).read_bytes() == (ROOT / licence.file).read_bytes()


def test_rosdep_installs_what_the_vehicle_needs() -> None:
    keys = {"opencv-python-headless": "opencv", "pyyaml": "yaml"}
    keys |= {name: f"{name}-pip" for name in ("onnxruntime", "rosbags")}
    needed = set()
    for line in (ROOT / "requirements" / "vehicle.in").read_text().splitlines():
        if name := re.match(r"[a-z][a-z0-9-]*", line):
            needed.add(f"python3-{keys.get(name[0], name[0])}")
    listed = rosdep_keys()
    assert needed == {key for key in listed if key.startswith("python3-")}


def test_rosdep_installs_every_ros_package_that_the_vehicle_imports_or_launches() -> None:
    ros = re.compile(r"rcl.*|.*_msgs|.*_interfaces|tf2_ros|cv_bridge|launch|launch_ros|ament_index_python")
    needed: set[str] = set()
    for file in (*(ROOT / "ros_ood_perception").rglob("*.py"), *(ROOT / "launch").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and ros.fullmatch(package := node.module.split(".")[0]):
                needed.add(package)
            elif isinstance(node, ast.Import):
                needed |= {name for alias in node.names if ros.fullmatch(name := alias.name.split(".")[0])}
            elif isinstance(node, ast.keyword) and node.arg == "package" and isinstance(node.value, ast.Constant):
                needed.add(str(node.value.value))
            elif isinstance(node, ast.Constant) and file.parent.name == "messages":
                # The node imports message classes by the names of their types.
                needed |= set(re.findall(r"^([a-z0-9_]+)/msg/", str(node.value)))
    assert {"tf2_ros", "vision_msgs", "rclpy", "rviz2"} <= needed
    assert needed - rosdep_keys() == set()


def rosdep_keys() -> set[str]:
    return set(re.findall(r"<exec_depend>(.*)</exec_depend>", (ROOT / "package.xml").read_text()))


def test_what_is_installed_is_pinned_by_its_hash() -> None:
    """All but torch: its CPU build and its CUDA build are different files of one version."""
    locks = sorted((ROOT / "requirements").glob("*.txt"))
    assert len(locks) >= 8
    for lock in locks:
        packages = re.split(r"\n(?=[a-z0-9])", lock.read_text())
        unpinned = [text for text in packages if "--hash=sha256:" not in text]
        assert unpinned == (["torch==2.13.0\n"] if lock.name == "torch.txt" else []), lock.name
    environment = (ROOT / "environment.sh").read_text()
    installs = re.findall(r"^ *(?:\S+\) )?install_locked (.*?)(?: ;;)?$", environment, re.M)
    assert [line for line in installs if "--require-hashes" not in line] == ["torch"]


def test_the_installed_package_finds_its_files_and_imports_no_torch(workspace: Path, shipped_bundle: Path) -> None:
    code = (
        "import sys, ros_ood_perception.node.perception_node;"
        "from ros_ood_perception.files.package_files import package_file;"
        "from ros_ood_perception.bundle.model_bundle import read_bundle;"
        "print(package_file('config/fastdds_large_images.xml'));"
        f"print(read_bundle('{shipped_bundle}').description.name);"
        "assert 'torch' not in sys.modules and 'training' not in sys.modules"
    )
    result = in_workspace(workspace, f'{sys.executable} -c "{code}"')
    assert result.returncode == 0, result.stderr
    profile, name = result.stdout.split()
    assert profile.startswith(str(workspace / "install"))
    assert name == shipped_bundle.name


def test_the_installed_replay_names_a_page_on_bundles_if_it_is_given_none(workspace: Path) -> None:
    result = in_workspace(workspace, "install/ros_ood_perception/lib/ros_ood_perception/replay src --out out")
    assert result.returncode == 2
    said = " ".join(result.stderr.split())
    assert "no model bundle is given; give its folder with --bundle" in said
    pages = re.findall(r"docs/\w+\.md", said)
    assert pages == ["docs/models.md", "docs/training.md"]
    assert all((ROOT / page).is_file() for page in pages)


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


def test_the_nodes_page_names_every_topic() -> None:
    page = (ROOT / "docs" / "node.md").read_text()
    for topic in (CAMERA_INFO_TOPIC, *INPUT_TOPICS.values(), *OUTPUT_TOPICS.values(), STATE_TOPIC):
        assert f"| `{topic}` |" in page, topic
    assert not re.search(r"@[A-Z]+@", (ROOT / "README.md").read_text())
