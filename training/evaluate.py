"""Measure a bundle on labelled frames, through the engine that ships.

    python -m training.evaluate models/camvid_small --data camvid:FOLDER/test
    python -m training.evaluate models/camvid_small --data smiyc_anomaly_val:FOLDER --data smiyc_obstacle_val:FOLDER
    python -m training.evaluate models/camvid_small --data cityscapes:FOLDER@val --json result.json

A data set is NAME:PATH or NAME:PATH@SPLIT. NAME is a registered set (`--list`), and may go on with `_WORD` to tell
two folders of one set apart: `camvid_night` is read as `camvid`. What the set labels is measured: its classes, its
anomalies, or both. The report with curves and pictures goes to OUT/report.html.

`--score` measures other anomaly scores than the bundle's, computed from the same logits. `--record` writes the figures
and the command into the bundle. `--held-out` makes anomalies of a training set's classes, and measures on the frames
that show them (in the way of BDD-Anomaly, which takes both splits).
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from rich.table import Table

from ros_ood_perception.bundle.model_bundle import Bundle, BundleError, Measurement, read_bundle, write_description
from ros_ood_perception.files.json_files import write_json
from ros_ood_perception.files.output_folder import OutputFolder, check_apart
from ros_ood_perception.inference.engine import ENGINES, EngineError
from ros_ood_perception.inference.perception import FramePerception
from ros_ood_perception.shown_text import error_line, printable
from training.bundles.bundle_graph import GraphError
from training.bundles.bundle_runner import BundleRunner, LogitScore
from training.data.held_out import HeldOut
from training.data.labelled_frames import BrokenFrameError, LabelledFrames, read_image
from training.data.registry import DATA_SETS, open_data_set, registered
from training.evaluation.metrics.anomaly_pixels import MetricInputError
from training.evaluation.report import EvaluatedSet, write_report
from training.evaluation.set_evaluation import SetEvaluation
from training.evaluation.smiyc_scores import harness_folder, submitted, write_scores
from training.evaluation.tables import console, output_console, print_tables, say
from training.segmenter.anomaly_scores import SCORES

REPORT = "report.html"
SCORE_METRICS = ("AP", "FPR95")
"""What `--record` writes of a set with anomalies: figures of the score, which another temperature changes."""


@dataclass(frozen=True)
class DataArgument:
    """One `--data NAME:PATH[@SPLIT]`."""

    name: str
    path: Path
    split: str | None = None

    @property
    def shown(self) -> str:
        """NAME:FOLDER/PATH[@SPLIT], with the last part of the path only: what a record may say."""
        return f"{self.name}:FOLDER/{self.path.name}{f'@{self.split}' if self.split else ''}"


def data_argument(text: str) -> DataArgument:
    """NAME:PATH or NAME:PATH@SPLIT, as argparse wants it.

    Raises:
        argparse.ArgumentTypeError: neither, or a set that is not registered.
    """
    name, separator, path = text.partition(":")
    if not separator or not path:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME:PATH or NAME:PATH@SPLIT")
    try:
        registered(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    # A folder's own name may hold an @.
    folder, at, split = path.rpartition("@")
    if at and not Path(path).exists():
        return DataArgument(name, Path(folder), split)
    return DataArgument(name, Path(path))


def score_argument(text: str) -> LogitScore:
    """NAME or NAME@T, as argparse wants it."""
    try:
        return LogitScore.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def open_frames(data: DataArgument, held_out: Sequence[str]) -> LabelledFrames:
    """The frames of one `--data`.

    Raises:
        ValueError, FileNotFoundError: as their messages say.
    """
    frames = open_data_set(data.name, data.path, data.split)
    if not held_out:
        return frames
    if not frames.classes or frames.has_anomalies:
        raise ValueError(f"--held-out needs a training set; {frames.title} has anomalies of its own")
    return HeldOut(frames, held_out).test


def measured_classes(bundle: Bundle, frames: LabelledFrames, name: str) -> list[str]:
    """Names of the classes to measure: the bundle's, where the set has the same; none where it has none.

    Raises:
        ValueError: the set has other classes and nothing else to measure.
    """
    own = [known.name for known in bundle.description.classes]
    theirs = [known.name for known in frames.classes]
    if own == theirs:
        return own
    if theirs and not frames.has_anomalies:
        raise ValueError(f"{name}: the bundle's classes are {own}; the data set's are {theirs}")
    if theirs:
        say(f"{name}: has other classes than the bundle; only its anomalies are measured")
    return []


@dataclass
class SetRun:
    """One data set, measured.

    Attributes:
        evaluation: of the bundle's own score.
        results: its figures.
        other_results: the figures of the other scores that were asked for; none in a set without anomalies.
        left_out: a message for each frame that could not be read.
    """

    data: DataArgument
    frames: LabelledFrames
    evaluation: SetEvaluation
    results: dict[str, Any]
    other_results: dict[LogitScore, dict[str, Any]]
    left_out: list[str]


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
        exact_only: of the anomaly metrics only the exact ones.

    Raises:
        EngineError: the engine failed, or gave scores that are not in [0, 1]; the message names the frame.
    """
    name = registered(data.name)
    operating_points = runner.bundle.description.operating_points
    evaluation = SetEvaluation(name, classes, frames.has_anomalies, operating_points, exact_only)
    scores = runner.scores if frames.has_anomalies else ()
    others = {score: SetEvaluation(name, [], True, exact_only=exact_only) for score in scores}
    left_out: list[str] = []

    def leave_out(error: BrokenFrameError) -> None:
        say(f"left out: {error}")
        left_out.append(str(error))

    def perceived(image: NDArray[np.uint8], frame_name: str) -> FramePerception:
        try:
            return runner.perceive(image)
        except EngineError as error:
            raise EngineError(f"{data.name}, frame {frame_name}: {error}") from error

    def save(frame_name: str, value: NDArray[np.float16]) -> None:
        if save_scores is not None:
            folder = harness_folder(name, data.name, data.split)
            write_scores(save_scores, runner.bundle.description.name, folder, frame_name, value)

    for index in _tracked(range(len(frames)), data.name):
        try:
            frame = frames[index]
        except BrokenFrameError as error:
            leave_out(error)
            continue
        found = perceived(frame.image, frame.name)
        confidence = runner.confidence(found.frame_size) if classes else None
        save(frame.name, evaluation.update(frame, found.semantic, found.anomaly_score, confidence))
        for score, other in others.items():
            other.update(frame, found.semantic, runner.other_score(score, found.frame_size), None)
    if save_scores is not None and frames.unlabelled:
        for paths in _tracked(frames.unlabelled, f"{data.name}, frames without labels"):
            try:
                image = read_image(paths.image)
            except BrokenFrameError as error:
                leave_out(error)
                continue
            save(paths.name, submitted(perceived(image, paths.name).anomaly_score))
    results, other_results = evaluation.results(), {}
    # What was counted for the other scores is given back here: it is more than a hundred megabytes a score.
    while others:
        score, other = others.popitem()
        other_results[score] = other.results()
        other.close()
    if left_out:
        for figures in (results, *other_results.values()):
            figures["left_out"] = left_out
    ordered = {score: other_results[score] for score in runner.scores if score in other_results}
    return SetRun(data, frames, evaluation, results, ordered, left_out)


