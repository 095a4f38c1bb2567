"""The faults: each is a context in which it holds, given a `Stage` and what the plan drew for it.

A fault that is over at once (a kill) gives back when it was; the others end when their context is left.
"""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from benchmark.faults.graph import Process
from benchmark.faults.hostile import LARGE
from benchmark.faults.plan import HANG, SELF_CHECK, PlannedFault
from benchmark.faults.processes.faulty_engine import ask_for
from benchmark.faults.stage import Stage

MAY_END: dict[str, set[str]] = {
    "node_killed": {"node"},
    "camera_killed": {"front", "left"},
    "consumer_killed": {"consumer"},
    "recorder_disk_full": {"recorder"},
    # The middleware's threads, and Python where it has no way out, end the process.
    "node_memory": {"node"},
    HANG: {"node"},
    # Beside a fault that waits for the node it is stopped for longer, and then ends when it goes on: `LastLine` cannot
    # tell a process that was stopped from one that hangs with Python's lock.
    "node_stopped": {"node"},
}
"""Who may die of a fault."""
DESCRIPTORS_LEFT = 8
RECORDER_LEFT_BYTES = 1 << 14
RECORDER_TIMEOUT_S = 15.0
BETWEEN_MESSAGES_S = 0.12
GIVEN_UP_TIMEOUT_S = 20.0
HANG_TIMEOUT_S = 30.0

INVALID: tuple[dict[str, Any], ...] = (
    {"anomaly_threshold": 7.0},
    {"anomaly_threshold": float("nan")},
    {"anomaly_threshold": float("inf")},
    {"anomaly_threshold": -0.5},
    {"anomaly_threshold": "half"},
    {"anomaly_threshold": 0.5, "score_encoding": "rgb8"},
    {"operating_point": "none of these"},
    {"operating_point": "x" * 100_000},
    {"outputs": ["semantic_mask", "everything"]},
    {"outputs": ["x"] * 20_000},
    {"max_frame_age_ms": -1.0},
    {"max_frame_age_ms": float("nan")},
    {"max_rate_hz": float("nan")},
    {"max_rate_hz": 0.001},
    {"stale_after_s": 0.0},
    {"diagnostics_period_s": 1e-9},
    {"diagnostics_period_s": float("nan")},
    {"bundle": "/dev/zero"},
    {"cameras": ["front"]},
    {"num_threads": 2},
    {"region.max_regions": 2**62},
    {"region.max_regions": -1},
    {"region.min_area": float("nan")},
    {"region.hysteresis": float("nan")},
    {"region.drivable_classes": ["no such class"]},
    {"persistence.seen_frames": 5, "persistence.of_frames": 2},
    {"persistence.max_gap_s": float("nan")},
    {"ground.z_m": float("nan")},
    {"ground.max_range_m": float("inf")},
    {"no.such.parameter": 1},
)


def context(stage: Stage, fault: PlannedFault) -> AbstractContextManager[float | None]:
    """The fault, to be entered."""
    return FAULTS[fault.name](stage, **fault.options)


@contextmanager
def _killed(process: Process) -> Iterator[float]:
    process.kill()
    yield time.monotonic()


@contextmanager
def _stopped(process: Process) -> Iterator[None]:
    process.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.signal(signal.SIGCONT)


@contextmanager
def _limited(process: Process, kind: int, soft: int) -> Iterator[None]:
    number = process.started
    before = process.limit(kind, soft)
    try:
        yield
    finally:
        if process.started == number:
            process.limit(kind, before)


@contextmanager
def _recorder_disk_full(stage: Stage) -> Iterator[None]:
    recorder = stage.graph.recorder
    files = (stage.graph.folder / f"recording_{recorder.started}").glob("*.mcap")
    size = max((file.stat().st_size for file in files), default=0)
    ends = len(recorder.ended)
    with _limited(recorder, resource.RLIMIT_FSIZE, size + RECORDER_LEFT_BYTES):
        # It writes in chunks of a megabyte or so.
        stage.watcher.spin_until(lambda: len(recorder.ended) > ends, RECORDER_TIMEOUT_S)
        yield


@contextmanager
def _node_memory(stage: Stage, left_bytes: int, engine: str) -> Iterator[None]:
    node = stage.graph.node
    with _limited(node, resource.RLIMIT_AS, node.address_space() + left_bytes):
        # An engine that is opened again needs much at once.
        ask_for(stage.graph.engine_link, engine)
        # What comes needs memory: messages that are larger than all before them.
        for camera in stage.graph.cameras.values():
            camera.tell(f"hostile {LARGE[stage.transport]}")
        stage.watcher.spin_for(BETWEEN_MESSAGES_S * 4)
        ask_for(stage.graph.engine_link, "")
        yield


@contextmanager
def _node_without(stage: Stage, kind: int, soft: int) -> Iterator[None]:
    with _limited(stage.graph.node, kind, soft):
        # Both write to the log; the second makes subscriptions.
        stage.transition("deactivate")
        stage.transition("activate")
        yield


