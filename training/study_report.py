"""Tables of a study: mean and spread over seeds, in Markdown, from the rows that `training.study` wrote.

python -m training.study_report docs/study/results.json > docs/study/tables.md
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

OWN_SCORE = "jensen_shannon_to_uniform"
Row = dict[str, Any]


def mean_and_spread(values: Sequence[float | None], percent: bool = True) -> str:
    """`12.3 ± 0.4`: mean and sample standard deviation; the value alone where there is one, `-` where there is none."""
    found = [value * (100 if percent else 1) for value in values if value is not None]
    if not found:
        return "-"
    digits = 1 if percent else 3
    text = f"{statistics.fmean(found):.{digits}f}"
    return f"{text} ± {statistics.stdev(found):.{digits}f}" if len(found) > 1 else text


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def exact(row: Row, score: str, data: str, metric: str) -> float | None:
    """A pooled pixel metric of a row; None where it was not measured or is undefined."""
    figures = row["measured"].get(score, {}).get(data, {}).get("exact", {})
    value: float | None = figures.get(metric)
    return value


def miou(row: Row) -> float | None:
    """mIoU on the set with classes; None where none was measured."""
    for figures in row["measured"][OWN_SCORE].values():
        if "semantic" in figures:
            value: float | None = figures["semantic"]["mIoU"]
            return value
    return None


def variants_of(rows: Sequence[Row]) -> list[str]:
    """Names in the order of the file."""
    return list(dict.fromkeys(row["variant"] for row in rows))


def _ap_and_fpr(rows: Sequence[Row], score: str, data: str) -> str:
    parts = [mean_and_spread([exact(row, score, data, metric) for row in rows]) for metric in ("AP", "FPR95")]
    return " / ".join(parts)


def by_variant(rows: Sequence[Row], score: str = OWN_SCORE) -> str:
    """A line a variant: classes, anomalies by one score, cost."""
    sets = _anomaly_sets(rows)
    lines = []
    for name in variants_of(rows):
        own = [row for row in rows if row["variant"] == name]
        lines.append(
            [
                name,
                str(len(own)),
                mean_and_spread([miou(row) for row in own]),
                *(_ap_and_fpr(own, score, data) for data in sets),
                mean_and_spread([row["seconds_per_step"] for row in own], percent=False),
            ]
        )
    return table(["variant", "seeds", "mIoU", *(f"{data} AP / FPR95" for data in sets), "s / step"], lines)


def by_score(rows: Sequence[Row], variant: str) -> str:
    """A line a score of one variant."""
    own = [row for row in rows if row["variant"] == variant]
    sets = _anomaly_sets(rows)
    scores = list(dict.fromkeys(score for row in own for score in row["measured"]))
    lines = [[score, *(_ap_and_fpr(own, score, data) for data in sets)] for score in scores]
    return table(["score", *(f"{data} AP / FPR95" for data in sets)], lines)


def _anomaly_sets(rows: Sequence[Row]) -> list[str]:
    found = (data for row in rows for data, f in row["measured"][OWN_SCORE].items() if "exact" in f)
    return [name for name in dict.fromkeys(found) if any(exact(r, OWN_SCORE, name, "AP") is not None for r in rows)]


def report(rows: Sequence[Row]) -> str:
    """All tables. In percent; mean ± standard deviation over seeds."""
    main_rows = [row for row in rows if not row["held_out"]]
    held_out = [row for row in rows if row["held_out"]]
    parts = ["AP / FPR95 and mIoU in percent, mean ± standard deviation over the seeds.\n"]

    def add(title: str, make: Callable[[], str]) -> None:
        parts.append(f"\n## {title}\n\n{make()}")

    if main_rows:
        add(f"Variants, score {OWN_SCORE} at temperature 1", lambda: by_variant(main_rows))
        for name in variants_of(main_rows):
            add(f"Scores of {name}", lambda name=name: by_score(main_rows, name))  # type: ignore[misc]
    if held_out:
        classes = ", ".join(held_out[0]["held_out"])
        add(f"{classes} held out, score {OWN_SCORE} at temperature 1", lambda: by_variant(held_out))
        for name in variants_of(held_out):
            add(f"{classes} held out: scores of {name}", lambda name=name: by_score(held_out, name))  # type: ignore[misc]
    return "".join(parts)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.study_report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=Path, help="JSON file that training.study wrote")
    options = parser.parse_args(arguments)
    try:
        rows = json.loads(options.results.read_text(encoding="utf-8"))["rows"]
        text = report(rows)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"study_report: {options.results}: not the results of a study ({error})", file=sys.stderr)
        return 2
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
