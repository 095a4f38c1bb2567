"""A run to compare: its results, its summary, and its classes."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ros_ood_perception.bundle.model_bundle import BundleDescription
from ros_ood_perception.files.json_files import JsonFileError, read_json
from ros_ood_perception.messages.label_info import ANOMALY_ID
from ros_ood_perception.messages.topics import OUTPUT_TOPICS
from ros_ood_perception.recordings.bag import Bag, BagError
from ros_ood_perception.recordings.bag_files import BAG_FOLDER
from ros_ood_perception.replay.comparison.limits import ComparisonError
from ros_ood_perception.replay.state import SUMMARY_FILE

Colour = tuple[int, int, int]
UNKNOWN_COLOUR: Colour = (128, 128, 128)
MOST_CLASSES = 254
DIAGNOSTICS_TYPE = "diagnostic_msgs/msg/DiagnosticArray"


@dataclass(frozen=True)
class RunClasses:
    """The classes of a model.

    Attributes:
        names: by id.
        colours: by id; grey where they are unknown.
        model_sha256: of the model that gave the results; empty: unknown.
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...]
    model_sha256: str = ""

    @classmethod
    def of_bundle(cls, description: BundleDescription) -> RunClasses:
        """The classes of a bundle."""
        names = tuple(known.name for known in description.classes)
        return cls(names, tuple(description.colours), description.model_sha256)


@dataclass(frozen=True)
class OpenedRun:
    """A run.

    Attributes:
        path: as it was given.
        bag: None if only a summary was given.
        summary: what `summary.json` holds; None for a bag alone.
        classes: None if neither the summary nor a label_info in the bag names them.
        model_sha256: as the diagnostics in the bag say, where `classes` is None; empty: unknown.
    """

    path: Path
    bag: Bag | None
    summary: Mapping[str, Any] | None
    classes: RunClasses | None
    model_sha256: str = ""

    def classes_beside(self, other: RunClasses | None) -> RunClasses | None:
        """The run's classes. One that does not name them, but ran the same model as another, has those of the other."""
        same_model = other is not None and self.model_sha256 and self.model_sha256 == other.model_sha256
        return other if self.classes is None and same_model else self.classes


def open_run(path: Path, classes: RunClasses | None = None) -> OpenedRun:
    """Open the folder of a replay, a bag with results, or a `summary.json`.

    Args:
        classes: those of the run where they are known already.

    Raises:
        ComparisonError, BagError: no such file, no summary, or no bag.
    """
    if path.suffix == ".json":
        return OpenedRun(path, None, _summary(path), classes)
    in_folder = (path / BAG_FOLDER).is_dir()
    folder = path / BAG_FOLDER if in_folder else path
    if not folder.exists():
        raise ComparisonError(
            f"--compare {path}: no such file or folder; give the --out of another replay, a bag with results, or a "
            "summary.json"
        )
    bag = Bag(folder)
    beside = (path if in_folder else path.parent) / SUMMARY_FILE
    summary = None
    if in_folder and beside.is_file():
        summary = _summary(beside)
    elif folder.name == BAG_FOLDER and beside.is_file():
        # Where the bag itself was given, the file beside it may be another program's, such as the demo's.
        with contextlib.suppress(ComparisonError):
            summary = _summary(beside)
    known = classes or _classes_of(summary) or _announced_classes(bag)
    return OpenedRun(path, bag, summary, known, "" if known else _announced_model(bag))


def topic_digests_of(summary: Mapping[str, Any]) -> dict[str, str]:
    """Topic to SHA-256."""
    return {topic: str(facts["sha256"]) for topic, facts in summary["topics"].items()}


def _summary(path: Path) -> Mapping[str, Any]:
    try:
        summary: Mapping[str, Any] = read_json(path)
        topic_digests_of(summary)
    except (OSError, JsonFileError, KeyError, TypeError, AttributeError) as error:
        raise ComparisonError(f"{path}: is not the summary.json of a replay ({error})") from error
    return summary


def _classes_of(summary: Mapping[str, Any] | None) -> RunClasses | None:
    try:
        listed = (summary or {})["bundle"]["classes"]
        names = tuple(str(known["name"]) for known in listed)
        colours = tuple(_colour(known["colour"]) for known in listed)
    except (KeyError, TypeError, ValueError):
        return None
    model = str((summary or {})["bundle"].get("model_sha256", ""))
    usable = 0 < len(names) <= MOST_CLASSES and len(set(names)) == len(names)
    return RunClasses(names, colours, model) if usable else None


def _colour(value: Any) -> Colour:
    red, green, blue = (min(max(int(channel), 0), 255) for channel in value)
    return red, green, blue


def _announced_classes(bag: Bag) -> RunClasses | None:
    """Those of the first label_info in the bag."""
    topics = [topic for topic in bag.types if topic.endswith(f"/{OUTPUT_TOPICS['label_info']}")]
    for raw in bag.messages(topics):
        try:
            entries = {int(known.class_id): str(known.class_name) for known in bag.deserialize(raw).class_map}
        except (BagError, AttributeError, TypeError, ValueError):
            continue
        entries.pop(ANOMALY_ID, None)
        names = tuple(entries[number] for number in sorted(entries))
        # Ids without a gap, and names that tell classes apart.
        if sorted(entries) == list(range(len(entries))) and names and len(set(names)) == len(names):
            return RunClasses(names, (UNKNOWN_COLOUR,) * len(names))
    return None


def _announced_model(bag: Bag) -> str:
    """That of the first diagnostics in the bag that name one; empty if none do.

    A node without the package vision_msgs publishes no label_info.
    """
    topics = [topic for topic, kind in bag.types.items() if kind == DIAGNOSTICS_TYPE]
    for raw in bag.messages(topics):
        try:
            statuses = bag.deserialize(raw).status
            values = {str(pair.key): str(pair.value) for status in statuses for pair in status.values}
        except (BagError, AttributeError, TypeError, ValueError):
            continue
        if values.get("model_sha256"):
            return values["model_sha256"]
    return ""
