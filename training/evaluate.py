"""Measure a bundle on labelled frames, with an engine that the vehicle uses.

    python -m training.evaluate models/camvid_small --data camvid:FOLDER/test
    python -m training.evaluate models/camvid_small --data smiyc_anomaly_val:FOLDER --data smiyc_obstacle_val:FOLDER
    python -m training.evaluate models/camvid_small --data cityscapes:FOLDER@val --json result.json

A data set is NAME:PATH or NAME:PATH@SPLIT. NAME is a registered set (`--list`). A suffix `_WORD` tells two folders of
one set apart: `camvid_night` is read as `camvid`. The labels of a set decide what is measured: classes, anomalies or
both. A report with curves and pictures is written to OUT/report.html.

`--score` measures further anomaly scores, computed from the same logits. `--record` writes the figures and the command
into the bundle. `--held-out` turns classes of a training set into anomalies and measures on the frames that show them
(as BDD-Anomaly does, which takes both splits).

    python -m training.evaluate --scores FOLDER --data smiyc_anomaly_val:PATH

measures the anomaly scores of another method: one file for each frame, with its name (.hdf5 of the SMIYC harness, .npy,
.png of 16 bits, .tif). Higher must be more anomalous. Without a bundle, with the same metrics.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rich.table import Table

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.inference.engine_names import ENGINES
from ros_ood_perception.number_arguments import whole
from ros_ood_perception.shown_text import error_line, printable
from training.bundles.runner import LogitScore
from training.data.arguments import data_argument
from training.data.registry import DATA_SETS
from training.evaluation.bundle_evaluation import REPORT, Evaluation, EvaluationRequest, evaluate_bundle
from training.evaluation.score_evaluation import ScoresRequest, evaluate_scores
from training.evaluation.tables import output_console, print_tables, say
from training.segmenter.mask_scores import ALL_SCORES


def score_argument(text: str) -> LogitScore:
    """NAME or NAME@T, as argparse wants it."""
    try:
        return LogitScore.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code.

    0: measured; 1: frames were left out, or a set has void where its anomalies should be; 2: nothing could be measured.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list:
        _print_list()
        return 0
    if options.scores is not None:
        _check_options_of_scores(parser, options)
    elif options.bundle is None or not options.data:
        parser.error("give a bundle and at least one --data NAME:PATH (--list shows the names)")
    try:
        evaluation = _evaluated(options)
    except (PerceptionError, OSError, ValueError) as error:
        print(f"evaluate: {error_line(error)}", file=sys.stderr)
        return 2
    print_tables(evaluation.figures)
    say(f"report: {options.out / REPORT}")
    left_out = evaluation.left_out
    if left_out:
        print(f"evaluate: {len(left_out)} frame(s) left out:", *map(printable, left_out), sep="\n  ", file=sys.stderr)
    for message in evaluation.void_for_anomalies:
        print(f"evaluate: {printable(message)}", file=sys.stderr)
    return 1 if left_out or evaluation.void_for_anomalies else 0


def _evaluated(options: argparse.Namespace) -> Evaluation:
    if options.scores is not None:
        return evaluate_scores(
            ScoresRequest(
                scores=options.scores,
                data=options.data[0],
                out=options.out,
                held_out=tuple(options.held_out),
                exact_only=options.exact_only,
                json=options.json,
            )
        )
    request = EvaluationRequest(
        bundle=options.bundle,
        data=options.data,
        out=options.out,
        engine=options.engine,
        scores=options.score,
        held_out=options.held_out,
        exact_only=options.exact_only,
        json=options.json,
        save_scores=options.save_scores,
        record=options.record,
        max_input_height=options.max_input_height,
    )
    return evaluate_bundle(request)


def _check_options_of_scores(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.bundle is not None or len(options.data) != 1:
        parser.error("--scores takes one --data NAME:PATH and no bundle")
    given = {"--score": options.score, "--save-scores": options.save_scores, "--record": options.record}
    given["--max-input-height"] = options.max_input_height
    unused = [name for name, value in given.items() if value]
    if unused:
        parser.error(f"{' and '.join(unused)}: only for a bundle, not with --scores")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, nargs="?", help="folder of the model bundle")
    parser.add_argument("--data", type=data_argument, action="append", default=[], metavar="NAME:PATH[@SPLIT]")
    parser.add_argument(
        "--score", type=score_argument, action="append", default=[], metavar="NAME[@T]", help="a further score"
    )
    parser.add_argument(
        "--held-out", action="append", default=[], metavar="CLASS", help="turn this class into anomalies"
    )
    parser.add_argument(
        "--scores", type=Path, metavar="FOLDER", help="measure the scores in FOLDER/FRAME.hdf5 (.npy, .png, .tif)"
    )
    parser.add_argument(
        "--exact-only", action="store_true", help="skip the SMIYC, per-image and component protocols: half the time"
    )
    parser.add_argument("--engine", default="auto", choices=ENGINES)
    parser.add_argument(
        "--max-input-height",
        type=whole(0, 16384),
        default=0,
        metavar="ROWS",
        help="leave out the bundle's further input sizes of more rows, as the node's parameter does (default: use all)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    parser.add_argument(
        "--out", type=Path, default=Path("out/evaluation"), help="folder for report.html (default: out/evaluation)"
    )
    parser.add_argument("--save-scores", type=Path, metavar="DIR", help="write HDF5 files for the SMIYC harness to DIR")
    parser.add_argument("--record", action="store_true", help="write the figures into the bundle")
    parser.add_argument("--list", action="store_true", help="list data sets and scores, and exit")
    return parser


def _print_list() -> None:
    out = output_console()
    table = Table(title="Data sets", title_justify="left")
    table.add_column("name", no_wrap=True)
    for column in ("data set", "splits", "source"):
        table.add_column(column, overflow="fold")
    for name, data_set in DATA_SETS.items():
        described: Any = data_set
        table.add_row(name, described.title, ", ".join(described.splits) or "-", described.source)
    out.print(table)
    out.print("Scores:", ", ".join(ALL_SCORES), highlight=False)


if __name__ == "__main__":
    sys.exit(main())
