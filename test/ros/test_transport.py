from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from bench import Bench, NodeProcess

from ros_ood_perception.launching.transport_environment import (
    PROFILE_VARIABLES,
    profile_variables,
    transport_environment,
    with_profile,
)
from ros_ood_perception.node.middleware.transport import DEFAULT_SEGMENT_BYTES, shared_memory

ROOT = Path(__file__).resolve().parents[2]
FAST_DDS = "rmw_fastrtps_cpp"
FRAME_720P = 1280 * 720 * 3
VARIABLE = profile_variables(os.environ)[0]


def test_the_shipped_profile_carries_a_1080p_float_score() -> None:
    for variable in profile_variables(os.environ):
        memory = shared_memory(FAST_DDS, {variable: str(ROOT / "config" / "fastdds_large_images.xml")})
        assert memory.segment_bytes == 64 * 2**20
        assert memory.problem_of("a frame", 1920 * 1080 * 4) is None


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {VARIABLE: "/nowhere.xml"},
        {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"},
    ],
)
def test_a_large_frame_is_a_problem_that_comes_with_its_fix(environment: dict[str, str]) -> None:
    memory = shared_memory(FAST_DDS, environment)
    assert memory.segment_bytes == DEFAULT_SEGMENT_BYTES
    assert memory.problem_of("a frame", 640 * 480) is None
    problem = memory.problem_of("a frame", FRAME_720P)
    assert problem is not None
    assert "2764800 bytes" in problem
    profile = ROOT / "config" / "fastdds_large_images.xml"
    assert f"set FASTDDS_DEFAULT_PROFILES_FILE (up to Jazzy FASTRTPS_DEFAULT_PROFILES_FILE) to {profile}, " in problem


@pytest.mark.parametrize(
    ("rmw", "profile", "largest_bytes", "cause"),
    [
        (FAST_DDS, True, 0, "the camera's process was started without the transport profile"),
        (FAST_DDS, True, FRAME_720P, "without the transport profile, .* the largest that came has 2764800 bytes"),
        (FAST_DDS, False, FRAME_720P, "do not fit into the shared memory of Fast DDS; .* 2764800 .*no profile is set"),
        (FAST_DDS, True, 100_000, "the network or its buffers"),
        ("rmw_cyclonedds_cpp", True, FRAME_720P, "the network or its buffers"),
    ],
)
def test_losses_come_with_their_likely_cause_and_the_fix(
    rmw: str, profile: bool, largest_bytes: int, cause: str
) -> None:
    path = str(ROOT / "config" / "fastdds_large_images.xml")
    memory = shared_memory(rmw, {VARIABLE: path} if profile else {})
    said = memory.why_lost(largest_bytes)
    assert re.search(f"^likely cause: .*{cause}", said)
    fix = "net.core.rmem_max" if "network" in cause else f"set FASTDDS_DEFAULT_PROFILES_FILE .* to {path}"
    assert re.search(f"Remedy: .*{fix}", said)


@pytest.mark.parametrize("environment", [{"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}])
def test_large_data_over_tcp_has_no_such_limit(environment: dict[str, str]) -> None:
    assert shared_memory(FAST_DDS, environment).problem_of("a frame", FRAME_720P) is None


def test_other_middleware_has_no_such_limit() -> None:
    assert shared_memory("rmw_zenoh_cpp", {}).problem_of("a frame", FRAME_720P) is None


def test_a_profile_without_shared_memory_has_no_such_limit(tmp_path: Path) -> None:
    profile = tmp_path / "udp.xml"
    profile.write_text("<dds><useBuiltinTransports>false</useBuiltinTransports></dds>")
    assert shared_memory(FAST_DDS, {VARIABLE: str(profile)}).segment_bytes is None
    profile.write_text("<dds><useBuiltinTransports>false")
    assert shared_memory(FAST_DDS, {VARIABLE: str(profile)}).segment_bytes is not None


LARGEST_SEGMENT = """
import os, rclpy
rclpy.init()
node = rclpy.create_node("a_node")
with open("/proc/self/maps") as maps:
    mapped = {line.split()[5] for line in maps if "/dev/shm/" in line}
print(max(os.path.getsize(path) for path in mapped))
node.destroy_node()
rclpy.shutdown()
"""


def largest_segment(environment: dict[str, str]) -> tuple[int, str]:
    """Bytes of the largest shared memory of a process with that environment, and what it logged."""
    command = [sys.executable, "-c", LARGEST_SEGMENT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    return int(done.stdout), done.stderr


def test_the_profile_is_in_force_by_a_variable_that_is_not_deprecated() -> None:
    bare = with_profile(os.environ, "")
    assert largest_segment(bare)[0] < 2**20
    size, log = largest_segment(bare | transport_environment(bare))
    assert size >= 64 * 2**20
    assert "deprecated" not in log


def test_what_is_said_of_the_other_variable_is_what_this_fast_dds_does_with_it() -> None:
    [other] = [variable for variable in PROFILE_VARIABLES if variable != VARIABLE]
    environment = with_profile(os.environ, "") | {other: str(ROOT / "config" / "fastdds_large_images.xml")}
    memory = shared_memory(FAST_DDS, environment)
    size, log = largest_segment(environment)
    # Fast DDS 3 reads the older one, and ROS 2 warns of it. Fast DDS 2 does not read the newer one.
    assert memory.segment_bytes == (64 * 2**20 if size >= 64 * 2**20 else DEFAULT_SEGMENT_BYTES)
    assert ("deprecated" in log) == (size >= 64 * 2**20)
    assert (f"reads {VARIABLE}, not {other}" in memory.source) == (size < 2**20)


LOOKS_UP = """
import rclpy
from ros_ood_perception.node.middleware.transport import looks_up_types
rclpy.init()
node = rclpy.create_node("a_node")
print(looks_up_types())
node.destroy_node()
rclpy.shutdown()
"""


def looks_up(profile: Path | None) -> bool:
    """Of a process with that profile."""
    environment = with_profile(os.environ, profile or "")
    command = [sys.executable, "-c", LOOKS_UP]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    return {"True": True, "False": False}[done.stdout.strip()]


def test_with_the_shipped_profile_no_subscriber_waits_for_its_type(
    bench: Bench, start_node: Callable[..., NodeProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not looks_up(ROOT / "config" / "fastdds_large_images.xml")
    node = start_node()
    assert bench.transition("configure")
    assert "looks up the type" not in node.log
    assert "deprecated" not in node.log
    if not looks_up(None):
        pytest.skip("this Fast DDS looks up no types, with or without the profile")
    node.stop()
    for variable in PROFILE_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    node = start_node()
    assert bench.transition("configure")
    assert "looks up the type of each subscriber" in node.log
    assert "set FASTDDS_DEFAULT_PROFILES_FILE" in node.log
