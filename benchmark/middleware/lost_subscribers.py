"""Counts the subscribers that a publisher never discovers, because Fast DDS 3 looks up their type.

    python -m benchmark.middleware.lost_subscribers [--delay-us 0 --delay-us 2000] [--endpoints 10]

For each type of seven message packages (114 on Kilted), one process subscribes to ten topics; another publishes on
them a moment later, and counts the subscribers that it knows of in the end. Both start anew with type lookup, as Fast
DDS 3 does without a profile, with the profile that ships for one of them, and for both. `--delay-us` makes the
publisher's thread that has just found a type unknown wait, as a busy machine would make it (`type_lookup_delay.cpp`,
which needs a C++ compiler; 0 does without). The race is in Fast DDS's TypeLookupManager: it tells the endpoints that
wait for a type that the type is there, then clears the list, and forgets who was added to it in between.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import inspect
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmark.middleware.dds_profile import write_profile
from ros_ood_perception.launching.transport_environment import local_graph_environment, with_profile
from ros_ood_perception.number_arguments import real, whole

PACKAGES = tuple(
    f"{name}_msgs" for name in ("std", "geometry", "sensor", "nav", "visualization", "diagnostic", "lifecycle")
)
PERIOD_S = 0.2
PROCESSES_START_S = 4.0
SETTLES_S = 6.0
SHIM = Path(__file__).with_name("type_lookup_delay.cpp")
WITH_LOOKUP, SHIPPED = True, False
SIDES = {
    "type lookup on both sides": (WITH_LOOKUP, WITH_LOOKUP),
    "the profile for the publisher": (SHIPPED, WITH_LOOKUP),
    "the profile for the subscriber": (WITH_LOOKUP, SHIPPED),
    "the profile for both": (SHIPPED, SHIPPED),
}
"""Whether the publisher looks types up, and whether the subscriber does."""


def message_types() -> list[type[Any]]:
    """All types of the packages."""
    modules = [importlib.import_module(f"{package}.msg") for package in PACKAGES]
    members = [member for module in modules for _, member in sorted(vars(module).items())]
    return [kind for kind in members if inspect.isclass(kind) and hasattr(kind, "get_fields_and_field_types")]


def take_part(publishes: bool, begins: float, endpoints: int) -> None:
    """One of the two processes; the publishing one prints how many subscribers are missing, and of how many."""
    import rclpy

    rclpy.init()
    node = rclpy.create_node("publishes" if publishes else "subscribes")
    publishers = []
    types = message_types()
    for number, kind in enumerate(types):
        due = begins + (number + 0.6 * publishes) * PERIOD_S
        time.sleep(max(0.0, due - time.time()))
        for topic in (f"/type_{number}/topic_{index}" for index in range(endpoints)):
            if publishes:
                publishers.append(node.create_publisher(kind, topic, 1))
            else:
                node.create_subscription(kind, topic, lambda _message: None, 1)
    time.sleep(SETTLES_S)
    if publishes:
        counts = [publisher.get_subscription_count() for publisher in publishers]
        print(f"{counts.count(0)} of {len(counts)}", flush=True)
    else:
        # One after the other: two that end at once can keep each other from it (Fast-DDS issue 6513).
        sys.stdin.read()
    node.destroy_node()
    rclpy.shutdown()


def build_shim(folder: Path) -> Path:
    """Compile the delay.

    Raises:
        RuntimeError: no compiler.
    """
    compiler = shutil.which("c++")
    if compiler is None:
        raise RuntimeError("--delay-us needs a C++ compiler (apt install g++), or give 0 only")
    library = folder / "type_lookup_delay.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SHIM, "-ldl"], check=True)
    return library


def fast_dds_library() -> str:
    """The file that a node of this process would load.

    Raises:
        RuntimeError: it is not Fast DDS 3, or lacks what the delay is put in front of.
    """
    import rclpy

    rclpy.init()
    rclpy.create_node("looks_for_the_library").destroy_node()
    rclpy.shutdown()
    found = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libfastdds.so" in line}
    if len(found) != 1:
        raise RuntimeError("no Fast DDS 3 in this environment: there is no type lookup to measure")
    library = found.pop()
    function = SHIM.read_text("utf-8").split("#define IS_KNOWN ")[1].split()[0]
    if not hasattr(ctypes.CDLL(library), function):
        raise RuntimeError(f"{library} has no {function}: {SHIM.name} would delay nothing")
    return library


def lost(publisher: Path, subscriber: Path, endpoints: int, preload: dict[str, str]) -> str:
    """What the publishing process printed, with these profiles."""
    variables = {**os.environ, **local_graph_environment(os.environ)}
    publishing = with_profile(variables, publisher) | preload
    subscribing = with_profile(variables, subscriber)
    module = [sys.executable, "-m", "benchmark.middleware.lost_subscribers", "--endpoints", str(endpoints)]
    begins = str(time.time() + PROCESSES_START_S)
    command = [*module, "--publish-at", begins]
    with subprocess.Popen([*module, "--subscribe-at", begins], env=subscribing, stdin=subprocess.PIPE):
        done = subprocess.run(command, env=publishing, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delay-us", type=whole(0, 10**6), action="append", help="may be repeated; default: 0, 2000")
    parser.add_argument("--endpoints", type=whole(1, 10**6), default=10, help="topics of each type (10)")
    parser.add_argument("--subscribe-at", type=real(0.0, 1e12), help=argparse.SUPPRESS)
    parser.add_argument("--publish-at", type=real(0.0, 1e12), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.subscribe_at or options.publish_at:
        take_part(bool(options.publish_at), options.publish_at or options.subscribe_at, options.endpoints)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        profiles = {lookup: folder / f"lookup_{lookup}.xml" for lookup in (WITH_LOOKUP, SHIPPED)}
        for lookup, path in profiles.items():
            write_profile(path, type_lookup=lookup)
        for delay_us in options.delay_us or (0, 2000):
            preload = {}
            if delay_us:
                preload = {"LD_PRELOAD": str(build_shim(folder)), "FAST_DDS_LIBRARY": fast_dds_library()}
                preload["TYPE_LOOKUP_DELAY_US"] = str(delay_us)
            for what, sides in SIDES.items():
                publisher, subscriber = (profiles[lookup] for lookup in sides)
                found = lost(publisher, subscriber, options.endpoints, preload)
                print(f"delay {delay_us} us, {what}: {found} subscribers lost", flush=True)


if __name__ == "__main__":
    main()
