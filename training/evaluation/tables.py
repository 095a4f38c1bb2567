"""Output of the evaluations on the command line: tables of figures, and messages. Needs no torch."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ros_ood_perception.shown_text import printable

console = Console(stderr=True)

SCORE_COLUMNS = {
    "median": "median score, %",
    "FPR95": "marked at 95 % recall, %",
    "marked": "marked by the bundle, %",
}
"""Columns about the anomaly score in the table of classes, by the key of the figures."""


def say(message: str) -> None:
    """Print a line to standard error, without interpreting markup or control characters in it."""
    console.print(printable(message), markup=False, highlight=False, soft_wrap=True)


def print_tables(output: dict[str, Any]) -> None:
    """Print a table of anomalies for each set, with a row for each score, and a table of classes."""
    own_score = f"{output['score']} (the bundle's)" if "bundle" in output else output["score"]
    by_score = {own_score: output["sets"]} | {score: found["sets"] for score, found in output.get("scores", {}).items()}
    out = output_console()
    for name, own in output["sets"].items():
        if "exact" not in own:
            continue
        out.print(f"\n{_shown(name)}, {own['frames']} frames: anomalies, %", highlight=False)
        table = Table()
        table.add_column("score")
        columns = ["AP", "FPR95", "AUROC", "AUTC", "AUPIMO"]
        if "official" in own:
            columns += ["official AP", "official FPR95", "sIoU", "PPV", "mean F1"]
        for column in columns:
            table.add_column(column, justify="right")
        for score, sets in by_score.items():
            found = sets[name]
            cells = [found["exact"][c] for c in ("AP", "FPR95", "AUROC")]
            cells += [found["threshold_curves"]["AUTC"], found["per_image_overlap"]["AUPIMO"]]
            if "official" in own:
                cells += [found["official"][c] for c in ("AP", "FPR95")]
                cells += [found["component"][c] for c in ("sIoU", "PPV", "mean_F1")]
            table.add_row(_shown(score), *(percent(cell) for cell in cells))
        out.print(table)
    for name, found in output["sets"].items():
        if "semantic" not in found:
            continue
        out.print(f"\n{_shown(name)}, {found['frames']} frames: classes", highlight=False)
        table = Table()
        table.add_column("class")
        table.add_column("IoU, %", justify="right")
        by_class = found["scores_by_class"]
        columns = [key for key in SCORE_COLUMNS if key in by_class]
        for key in columns:
            table.add_column(SCORE_COLUMNS[key], justify="right")
        for label, iou in found["semantic"]["IoU"].items():
            table.add_row(_shown(label), percent(iou), *(percent(by_class[key][label]) for key in columns))
        table.add_section()
        table.add_row("mean", percent(found["semantic"]["mIoU"]))
        if "anomaly_median" in by_class:
            table.add_row("anomalies", "", percent(by_class["anomaly_median"]))
        out.print(table)
        monitor = found["error_monitor"]
        out.print(
            f"{name}: {percent(monitor['error_rate'])} % of the pixels are wrong; the score finds them with AUROC "
            f"{percent(monitor['AUROC'])} %, FPR95 {percent(monitor['FPR95'])} %, AURC {percent(monitor['AURC'])} % "
            f"({percent(monitor['excess_AURC'])} % above that of a perfect order)",
            highlight=False,
        )
    for name, found in output["sets"].items():
        for point, rates in found.get("operating_points", {}).items():
            true = f", {percent(rates['true_positive_rate'])} % of the anomaly pixels" if "exact" in found else ""
            out.print(
                f"{_shown(name)}: {_shown(point)} (score >= {rates['threshold']:.4f}) marks "
                f"{percent(rates['false_positive_rate'])} % of the inlier pixels{true}",
                highlight=False,
            )


def _shown(name: str) -> str:
    """The name of a class, a set or an operating point, for a table."""
    return escape(printable(name))


def output_console() -> Console:
    """A console for tables on standard output."""
    # Tables in a file are not cut to the width of a screen.
    return Console() if sys.stdout.isatty() else Console(width=160)


def percent(value: float | None) -> str:
    """A fraction as a percentage with two digits.

    >>> percent(0.98765), percent(None)
    ('98.77', 'undefined')
    """
    return "undefined" if value is None else f"{100 * value:.2f}"
