"""Fixtures of the tests against real rclpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
from bench import Bench, CameraProcess, NodeProcess, end

from ros_ood_perception.node.middleware.abandoned_shared_memory import remove_abandoned_segments


@pytest.fixture(scope="module", autouse=True)
def nothing_left_in_shared_memory() -> Iterator[None]:
    """Of earlier runs that were killed, and of the tests that kill."""
    remove_abandoned_segments()
    yield
    remove_abandoned_segments()


@pytest.fixture(scope="session")
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.shutdown()


@pytest.fixture
def bench(ros: None) -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


@pytest.fixture
def start_node(tmp_path: Path, shipped_bundle: Path) -> Iterator[Callable[..., NodeProcess]]:
    """Starts nodes, with the shipped bundle unless told otherwise; what still runs at the end is ended."""
    started: list[NodeProcess] = []

    def start(command: list[str] | None = None, cameras: tuple[str, ...] = (), **parameters: Any) -> NodeProcess:
        log = tmp_path / f"node_{len(started)}.log"
        named = {name.replace("__", "."): value for name, value in parameters.items()}
        started.append(NodeProcess(log, {"bundle": shipped_bundle, **named}, command, cameras))
        return started[-1]

    yield start
    codes = [node.process.poll() for node in started]
    end([node.process for node in started])
    for node, code in zip(started, codes, strict=True):  # pytest shows it where the test failed
        print(
            f"-- {node.log_path.name}: " + ("ran to the end" if code is None else f"ended with {code}"),
            node.log,
            sep="\n",
        )


@pytest.fixture
def start_camera() -> Iterator[Callable[..., CameraProcess]]:
    """Starts cameras in processes of their own; what still runs at the end is ended."""
    started: list[CameraProcess] = []

    def start(topic: str, rate: float, *options: str) -> CameraProcess:
        started.append(CameraProcess(topic, rate, *options))
        return started[-1]

    yield start
    end([camera.process for camera in started])


@pytest.fixture(scope="session")
def brightness_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `brightness_bundle.py`."""
    pytest.importorskip("onnx", reason="onnx is not installed")
    from brightness_bundle import write_brightness_bundle

    return write_brightness_bundle(tmp_path_factory.mktemp("bundles") / "brightness")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The soak first: it takes two minutes, in which a second worker runs the others."""
    items.sort(key=lambda item: item.path.name != "test_soak.py")
