from __future__ import annotations

import pytest

from ros_ood_perception.files.package_files import package_file
from ros_ood_perception.launching.transport_environment import (
    ALLOCATOR,
    PROFILE,
    PROFILE_VARIABLES,
    local_graph_environment,
    profile_variables,
    transport_environment,
    with_profile,
)

NEW, OLD = PROFILE_VARIABLES


def test_an_empty_environment_gets_the_packages_profile_and_the_allocators_limits() -> None:
    variable = profile_variables({})[0]
    assert transport_environment({}) == {**ALLOCATOR, variable: str(package_file(PROFILE))}


@pytest.mark.parametrize(
    ("distribution", "variable"),
    [("humble", OLD), ("jazzy", OLD), ("kilted", NEW), ("rolling", NEW)],
)
def test_the_variable_that_the_distribution_reads_is_set_and_no_other(distribution: str, variable: str) -> None:
    environment = {"ROS_DISTRO": distribution}
    assert transport_environment(environment, "/package.xml") == {**ALLOCATOR, variable: "/package.xml"}


@pytest.mark.parametrize(
    ("distribution", "variable", "stays"),
    [("jazzy", OLD, True), ("jazzy", NEW, False), ("kilted", NEW, True), ("kilted", OLD, True)],
)
def test_a_profile_that_is_read_stays_the_only_one(distribution: str, variable: str, stays: bool) -> None:
    wanted = transport_environment({"ROS_DISTRO": distribution, variable: "/mine.xml"}, "/package.xml")
    assert (not set(PROFILE_VARIABLES) & set(wanted)) == stays
    assert variable not in wanted


def test_a_profile_replaces_all_others() -> None:
    environment = {"ROS_DISTRO": "kilted", NEW: "/a.xml", OLD: "/b.xml", "HOME": "/home"}
    assert with_profile(environment, "/mine.xml") == {"ROS_DISTRO": "kilted", "HOME": "/home", NEW: "/mine.xml"}
    assert with_profile(environment, "") == {"ROS_DISTRO": "kilted", "HOME": "/home"}


def test_without_a_profile_none_is_set() -> None:
    assert transport_environment({}, "") == ALLOCATOR


def test_what_the_user_has_set_stays() -> None:
    environment = {"MALLOC_ARENA_MAX": "4", "ROS_DOMAIN_ID": "7", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}
    assert not set(local_graph_environment(environment)) & set(environment)


def test_a_local_graph_is_on_this_machine_and_has_a_domain_of_its_own() -> None:
    wanted = local_graph_environment({})
    assert wanted["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert 1 <= int(wanted["ROS_DOMAIN_ID"]) <= 90
    assert "ROS_LOCALHOST_ONLY" not in wanted
    assert local_graph_environment({"ROS_DISTRO": "humble"})["ROS_LOCALHOST_ONLY"] == "1"
    assert wanted.items() >= transport_environment({}).items()
