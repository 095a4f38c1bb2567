"""A bundle run over one data set and measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle.model_bundle import Bundle
from ros_ood_perception.inference.engine import EngineError
from ros_ood_perception.inference.perception import FramePerception
from training.bundles.runner import BundleRunner, LogitScore
from training.data.arguments import DataArgument
from training.data.labelled_frames import BrokenFrameError, LabelledFrames, read_image
from training.data.progress import tracked
from training.data.registry import registered
from training.evaluation.set_evaluation import SetEvaluation
from training.evaluation.smiyc_scores import harness_folder, submitted, write_scores
from training.evaluation.tables import say

Item = TypeVar("Item")
Read = TypeVar("Read")


@dataclass
class SetRun:
    """One data set, measured.

    Attributes:
        evaluation: of the bundle's own score.
        results: its figures.
        other_results: the figures of the other requested scores; empty for a set without anomalies.
        left_out: a message for each frame that could not be read.
        void_for_anomalies: a message if void stands where the set's anomalies should be; else empty.
    """

    data: DataArgument
    frames: LabelledFrames
    evaluation: SetEvaluation
    results: dict[str, Any]
    other_results: dict[LogitScore, dict[str, Any]]
    left_out: list[str]
    void_for_anomalies: str = ""


def measured_classes(bundle: Bundle, frames: LabelledFrames, name: str) -> list[str]:
    """Names of the classes to measure: those of the bundle if the set has the same, else none.

    Raises:
        ValueError: the set has other classes and no anomalies to measure.
    """
    own = [known.name for known in bundle.description.classes]
    theirs = [known.name for known in frames.classes]
    if own == theirs:
        return own
    if theirs and not frames.has_anomalies:
        raise ValueError(f"{name}: the bundle's classes are {own}; the data set's are {theirs}")
    if theirs:
        say(f"{name}: its classes differ from those of the bundle; only anomalies are measured")
    return []


def run_set(
    runner: BundleRunner,
    data: DataArgument,
    frames: LabelledFrames,
    classes: Sequence[str],
    save_scores: Path | None,
    exact_only: bool,
) -> SetRun:
    """Run the bundle over one set.

    Frames that cannot be read are named and left out.

    Args:
        classes: to measure, as `measured_classes` gives them.
        save_scores: folder for the score files of the SMIYC harness; None writes none.
        exact_only: of the anomaly metrics only the exact ones.

    Raises:
        EngineError: the engine failed, or gave scores outside [0, 1]; the message names the frame.
    """
    name = registered(data.name)
    operating_points = runner.bundle.description.operating_points
    evaluation = SetEvaluation(name, classes, frames.has_anomalies, operating_points, exact_only)
    scores = runner.scores if frames.has_anomalies else ()
    others = {score: SetEvaluation(name, [], True, exact_only=exact_only) for score in scores}
    left_out: list[str] = []

    def perceived(image: NDArray[np.uint8], frame_name: str) -> FramePerception:
        try:
            return runner.perceive(image)
        except EngineError as error:
            raise EngineError(f"{data.name}, frame {frame_name}: {error}") from error

    def save(frame_name: str, value: NDArray[np.float16]) -> None:
        if save_scores is not None:
            folder = harness_folder(name, data.name, data.split)
            write_scores(save_scores, runner.bundle.description.name, folder, frame_name, value)

    for frame in _readable(range(len(frames)), frames.__getitem__, data.name, left_out):
        found = perceived(frame.image, frame.name)
        confidence = runner.confidence(found.frame_size) if classes else None
        save(frame.name, evaluation.update(frame, found.semantic, found.anomaly_score, confidence))
        for score, other in others.items():
            other.update(frame, found.semantic, runner.other_score(score, found.frame_size), None)
    if save_scores is not None and frames.unlabelled:
        title = f"{data.name}, frames without labels"
        for paths, image in _readable(frames.unlabelled, lambda p: (p, read_image(p.image)), title, left_out):
            save(paths.name, submitted(perceived(image, paths.name).anomaly_score))
    results, other_results = evaluation.results(), _closed_results(others)
    if left_out:
        for figures in (results, *other_results.values()):
            figures["left_out"] = left_out
    void_for_anomalies = evaluation.void_for_anomalies(data.name)
    if void_for_anomalies:
        for figures in (results, *other_results.values()):
            figures["void_for_anomalies"] = void_for_anomalies
    ordered = {score: other_results[score] for score in runner.scores if score in other_results}
    return SetRun(data, frames, evaluation, results, ordered, left_out, void_for_anomalies)


def _readable(items: Sequence[Item], read: Callable[[Item], Read], title: str, left_out: list[str]) -> Iterator[Read]:
    """What `read` makes of the items, behind a progress bar; items that it cannot read are added to `left_out`."""
    for item in tracked(items, title):
        try:
            found = read(item)
        except BrokenFrameError as error:
            say(f"left out: {error}")
            left_out.append(str(error))
        else:
            yield found


def _closed_results(evaluations: dict[LogitScore, SetEvaluation]) -> dict[LogitScore, dict[str, Any]]:
    """The figures of each evaluation. Each one is closed at once: it holds more than a hundred megabytes."""
    results = {}
    while evaluations:
        score, evaluation = evaluations.popitem()
        results[score] = evaluation.results()
        evaluation.close()
    return results
