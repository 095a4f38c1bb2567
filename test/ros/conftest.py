"""Fixtures of the tests against real rclpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
from bench import Bench, NodeProcess


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

    def start(command: list[str] | None = None, **parameters: Any) -> NodeProcess:
        log = tmp_path / f"node_{len(started)}.log"
        started.append(NodeProcess(log, {"bundle": shipped_bundle, **parameters}, command))
        return started[-1]

    yield start
    for node in started:
        if node.process.poll() is None:
            node.process.kill()
            node.process.wait()
