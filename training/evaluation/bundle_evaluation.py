"""A bundle measured on data sets: from the request to figures, report and record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ros_ood_perception.bundle.model_bundle import Bundle, read_bundle
from ros_ood_perception.files.json_files import write_json
from ros_ood_perception.files.output_folder import OutputFolder, check_apart
from training.bundles.runner import BundleRunner, LogitScore
from training.data.arguments import DataArgument, open_frames
from training.evaluation.record import record
from training.evaluation.report import EvaluatedSet, write_report
from training.evaluation.set_run import SetRun, measured_classes, run_set

REPORT = "report.html"


@dataclass(frozen=True)
class EvaluationRequest:
    """What to measure, and what to write.

    Attributes:
        bundle: its folder.
        data: the sets.
        out: folder of the report.
        engine: of `ros_ood_perception.inference.engine_names.ENGINES`.
        scores: besides the bundle's own.
        held_out: classes to make anomalies of.
        exact_only: of the anomaly metrics only the exact ones.
        json: file for the figures; None writes none.
        save_scores: folder for the score files of the SMIYC harness; None writes none.
        record: write the figures into the bundle.
        max_input_height: further input sizes of the bundle with more rows are left out; 0: all are used.

    Raises:
        ValueError: figures of some sizes only are to be recorded.
    """

    bundle: Path
    data: Sequence[DataArgument]
    out: Path
    engine: str = "auto"
    scores: Sequence[LogitScore] = ()
    held_out: Sequence[str] = ()
    exact_only: bool = False
    json: Path | None = None
    save_scores: Path | None = None
    record: bool = False
    max_input_height: int = 0

    def __post_init__(self) -> None:
        if self.record and self.max_input_height:
            raise ValueError(
                "--record writes the figures of the whole bundle; leave --max-input-height out, or give --json instead"
            )


@dataclass(frozen=True)
class Evaluation:
    """Attributes:
    figures: plain values, as the JSON file holds them.
    left_out: a message for each frame that could not be read.
    void_for_anomalies: a message for each set with void where its anomalies should be.
    """

    figures: dict[str, Any]
    left_out: list[str]
    void_for_anomalies: list[str]


def evaluate_bundle(request: EvaluationRequest) -> Evaluation:
    """Measure every set, and write what the request asks for.

    Raises:
        PerceptionError, OSError, ValueError: as their messages say.
    """
    runs: list[SetRun] = []
    try:
        figures = _measured(request, runs)
        return Evaluation(
            figures,
            [message for run in runs for message in run.left_out],
            [run.void_for_anomalies for run in runs if run.void_for_anomalies],
        )
    finally:
        for run in runs:
            run.evaluation.close()


def _measured(request: EvaluationRequest, runs: list[SetRun]) -> dict[str, Any]:
    names = [data.name for data in request.data]
    if len(set(names)) < len(names):
        raise ValueError(f"--data: {', '.join(names)}: the same NAME twice; tell them apart as NAME_WORD")
    bundle = read_bundle(request.bundle)
    # All sets are opened, and all outputs checked, before the first set is measured: a wrong path is reported at once.
    opened = [(data, open_frames(data, request.held_out)) for data in request.data]
    classes = [measured_classes(bundle, frames, data.name) for data, frames in opened]
    output_folder = claimed_output(
        {"--out": request.out, "--json": request.json, "--save-scores": request.save_scores},
        {"the bundle": request.bundle, **{f"--data {data.name}": data.path for data in request.data}},
    )
    measured_bundle = bundle.up_to(request.max_input_height)
    runner = BundleRunner(measured_bundle, request.engine, request.scores)
    for (data, frames), measured in zip(opened, classes, strict=True):
        runs.append(run_set(runner, data, frames, measured, request.save_scores, request.exact_only))
    runner.close()
    if not any(run.results["frames"] for run in runs):
        raise ValueError("none of the frames could be read")
    figures = _figures(measured_bundle, runs)
    if request.record:
        for run in runs:
            bundle = record(bundle, run, request.held_out)
    if request.json is not None:
        write_json(request.json, figures, indent=2)
    shown = [EvaluatedSet(run.data.name, run.frames, run.evaluation, run.results) for run in runs]
    output_folder.add(REPORT)
    write_report(request.out / REPORT, bundle, shown, figures)
    return figures


def claimed_output(written: Mapping[str, Path | None], read: Mapping[str, Path]) -> OutputFolder:
    """The folder of the report, after a check that no output overlaps an input.

    Args:
        written: option to its path; `--out` and `--json` are there.
        read: option to its path.
    """
    for option, path in written.items():
        if path is not None:
            check_apart(option, path, read)
    out, json = written["--out"], written["--json"]
    assert out is not None
    folder = OutputFolder.join(out, "evaluate", [REPORT])
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
    return folder


def _figures(bundle: Bundle, runs: Sequence[SetRun]) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "bundle": bundle.description.name,
        "input_sizes": bundle.description.input.sizes_text,
        "score": bundle.description.score.name,
        "sets": {},
    }
    for run in runs:
        figures["sets"][run.data.name] = run.results
        for score, results in run.other_results.items():
            scores = figures.setdefault("scores", {})
            scores.setdefault(str(score), {"sets": {}})["sets"][run.data.name] = results
    return figures
