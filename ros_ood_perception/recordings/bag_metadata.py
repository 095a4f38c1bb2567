"""`metadata.yaml` of a rosbag2 bag: its files, and its topics with their types and numbers of messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.plain_file import PlainFile
from ros_ood_perception.files.strict_yaml import shown

METADATA = "metadata.yaml"
MAX_METADATA_BYTES = 1 << 22
"""Largest `metadata.yaml` that is read: enough for a bag of ten thousand files."""
MAX_DEPTH = 32
_PARSER = getattr(yaml, "CLoader", yaml.Loader)


class MetadataError(PerceptionError, ValueError):
    """Metadata that cannot be used. The message says why."""


@dataclass(frozen=True)
class BagMetadata:
    """What `metadata.yaml` announces.

    Attributes:
        files: names within the bag's folder.
        counts: topic to number of messages.
        types: topic to message type.
    """

    files: tuple[str, ...]
    counts: dict[str, int]
    types: dict[str, str]


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Without merge keys: a few nested ones in 500 bytes could fill the memory."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Called for each mapping before it is made."""
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.constructor.ConstructorError(problem="merge keys (<<) are not supported")
        super().flatten_mapping(node)


def read_metadata(folder: Path) -> BagMetadata | None:
    """The metadata of a bag's folder; None if the file is missing.

    Raises:
        MetadataError: it cannot be read, or lacks required fields.
    """
    path = folder / METADATA
    try:
        with PlainFile(path) as file:
            if file.size > MAX_METADATA_BYTES:
                raise MetadataError(f"it has {file.size} bytes; at most {MAX_METADATA_BYTES} are read")
            return parse_metadata(file.read(0, file.size).decode())
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise MetadataError(f"it cannot be read ({error})") from error


def parse_metadata(text: str) -> BagMetadata:
    """The metadata in the text of `metadata.yaml`, or in its copy within a file.

    Raises:
        MetadataError: see `read_metadata`.
    """
    try:
        _check_depth(text)
        data = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: impossible dates, too long integers
        raise MetadataError(f"it is not readable as YAML ({' '.join(str(error).split())[:150]})") from error
    if isinstance(data, dict):
        data = data.get("rosbag2_bagfile_information", data)
    files = _listed(data, "relative_file_paths")
    counts: dict[str, int] = {}
    types: dict[str, str] = {}
    for entry in _listed(data, "topics_with_message_count"):
        topic = _value(entry, "topic_metadata", dict)
        name = _value(topic, "name", str)
        counts[name] = counts.get(name, 0) + _value(entry, "message_count", int)
        types[name] = _value(topic, "type", str)
    # Before version 4, the names had the folder before them. They never lead outside the folder.
    names = tuple(PurePosixPath(name.replace("\\", "/")).name for name in files if isinstance(name, str))
    if len(names) != len(files):
        raise MetadataError("relative_file_paths holds values that are not names")
    return BagMetadata(names, counts, types)


def _check_depth(text: str) -> None:
    """libyaml has no limit but the stack, where the process ends."""
    depth = 0
    for event in yaml.parse(text, _PARSER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"nested deeper than {MAX_DEPTH}")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _value(data: Any, key: str, kind: type) -> Any:
    found = data.get(key) if isinstance(data, Mapping) else None
    if found is None:
        raise MetadataError(f"its {key} is missing{_of_topic(data)}")
    if not isinstance(found, kind) or isinstance(found, bool):
        raise MetadataError(f"its {key} is {shown(found)}, not a {kind.__name__}{_of_topic(data)}")
    return found


def _of_topic(entry: Any) -> str:
    """Of which topic an entry of `topics_with_message_count` is, as far as it says so."""
    topic = entry.get("topic_metadata") if isinstance(entry, Mapping) else None
    name = topic.get("name") if isinstance(topic, Mapping) else None
    return f" (topic {shown(name)})" if isinstance(name, str) else ""


def _listed(data: Any, key: str) -> list[Any]:
    found = _value(data, key, list)
    return list(found)
