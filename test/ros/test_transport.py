from __future__ import annotations

from pathlib import Path

import pytest

from ros_ood_perception.node.transport import DEFAULT_SEGMENT_BYTES, shared_memory

ROOT = Path(__file__).resolve().parents[2]
FAST_DDS = "rmw_fastrtps_cpp"
FRAME_720P = 1280 * 720 * 3


def test_the_shipped_profile_carries_a_1080p_float_score() -> None:
    for variable in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
        memory = shared_memory(FAST_DDS, {variable: str(ROOT / "config" / "fastdds_large_images.xml")})
        assert memory.segment_bytes == 64 * 2**20
        assert memory.problem_of("a frame", 1920 * 1080 * 4) is None


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"FASTDDS_DEFAULT_PROFILES_FILE": "/nowhere.xml"},
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
    assert "set FASTDDS_DEFAULT_PROFILES_FILE and FASTRTPS_DEFAULT_PROFILES_FILE to config/" in problem


@pytest.mark.parametrize("environment", [{"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}])
def test_large_data_over_tcp_has_no_such_limit(environment: dict[str, str]) -> None:
    assert shared_memory(FAST_DDS, environment).problem_of("a frame", FRAME_720P) is None


def test_other_middleware_has_no_such_limit() -> None:
    assert shared_memory("rmw_zenoh_cpp", {}).problem_of("a frame", FRAME_720P) is None


def test_a_profile_without_shared_memory_has_no_such_limit(tmp_path: Path) -> None:
    profile = tmp_path / "udp.xml"
    profile.write_text("<dds><useBuiltinTransports>false</useBuiltinTransports></dds>")
    assert shared_memory(FAST_DDS, {"FASTDDS_DEFAULT_PROFILES_FILE": str(profile)}).segment_bytes is None
    profile.write_text("<dds><useBuiltinTransports>false")
    assert shared_memory(FAST_DDS, {"FASTDDS_DEFAULT_PROFILES_FILE": str(profile)}).segment_bytes is not None
