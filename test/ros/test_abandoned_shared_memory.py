"""Processes with rclpy that are killed, and what they leave in /dev/shm."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rclpy
from bench import Bench, CameraProcess, NodeProcess

from ros_ood_perception.node.middleware.abandoned_shared_memory import FOLDER, MIN_AGE_S, remove_abandoned_segments

PARTICIPANT = """
import rclpy
from rclpy.node import Node

rclpy.init()
node = Node("participant")
print("ready", flush=True)
rclpy.spin(node)
"""

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(
        not rclpy.get_rmw_implementation_identifier().startswith("rmw_fastrtps"),
        reason="the middleware is not Fast DDS",
    ),
]


def segments() -> set[Path]:
    return {path.with_name(path.name[:-3]) for path in FOLDER.glob("fast*_el") if "port" not in path.name}


def lock_of(segment: Path) -> Path:
    return segment.with_name(segment.name + "_el")


def make_old(*segments: Path) -> None:
    then = time.time() - MIN_AGE_S - 1
    for segment in segments:
        os.utime(lock_of(segment), (then, then))


def owned_by(process: int) -> list[Path]:
    """The segments whose lock files the process has open."""
    opened = {os.readlink(descriptor) for descriptor in Path(f"/proc/{process}/fd").iterdir()}
    found = [segment for segment in segments() if str(lock_of(segment)) in opened]
    assert found
    return found


@pytest.fixture
def participant() -> Iterator[Callable[[], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        started.append(subprocess.Popen([sys.executable, "-c", PARTICIPANT], stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout is not None
        assert started[-1].stdout.readline() == "ready\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_segment_of_a_killed_process_goes_and_that_of_a_living_one_stays(
    participant: Callable[[], subprocess.Popen[str]],
) -> None:
    dead, living = participant(), participant()
    abandoned, used = owned_by(dead.pid), owned_by(living.pid)
    dead.kill()
    dead.wait()
    assert all(segment.is_file() for segment in abandoned), "this middleware cleans up by itself"
    size_mb = sum(segment.stat().st_blocks for segment in abandoned) * 512 / 1e6
    assert size_mb > 64, "the profile for large images is not in use"
    make_old(*abandoned, *used)
    removed = remove_abandoned_segments()
    assert removed.segments >= len(abandoned)
    assert removed.megabytes >= size_mb
    assert not any(segment.exists() or lock_of(segment).exists() for segment in abandoned)
    assert all(segment.is_file() for segment in used)
    assert living.poll() is None


@pytest.mark.parametrize("prefix", ["fastdds", "fastrtps"])
def test_a_segment_is_left_alone_while_it_is_new_and_while_somebody_holds_its_lock(prefix: str) -> None:
    segment = FOLDER / f"{prefix}_{os.getpid():016x}"
    segment.write_bytes(b"0" * 4096)
    lock_of(segment).touch()
    try:
        remove_abandoned_segments()
        assert segment.exists(), "it may be a participant that has not locked it yet"
        make_old(segment)
        with lock_of(segment).open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            remove_abandoned_segments()
            assert segment.exists()
        remove_abandoned_segments()
        assert not segment.exists()
        assert not lock_of(segment).exists()
    finally:
        segment.unlink(missing_ok=True)
        lock_of(segment).unlink(missing_ok=True)


def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.touch()
    os.utime(target, (0, 0))
    link = FOLDER / f"fastdds_{os.getpid():016x}_el"
    link.symlink_to(target)
    try:
        remove_abandoned_segments()
        assert link.is_symlink()
    finally:
        link.unlink()


def test_a_node_that_starts_after_a_crash_says_what_it_removed_and_takes_frames(
    bench: Bench,
    start_node: Callable[..., NodeProcess],
    start_camera: Callable[..., CameraProcess],
    brightness_bundle: Path,
) -> None:
    crashed = start_node(bundle=brightness_bundle)
    bench.spin_until(bench.get_state.service_is_ready, "the node")
    abandoned = owned_by(crashed.process.pid)
    crashed.process.kill()
    crashed.process.wait()
    make_old(*abandoned)
    # A camera that was there before: its memory must be as good as ever afterwards.
    camera = start_camera("/camera/image_raw", 10.0, "--size", "480", "640")
    node = start_node(bundle=brightness_bundle)
    bench.wait_for_answers()
    assert not any(segment.exists() for segment in abandoned)
    assert "of shared memory that processes of Fast DDS left when they died" in node.log
    bench.bring_up()
    camera.wait_until_ready()
    make_old(*owned_by(camera.process.pid), *owned_by(node.process.pid))
    remove_abandoned_segments()
    seen = len(bench.received["semantic"])
    bench.spin_until(lambda: len(bench.received["semantic"]) > seen + 10, "masks after cleaning")
    assert bench.accounting()["malformed"] == 0


def test_a_node_that_ends_leaves_no_shared_memory(
    bench: Bench, start_node: Callable[..., NodeProcess], brightness_bundle: Path
) -> None:
    before = segments()
    node = start_node(bundle=brightness_bundle, autostart=True)
    bench.wait_for_discovery()
    its_own = segments() - before
    assert its_own
    assert node.stop() == 0
    assert not its_own & segments()