def _tracked(items: Any, title: str) -> Any:
    return track(items, title, console=console, disable=not console.is_terminal)


def record(bundle: Bundle, run: SetRun, held_out: Sequence[str]) -> Bundle:
    """The bundle with the set's figures in its training record; they replace earlier ones of the same data."""
    title = f"{run.data.name}, {' and '.join(held_out)} as anomalies" if held_out else run.data.name
    what = f"{title} ({run.data.split or run.data.path.name}, {run.results['frames']} frames)"
    command = f"python -m training.evaluate models/{bundle.description.name} --data {run.data.shown}"
    command += "".join(f" --held-out {shlex.quote(name)}" for name in held_out)
    figures = {"mIoU": run.results.get("semantic", {}).get("mIoU")}
    figures |= {key: run.results.get("exact", {}).get(key) for key in SCORE_METRICS}
    training = bundle.description.training
    kept = [m for m in training.measurements if m.data != what or m.metric not in figures]
    added = [Measurement(key, round(value, 4), what, command) for key, value in figures.items() if value is not None]
    description = replace(bundle.description, training=replace(training, measurements=(*kept, *added)))
    write_description(bundle.folder, description)
    return read_bundle(bundle.folder)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0, 1 when frames were left out, 2 when nothing could be measured."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, nargs="?", help="folder of the model bundle")
    parser.add_argument("--data", type=data_argument, action="append", default=[], metavar="NAME:PATH[@SPLIT]")
    parser.add_argument(
        "--score", type=score_argument, action="append", default=[], metavar="NAME[@T]", help="also this score"
    )
    parser.add_argument("--held-out", action="append", default=[], metavar="CLASS", help="make anomalies of this class")
    parser.add_argument(
        "--exact-only", action="store_true", help="no SMIYC, per-image and component protocols: about half the time"
    )
    parser.add_argument("--engine", default="auto", choices=ENGINES)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--out", type=Path, default=Path("out/evaluation"), help="where report.html goes")
    parser.add_argument("--save-scores", type=Path, metavar="DIR", help="write HDF5 files for the SMIYC harness there")
    parser.add_argument("--record", action="store_true", help="write the figures into the bundle")
    parser.add_argument("--list", action="store_true", help="list the data sets and scores, and stop")
    options = parser.parse_args(arguments)
    if options.list:
        _print_list()
        return 0
    if options.bundle is None or not options.data:
        parser.error("give a bundle and at least one --data NAME:PATH (--list shows the names)")
    names = [data.name for data in options.data]
    runs: list[SetRun] = []
    try:
        if len(set(names)) < len(names):
            raise ValueError(f"--data: {', '.join(names)}: the same NAME twice; tell them apart as NAME_WORD")
        bundle = read_bundle(options.bundle)
        # All sets are opened before the first is measured: a wrong path must not cost the work on the others.
        opened = [(data, open_frames(data, options.held_out)) for data in options.data]
        classes = [measured_classes(bundle, frames, data.name) for data, frames in opened]
        # And so is what is written to.
        written = {"--out": options.out, "--json": options.json, "--save-scores": options.save_scores}
        read = {"the bundle": options.bundle, **{f"--data {data.name}": data.path for data in options.data}}
        for option, path in written.items():
            if path is not None:
                check_apart(option, path, read)
        output_folder = OutputFolder.join(options.out, "evaluate", [REPORT])
        if options.json is not None:
            options.json.parent.mkdir(parents=True, exist_ok=True)
        runner = BundleRunner(bundle, options.engine, options.score)
        for (data, frames), measured in zip(opened, classes, strict=True):
            runs.append(run_set(runner, data, frames, measured, options.save_scores, options.exact_only))
        runner.close()
        if not any(run.results["frames"] for run in runs):
            raise ValueError("none of the frames could be read")
        output: dict[str, Any] = {"bundle": bundle.description.name, "score": bundle.description.score.name, "sets": {}}
        for run in runs:
            output["sets"][run.data.name] = run.results
            for score, results in run.other_results.items():
                scores = output.setdefault("scores", {})
                scores.setdefault(str(score), {"sets": {}})["sets"][run.data.name] = results
            if options.record:
                bundle = record(bundle, run, options.held_out)
        if options.json is not None:
            write_json(options.json, output, indent=2)
        shown = [EvaluatedSet(run.data.name, run.frames, run.evaluation, run.results) for run in runs]
        output_folder.add(REPORT)
        write_report(options.out / REPORT, bundle, shown, output)
    except (BundleError, EngineError, GraphError, MetricInputError, OSError, ValueError) as error:
        print(f"evaluate: {error_line(error)}", file=sys.stderr)
        return 2
    finally:
        for run in runs:
            run.evaluation.close()
    print_tables(output)
    say(f"report: {options.out / REPORT}")
    left_out = [message for run in runs for message in run.left_out]
    if left_out:
        print(f"evaluate: {len(left_out)} frame(s) left out:", *map(printable, left_out), sep="\n  ", file=sys.stderr)
        return 1
    return 0


def _print_list() -> None:
    out = output_console()
    table = Table(title="Data sets", title_justify="left")
    table.add_column("name", no_wrap=True)
    for column in ("what", "splits", "where it is to be had"):
        table.add_column(column, overflow="fold")
    for name, data_set in DATA_SETS.items():
        described: Any = data_set
        table.add_row(name, described.title, ", ".join(described.splits) or "-", described.source)
    out.print(table)
    out.print("Scores:", ", ".join(SCORES), highlight=False)


if __name__ == "__main__":
    sys.exit(main())
