"""The shipped Fast DDS profile with one change."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from ros_ood_perception.files.package_files import package_file
from ros_ood_perception.launching.transport_environment import PROFILE

NAMESPACE = "{http://www.eprosima.com}"


def write_profile(path: Path, *, answer_wait_ms: int | None = None, type_lookup: bool = False) -> None:
    """Write a profile.

    Args:
        path: where.
        answer_wait_ms: how long a service's answer waits for the discovery of who asked; None for what ships.
        type_lookup: ask for types before endpoints are matched, as Fast DDS 3 does without the profile.
    """
    tree = ET.parse(package_file(PROFILE))
    if answer_wait_ms is not None:
        # The shortest that is not "no limit".
        nanoseconds = max(answer_wait_ms * 1_000_000, 1_000)
        wait = _only(tree.getroot(), "max_blocking_time")
        _only(wait, "sec").text, _only(wait, "nanosec").text = map(str, divmod(nanoseconds, 10**9))
    if type_lookup:
        _only(tree.getroot(), "rtps").remove(_only(tree.getroot(), "propertiesPolicy"))
    ET.register_namespace("", NAMESPACE.strip("{}"))
    tree.write(path, encoding="UTF-8", xml_declaration=True)


def _only(parent: ET.Element, name: str) -> ET.Element:
    (element,) = parent.iter(NAMESPACE + name)
    return element