@contextmanager
def _hostile(stage: Stage, sender: str, camera: str, transport: str, messages: list[str]) -> Iterator[None]:
    stage.use_transport(transport)
    if stage.transport == transport:
        process = getattr(stage.graph, sender)[camera]
        for name in messages:
            process.tell(f"hostile {name}")
            stage.graph.cameras[camera].tell("one")
            stage.watcher.spin_for(BETWEEN_MESSAGES_S)
    yield


@contextmanager
def _hostile_camera_info(stage: Stage, camera: str, messages: list[str]) -> Iterator[None]:
    for name in messages:
        stage.graph.cameras[camera].tell(f"info {name}")
        stage.watcher.spin_for(BETWEEN_MESSAGES_S)
    yield


@contextmanager
def _stamps_set_back(stage: Stage, camera: str, seconds: float) -> Iterator[None]:
    process = stage.graph.cameras[camera]
    process.tell(f"offset {-int(seconds * 1e9)}")
    try:
        yield
    finally:
        process.tell("offset 0")


@contextmanager
def _clock_set_back(stage: Stage, seconds: float) -> Iterator[None]:
    stage.watcher.set_clock(10.0)
    stage.set_parameters({"use_sim_time": True, "max_frame_age_ms": 2000.0}, valid=True)
    try:
        stage.watcher.spin_for(BETWEEN_MESSAGES_S * 4)
        stage.watcher.set_clock(-seconds)
        yield
    finally:
        stage.set_parameters({"use_sim_time": False, "max_frame_age_ms": 0.0}, valid=True)
        stage.watcher.set_clock(None)


@contextmanager
def _parameters(stage: Stage, changes: list[dict[str, Any]]) -> Iterator[None]:
    try:
        for change in changes:
            stage.set_parameters(change, valid=True)
            stage.watcher.spin_for(BETWEEN_MESSAGES_S * 2)
        yield
    finally:
        stage.restore_parameters()


@contextmanager
def _invalid_parameters(stage: Stage, changes: list[int]) -> Iterator[None]:
    for number in changes:
        stage.set_parameters(INVALID[number % len(INVALID)], valid=False)
    yield


@contextmanager
def _engine(stage: Stage, mode: str, seconds: float) -> Iterator[None]:
    ask_for(stage.graph.engine_link, mode)
    try:
        stage.watcher.spin_for(seconds)
        yield
    finally:
        ask_for(stage.graph.engine_link, "")


@contextmanager
def _engine_given_up(stage: Stage, mode: str) -> Iterator[None]:
    ask_for(stage.graph.engine_link, mode)
    try:
        stage.watcher.spin_until(lambda: stage.says("inactive"), GIVEN_UP_TIMEOUT_S)
        yield
    finally:
        ask_for(stage.graph.engine_link, "")


@contextmanager
def _engine_hangs(stage: Stage, mode: str) -> Iterator[None]:
    """Until the node says so, or ends."""
    starts = stage.graph.node.started
    ask_for(stage.graph.engine_link, mode)
    try:
        stage.watcher.spin_until(
            lambda: stage.says("failed") or stage.graph.node.started > starts or not stage.graph.node.running,
            HANG_TIMEOUT_S,
        )
        yield
    finally:
        ask_for(stage.graph.engine_link, "")


@contextmanager
def _lifecycle(stage: Stage, steps: list[tuple[str, float]], transport: str) -> Iterator[None]:
    for step, pause_s in steps:
        stage.transition(step)
        stage.watcher.spin_for(pause_s)
    stage.use_transport(transport)
    yield


FAULTS: dict[str, Callable[..., AbstractContextManager[float | None]]] = {
    "node_killed": lambda stage: _killed(stage.graph.node),
    "node_stopped": lambda stage: _stopped(stage.graph.node),
    "camera_killed": lambda stage, camera: _killed(stage.graph.cameras[camera]),
    "camera_stopped": lambda stage, camera: _stopped(stage.graph.cameras[camera]),
    "consumer_killed": lambda stage: _killed(stage.graph.consumer),
    "consumer_stopped": lambda stage: _stopped(stage.graph.consumer),
    "recorder_disk_full": _recorder_disk_full,
    "node_disk_full": lambda stage: _node_without(stage, resource.RLIMIT_FSIZE, 0),
    "node_memory": _node_memory,
    "node_descriptors": lambda stage: _node_without(stage, resource.RLIMIT_NOFILE, DESCRIPTORS_LEFT),
    "hostile_camera": lambda stage, **options: _hostile(stage, "cameras", **options),
    "hostile_stranger": lambda stage, **options: _hostile(stage, "strangers", **options),
    "hostile_camera_info": _hostile_camera_info,
    "stamps_set_back": _stamps_set_back,
    "clock_set_back": _clock_set_back,
    "parameters": _parameters,
    "invalid_parameters": _invalid_parameters,
    "engine": _engine,
    "engine_given_up": _engine_given_up,
    HANG: _engine_hangs,
    SELF_CHECK: _engine,
    "lifecycle": _lifecycle,
}
