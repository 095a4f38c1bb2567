"""The environment in which launch files, demo and benchmarks start processes that exchange large images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from ros_ood_perception.files.package_files import package_file

PROFILE = "config/fastdds_large_images.xml"
"""With Fast DDS's default profile, images above 512 KB are lost."""
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
"""Where Fast DDS looks for its transport profile: 3.x (from Kilted on), and 2.x (up to Jazzy)."""
WITH_FAST_DDS_2 = ("humble", "iron", "jazzy")
FAST_DDS_2_FROM_PYPI = "ros-fastrtps"
ALLOCATOR = {
    # By default large messages are mapped and unmapped each time, which takes 60 % of a subscriber's CPU.
    "MALLOC_MMAP_THRESHOLD_": "268435456",
    "MALLOC_TRIM_THRESHOLD_": "536870912",
    # Images are made in one thread and freed in others. With a heap for each thread, memory grows for hours.
    "MALLOC_ARENA_MAX": "1",
}


def profile_variables(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Those of `PROFILE_VARIABLES` that are read here, the one to set first.

    Fast DDS 2 reads the older one only. With Fast DDS 3, ROS 2 still takes the older one, for which it warns: that one
    is deprecated.

    Args:
        environment: as `os.environ`. Without a sourced distribution, Fast DDS is the one that pip installed.
    """
    sourced = environment.get("ROS_DISTRO")
    old = sourced in WITH_FAST_DDS_2 if sourced else _is_installed(FAST_DDS_2_FROM_PYPI)
    return PROFILE_VARIABLES[1:] if old else PROFILE_VARIABLES


def _is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def with_profile(environment: Mapping[str, str], profile: Path | str) -> dict[str, str]:
    """An environment with this Fast DDS profile and no other. Empty: with none."""
    kept = {name: value for name, value in environment.items() if name not in PROFILE_VARIABLES}
    return kept | ({profile_variables(environment)[0]: str(profile)} if profile else {})


def transport_environment(environment: Mapping[str, str], profile: str | None = None) -> dict[str, str]:
    """The variables that must be set before a process starts; what the environment has set already stays.

    Args:
        environment: as `os.environ`.
        profile: path of a Fast DDS profile. Empty: none is set. None: the package's.

    Raises:
        FileNotFoundError: the package's profile is not installed.
    """
    wanted = {name: value for name, value in ALLOCATOR.items() if name not in environment}
    if profile is None:
        profile = str(package_file(PROFILE))
    variables = profile_variables(environment)
    if profile and not any(environment.get(name) for name in variables):
        wanted[variables[0]] = profile
    return wanted


def local_graph_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """`transport_environment`, and what keeps the graph on this machine and apart from other graphs.

    Args:
        environment: as `os.environ`; what it has set already stays.
    """
    # Humble knows only the older variable.
    localhost_only = {"ROS_LOCALHOST_ONLY": "1"} if environment.get("ROS_DISTRO") == "humble" else {}
    # Domains 91 to 100 are the tests'.
    wanted = {
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        **localhost_only,
        "ROS_DOMAIN_ID": str(1 + os.getpid() % 90),
    }
    return transport_environment(environment) | {
        name: value for name, value in wanted.items() if name not in environment
    }
