"""Compares the results of a run with those of another run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ros_ood_perception.files.json_files import json_text
from ros_ood_perception.files.output_folder import OutputFolder
from ros_ood_perception.recordings.bag import Bag
from ros_ood_perception.recordings.image_sequence import ImageFolder
from ros_ood_perception.recordings.results import ResultFrame, mask_keys, result_topics
from ros_ood_perception.replay.comparison.classes import MatchedClasses, match_classes
from ros_ood_perception.replay.comparison.limits import ComparisonError, Limits
from ros_ood_perception.replay.comparison.opened_run import OpenedRun, RunClasses, open_run, topic_digests_of
from ros_ood_perception.replay.comparison.pairs import frame_pairs
from ros_ood_perception.replay.comparison.pictures import camera_images, write_picture
from ros_ood_perception.replay.comparison.settings_differences import settings_differences
from ros_ood_perception.replay.comparison.totals import Totals
from ros_ood_perception.replay.comparison.worst_pairs import ChangedPair, WorstPairs
from ros_ood_perception.replay.inputs import Input
from ros_ood_perception.replay.scenes import Scenes

COMPARISON_FILE = "comparison.json"
WORST_FRAMES = 5
"""Number of frames of which a picture is written."""


def compare(
    output: OutputFolder, here: OpenedRun, there: OpenedRun, source: Input | None, node_name: str, limits: Limits
) -> dict[str, Any]:
    """Compare the results of a run with those of another.

    Writes `comparison.json` and pictures of the frames that differ most into `output`.

    Args:
        here: this run, with its classes.
        source: what was replayed; its camera images are shown beside the results. None: there are no images.
        node_name: prefix of the output topics of this run.

    Returns:
        What `comparison.json` holds. Its `damage` names what could not be read or compared, in either run.

    Raises:
        ComparisonError, BagError: it cannot be read, or the runs have no class or no frame in common.
        OSError: with the path.
    """
    if there.bag is None or here.bag is None:
        comparison = _compare_digests(here, there)
    else:
        classes = match_classes(here.classes_beside(there.classes), there.classes_beside(here.classes))
        comparison = _compare_bags(here.bag, there.bag, output, source, node_name, classes)
    comparison["this"], comparison["other"] = str(here.path), str(there.path)
    comparison["settings"] = settings_differences(here.summary, there.summary)
    comparison["limits_broken"] = limits.broken(comparison)
    output.write(COMPARISON_FILE, json_text(comparison))
    return comparison


def check_other(other: Path, classes: RunClasses) -> None:
    """Check that the other run can be read and compared, before a replay begins.

    Args:
        classes: of the replay's bundle.

    Raises:
        ComparisonError, BagError: no such file, no summary, a bag without results, or other classes.
    """
    run = open_run(other)
    if run.bag is not None:
        result_topics(run.bag)
        match_classes(classes, run.classes_beside(classes))


def _compare_digests(here: OpenedRun, there: OpenedRun) -> dict[str, Any]:
    for run in (here, there):
        if run.summary is None:
            raise ComparisonError(f"{run.path}: has no summary.json, so its digests are unknown; give both bags")
    ours, theirs = topic_digests_of(here.summary or {}), topic_digests_of(there.summary or {})
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
    ours: Bag, theirs: Bag, output: OutputFolder, source: Input | None, node_name: str, classes: MatchedClasses
) -> dict[str, Any]:
    totals = Totals(len(classes.names))
    by_time = source is None or source.kind != ImageFolder.kind
    worst = WorstPairs(by_time)
    damage = totals.damage
    keys = (mask_keys(ours, damage), mask_keys(theirs, damage))
    for here, there in frame_pairs((ours, theirs), keys, damage):
        matched = _under_ids_of_this_run(there, classes)
        change = totals.add(here, matched)
        if change:
            worst.add(change, here, matched)
    # A frame without its mask is not among the keys: a recorder can lose that message of a live node.
    totals.only_here, totals.only_there = (len(found) - totals.frames for found in keys)
    if not totals.frames:
        why = damage[0] if damage else "no camera and stamp are the same"
        raise ComparisonError(f"{theirs.path}: has no frame in common with this run: {why}")
    damage += [text for bag in (ours, theirs) for text in bag.damage]
    comparison = totals.figures(classes.names, classes.common) | classes.facts()
    comparison["damage"] = damage
    comparison["worst_frames"] = _worst_frames(worst.ordered(), Scenes(by_time), output, source, node_name, classes)
    return comparison


def _under_ids_of_this_run(frame: ResultFrame, classes: MatchedClasses) -> ResultFrame:
    mask = classes.table[frame.pictures["semantic_mask"]]
    return replace(frame, pictures={**frame.pictures, "semantic_mask": mask})


def _worst_frames(
    pairs: list[ChangedPair],
    scenes: Scenes,
    output: OutputFolder,
    source: Input | None,
    node_name: str,
    classes: MatchedClasses,
) -> list[dict[str, Any]]:
    """Write the pictures, one of each scene; returns what `comparison.json` holds about them."""
    found: list[dict[str, Any]] = []
    for pair, image in zip(pairs, camera_images(source, node_name, pairs), strict=True):
        if len(found) == WORST_FRAMES or not scenes.add(pair.here.camera, pair.here.time_ns, image):
            continue
        facts = {"camera": pair.here.camera, "stamp_ns": pair.here.stamp_ns, "changed": pair.changed}
        picture = write_picture(output, len(found) + 1, image, pair, classes)
        found.append({**facts, "picture": picture, "camera_image": image is not None})
    return found
