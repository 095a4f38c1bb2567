"""Compares the results of a replay with those of another run."""

from __future__ import annotations

import heapq
from pathlib import Path
from typing import Any

from ros_ood_perception.bundle.model_bundle import BundleDescription
from ros_ood_perception.files.json_files import JsonFileError, json_text, read_json
from ros_ood_perception.files.output_folder import OutputFolder
from ros_ood_perception.recordings.bag import Bag
from ros_ood_perception.recordings.bag_files import BAG_FOLDER
from ros_ood_perception.recordings.results import ResultFrame, mask_keys, result_topics
from ros_ood_perception.replay.comparison.limits import ComparisonError, Limits
from ros_ood_perception.replay.comparison.pairs import frame_pairs
from ros_ood_perception.replay.comparison.pictures import camera_images, write_picture
from ros_ood_perception.replay.comparison.totals import Totals
from ros_ood_perception.replay.inputs import Input
from ros_ood_perception.replay.state import SUMMARY_FILE

COMPARISON_FILE = "comparison.json"
WORST_FRAMES = 5
"""Number of frames of which a picture is written."""


def compare(
    output: OutputFolder, other: Path, source: Input, node_name: str, description: BundleDescription, limits: Limits
) -> dict[str, Any]:
    """Compare the results of a replay with those of another run.

    Writes `comparison.json` and pictures of the frames that differ most into `output`.

    Args:
        output: folder of a finished replay.
        other: a bag with results, the folder of a replay, or a `summary.json`.
        source: what was replayed; its camera images are shown beside the results.
        node_name: prefix of the output topics in `output`.

    Returns:
        What `comparison.json` holds. Its `damage` names what could not be read or compared, in either run.

    Raises:
        ComparisonError, BagError: it cannot be read, or has no frame in common with this run.
        OSError: with the path.
    """
    if other.suffix == ".json":
        comparison = _compare_digests(output.path, other)
    else:
        bags = Bag(output.path / BAG_FOLDER), Bag(_bag_of(other))
        comparison = _compare_bags(*bags, output, source, node_name, description)
    comparison["other"] = str(other)
    comparison["limits_broken"] = limits.broken(comparison)
    output.write(COMPARISON_FILE, json_text(comparison))
    return comparison


def check_other(other: Path) -> None:
    """Check that the other run can be read, before a replay begins.

    Raises:
        ComparisonError, BagError: no such file, no summary, or a bag without results.
    """
    if other.suffix == ".json":
        _summary_topics(other)
    else:
        result_topics(Bag(_bag_of(other)))


def _bag_of(other: Path) -> Path:
    folder = other / BAG_FOLDER if (other / BAG_FOLDER).is_dir() else other
    if not folder.exists():
        raise ComparisonError(
            f"--compare {other}: no such file or folder; give the --out of another replay, a bag with results, or a "
            "summary.json"
        )
    return folder


def _summary_topics(path: Path) -> dict[str, Any]:
    """Topic to SHA-256."""
    try:
        topics = read_json(path)["topics"]
        return {topic: str(facts["sha256"]) for topic, facts in topics.items()}
    except (OSError, JsonFileError, KeyError, TypeError, AttributeError) as error:
        raise ComparisonError(f"{path}: is not the summary.json of a replay ({error})") from error


def _compare_digests(out: Path, other: Path) -> dict[str, Any]:
    theirs, ours = _summary_topics(other), _summary_topics(out / SUMMARY_FILE)
    different = sorted(topic for topic in {**ours, **theirs} if ours.get(topic) != theirs.get(topic))
    found: dict[str, Any] = {
        "damage": [],
        "different_topics": different,
        "topics_only_here": sorted({*ours} - {*theirs}),
        "topics_only_there": sorted({*theirs} - {*ours}),
    }
    if not different:
        found |= {"class_agreement": 1.0, "class_iou": 1.0, "anomaly_iou": 1.0, "score_difference": 0.0}
        found |= {"obstacles_gained": 0, "obstacles_lost": 0, "frames_missing": 0}
    return found


def _compare_bags(
    ours: Bag, theirs: Bag, output: OutputFolder, source: Input, node_name: str, description: BundleDescription
) -> dict[str, Any]:
    totals = Totals(len(description.classes))
    worst: list[tuple[float, int, ResultFrame, ResultFrame]] = []
    damage = totals.damage
    keys = (mask_keys(ours, damage), mask_keys(theirs, damage))
    for number, (here, there) in enumerate(frame_pairs((ours, theirs), keys, damage)):
        change = totals.add(here, there)
        if change:
            heapq.heappush(worst, (change, -number, here, there))
            if len(worst) > WORST_FRAMES:
                heapq.heappop(worst)
    # A frame without its mask is not among the keys: a recorder can lose that message of a live node.
    totals.only_here, totals.only_there = (len(found) - totals.frames for found in keys)
    if not totals.frames:
        why = damage[0] if damage else "no camera and stamp are the same"
        raise ComparisonError(f"{theirs.path}: has no frame in common with this run: {why}")
    damage += [text for bag in (ours, theirs) for text in bag.damage]
    comparison = totals.figures([known.name for known in description.classes])
    shown = sorted(worst, key=lambda item: item[:2], reverse=True)
    images = camera_images(source, node_name, [here for _, _, here, _ in shown])
    comparison["damage"] = damage
    comparison["worst_frames"] = [
        {
            "camera": here.camera,
            "stamp_ns": here.stamp_ns,
            "changed": change,
            "picture": write_picture(output, rank, image, here, there, description),
            "camera_image": image is not None,
        }
        for rank, ((change, _, here, there), image) in enumerate(zip(shown, images, strict=True), 1)
    ]
    return comparison
