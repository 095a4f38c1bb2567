"""Scores of another method, measured on a data set like those of a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ros_ood_perception.files.json_files import write_json
from training.data.arguments import DataArgument, open_frames
from training.data.labelled_frames import BrokenFrameError, LabelledFrames
from training.data.progress import tracked
from training.data.registry import registered
from training.evaluation.bundle_evaluation import REPORT, Evaluation, claimed_output
from training.evaluation.report import EvaluatedSet, write_report
from training.evaluation.score_files import ScoreFileError, ScoreFiles
from training.evaluation.set_evaluation import SetEvaluation
from training.evaluation.tables import say


@dataclass(frozen=True)
class ScoresRequest:
    """What to measure, and what to write.

    Attributes:
        scores: folder of the score files.
        data: the set.
        out: folder of the report.
        held_out: classes to make anomalies of.
        exact_only: of the anomaly metrics only the exact ones.
        json: file for the figures; None writes none.
    """

    scores: Path
    data: DataArgument
    out: Path
    held_out: tuple[str, ...] = ()
    exact_only: bool = False
    json: Path | None = None


def evaluate_scores(request: ScoresRequest) -> Evaluation:
    """Measure the scores, and write what the request asks for.

    Raises:
        ValueError: the set has no anomalies, or files and frames do not match.
        PerceptionError, OSError: as their messages say.
    """
    data = request.data
    frames = open_frames(data, request.held_out)
    if not frames.has_anomalies:
        raise ValueError(
            f"{data.name} has no anomalies, and scores alone say nothing about classes; give a set with anomalies, or "
            "--held-out CLASS"
        )
    files = ScoreFiles(request.scores, [p.name for p in frames.files], [p.name for p in frames.unlabelled])
    folder = claimed_output(
        {"--out": request.out, "--json": request.json}, {"--scores": request.scores, f"--data {data.name}": data.path}
    )
    scale = files.scale([p.name for p in frames.files])
    evaluation = SetEvaluation(registered(data.name), [], True, exact_only=request.exact_only, scale=scale)
    try:
        left_out = _measure(evaluation, frames, files)
        if not evaluation.frames:
            raise ValueError("none of the frames could be read")
        results = evaluation.results()
        void = evaluation.void_for_anomalies(data.name)
        results |= ({"left_out": left_out} if left_out else {}) | ({"void_for_anomalies": void} if void else {})
        kept = "float16" if scale.half else "float32"
        figures: dict[str, Any] = {
            "scores_of": request.scores.resolve().name,
            "score": f"{request.scores.resolve().name}, {kept} from {scale.lowest:g} to {scale.highest:g}",
            "sets": {data.name: results},
        }
        if request.json is not None:
            write_json(request.json, figures, indent=2)
        folder.add(REPORT)
        write_report(request.out / REPORT, None, [EvaluatedSet(data.name, frames, evaluation, results)], figures)
        return Evaluation(figures, left_out, [void] if void else [])
    finally:
        evaluation.close()


def _measure(evaluation: SetEvaluation, frames: LabelledFrames, files: ScoreFiles) -> list[str]:
    """Measure every frame; returns a message for each that could not be read."""
    left_out = []
    for index in tracked(range(len(frames)), "measuring"):
        try:
            frame = frames[index]
        except BrokenFrameError as error:
            say(f"left out: {error}")
            left_out.append(str(error))
            continue
        score = files.read(frame.name)
        if score.shape != frame.labels.shape:
            size, wanted = ("x".join(map(str, shape)) for shape in (score.shape, frame.labels.shape))
            raise ScoreFileError(
                f"{files.path(frame.name)}: the scores are {size} (height x width), the labels of {frame.name} are "
                f"{wanted}; scale them to the size of the labels"
            )
        evaluation.update(frame, frame.labels, score.astype(np.float32), None)
    return left_out
