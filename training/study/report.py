"""Tables of a study in Markdown: mean and spread over seeds, from the rows of `training.study`.

    python -m training.study.report docs/study/results.json > docs/study/tables.md
    python -m training.study.report A.json B.json --merge docs/study/results.json --chart docs/study/chart.png
    python -m training.study.report docs/study/results.json --compare frozen_flow_blob joint_flow_blob

Several files are parts of one study, each written with its own `--results`. Of two rows for the same variant and seed,
that of the last file counts. `--merge` writes all rows to one file, `--chart` draws them. `--compare` compares two
variants seed by seed. Runs with one seed draw the same frames and patches, so the difference within a seed says more
than that of the means.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ros_ood_perception.files.atomic_files import naming, write_file
from ros_ood_perception.files.json_files import write_json
from ros_ood_perception.files.output_folder import check_apart
from ros_ood_perception.shown_text import error_line, markdown_cell
from training.study.config import OWN_SCORE

Row = dict[str, Any]


def mean_and_spread(values: Sequence[float | None], percent: bool = True) -> str:
    """Mean and sample standard deviation; without the latter for one value, `-` for none.

    >>> mean_and_spread([0.12, 0.14, None])
    '13.0 ± 1.4'
    """
    found = [value * (100 if percent else 1) for value in values if value is not None]
    if not found:
        return "-"
    digits = 1 if percent else 3
    text = f"{statistics.fmean(found):.{digits}f}"
    return f"{text} ± {statistics.stdev(found):.{digits}f}" if len(found) > 1 else text


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    r"""A Markdown table.

    >>> table(["variant", "AP"], [["flow", "12.3"]])
    '| variant | AP |\n| --- | --- |\n| flow | 12.3 |\n'
    """
    rows = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(map(markdown_cell, row))} |\n" for row in rows)


def exact(row: Row, score: str, data: str, metric: str) -> float | None:
    """An exact pixel metric of a row; None if it was not measured or is undefined."""
    figures = row["measured"].get(score, {}).get(data, {}).get("exact", {})
    value: float | None = figures.get(metric)
    return value


def miou(row: Row) -> float | None:
    """mIoU on the set with classes; None if there is none."""
    for figures in row["measured"][OWN_SCORE].values():
        if "semantic" in figures:
            value: float | None = figures["semantic"]["mIoU"]
            return value
    return None


def variants_of(rows: Sequence[Row]) -> list[str]:
    """Names of the variants, in the order of the file."""
    return list(dict.fromkeys(row["variant"] for row in rows))


def _ap_and_fpr(rows: Sequence[Row], score: str, data: str) -> str:
    parts = [mean_and_spread([exact(row, score, data, metric) for row in rows]) for metric in ("AP", "FPR95")]
    return " / ".join(parts)


def by_variant(rows: Sequence[Row], score: str = OWN_SCORE) -> str:
    """A table with a line for each variant: classes, anomalies by one score, cost."""
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


def by_reliability(rows: Sequence[Row], score: str = OWN_SCORE) -> str:
    """A table with a line for each variant: the score as a monitor of errors, then AUTC and AUPIMO of each set.

    Empty if no row has these figures, as in studies of earlier versions.
    """
    sets = _anomaly_sets(rows)
    lines = []
    for name in variants_of(rows):
        measured = [row["measured"].get(score, {}) for row in rows if row["variant"] == name]
        monitors = [f["error_monitor"] for own in measured for f in own.values() if "error_monitor" in f]
        cells = [mean_and_spread([m[key] for m in monitors]) for key in ("AUROC", "AURC", "excess_AURC")]
        for data in sets:
            figures = [own.get(data, {}) for own in measured]
            autc = [f.get("threshold_curves", {}).get("AUTC") for f in figures]
            aupimo = [f.get("per_image_overlap", {}).get("AUPIMO") for f in figures]
            cells.append(f"{mean_and_spread(autc)} / {mean_and_spread(aupimo)}")
        if any(cell not in ("-", "- / -") for cell in cells):
            lines.append([name, *cells])
    head = ["variant", "errors: AUROC", "AURC", "above a perfect order's"]
    return table([*head, *(f"{data} AUTC / AUPIMO" for data in sets)], lines) if lines else ""


def by_score(rows: Sequence[Row], variant: str) -> str:
    """A table with a line for each score of one variant."""
    own = [row for row in rows if row["variant"] == variant]
    sets = _anomaly_sets(rows)
    scores = list(dict.fromkeys(score for row in own for score in row["measured"]))
    lines = [[score, *(_ap_and_fpr(own, score, data) for data in sets)] for score in scores]
    return table(["score", *(f"{data} AP / FPR95" for data in sets)], lines)


def _anomaly_sets(rows: Sequence[Row]) -> list[str]:
    found = (data for row in rows for data, f in row["measured"][OWN_SCORE].items() if "exact" in f)
    return [name for name in dict.fromkeys(found) if any(exact(r, OWN_SCORE, name, "AP") is not None for r in rows)]


def comparison(rows: Sequence[Row], first: str, second: str, score: str = OWN_SCORE) -> str:
    """A table with a line for each set: `second` minus `first` in points, as mean and for each common seed.

    Raises:
        ValueError: no seed was run with both variants.
    """
    lines = []
    for held_out in dict.fromkeys(tuple(row["held_out"]) for row in rows):
        here = {(r["variant"], r["seed"]): r for r in rows if tuple(r["held_out"]) == held_out}
        pairs = [(here[first, s], here[second, s]) for name, s in here if name == first and (second, s) in here]
        for data in _anomaly_sets([row for pair in pairs for row in pair]):
            cells = []
            for metric in ("AP", "FPR95"):
                found = [tuple(exact(row, score, data, metric) for row in pair) for pair in pairs]
                points = [100 * (b - a) for a, b in found if a is not None and b is not None]
                each = ", ".join(f"{value:+.1f}" for value in points)
                cells.append(f"{statistics.fmean(points):+.1f} ({each})" if points else "-")
            lines.append([f"{data}{', without ' if held_out else ''}{', '.join(held_out)}", *cells])
    if not lines:
        raise ValueError(f"no seed was run with both {first} and {second}; there are {', '.join(variants_of(rows))}")
    return table([f"{second} against {first}", "AP", "FPR95"], lines)


def report(rows: Sequence[Row]) -> str:
    """All tables, in percent: mean ± standard deviation over seeds."""
    main_rows = [row for row in rows if not row["held_out"]]
    held_out = [row for row in rows if row["held_out"]]
    parts = ["AP / FPR95 and mIoU in percent, mean ± standard deviation over the seeds.\n"]

    def add(title: str, make: Callable[[], str]) -> None:
        parts.append(f"\n## {title}\n\n{make()}")

    if main_rows:
        add(f"Variants, score {OWN_SCORE} at temperature 1", lambda: by_variant(main_rows))
        reliability = by_reliability(main_rows)
        if reliability:
            add("Errors found, AUTC (less is better) and AUPIMO", lambda: reliability)
        for name in variants_of(main_rows):
            add(f"Scores of {name}", lambda name=name: by_score(main_rows, name))  # type: ignore[misc]
    if held_out:
        classes = ", ".join(held_out[0]["held_out"])
        add(f"{classes} held out, score {OWN_SCORE} at temperature 1", lambda: by_variant(held_out))
        for name in variants_of(held_out):
            add(f"{classes} held out: scores of {name}", lambda name=name: by_score(held_out, name))  # type: ignore[misc]
    return "".join(parts)


def merged_results(files: Sequence[Path]) -> dict[str, Any]:
    """The rows of one study from several files: rows without held-out classes first, then by variant and seed.

    The configuration is that of the last file, because variants may have been added.

    Raises:
        OSError, ValueError: a file cannot be read, is not of a study, or has rows that the last file's study lacks.
    """
    contents: dict[str, Any] = {}
    rows: dict[tuple[str, int, tuple[str, ...]], Row] = {}
    for path in files:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            rows |= {(row["variant"], row["seed"], tuple(row["held_out"])): row for row in found["rows"]}
            study, variants = found["study"], list(found["config"]["variants"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: not the results of a study ({error})") from error
        if contents and study != contents["study"]:
            raise ValueError(f"{path}: is of the study '{study}', {files[0]} of '{contents['study']}'")
        contents = found
    unknown = sorted({name for name, _, _ in rows} - set(variants))
    if unknown:
        raise ValueError(
            f"{files[-1]}: the study '{study}' has no variant {', '.join(unknown)}, of which there are rows"
        )
    ordered = sorted(rows, key=lambda key: (key[2], variants.index(key[0]), key[1]))
    return {**contents, "rows": [rows[key] for key in ordered]}


def draw(rows: Sequence[Row], path: Path, score: str = OWN_SCORE) -> None:
    """Draw variants as rows, AP and FPR95 of every anomaly set as columns: a dot for each seed, a stroke at the mean.

    Raises:
        ValueError: no set with anomalies was measured.
    """
    # Drawing needs matplotlib, the tables do not.
    from training.evaluation.report_page import pyplot

    groups = [("", [row for row in rows if not row["held_out"]])]
    held_out = [row for row in rows if row["held_out"]]
    if held_out:
        groups.append((f", {', '.join(held_out[0]['held_out'])} held out", held_out))
    panels = [(data, suffix, own) for suffix, own in groups for data in _anomaly_sets(own)]
    if not panels:
        raise ValueError("no set with anomalies was measured, so there is nothing to draw")
    variants = variants_of(rows)
    figure, axes = pyplot.subplots(
        1, 2 * len(panels), figsize=(3 + 3.4 * len(panels), 1 + 0.27 * len(variants)), sharey=True, squeeze=False
    )
    for (axis, metric), (data, suffix, own) in zip(
        [(axis, metric) for pair in axes.reshape(-1, 2) for axis, metric in zip(pair, ("AP", "FPR95"), strict=True)],
        [panel for panel in panels for _ in range(2)],
        strict=True,
    ):
        colour = "tab:green" if metric == "AP" else "tab:red"
        for place, name in enumerate(variants):
            values = [exact(row, score, data, metric) for row in own if row["variant"] == name]
            there = [100 * value for value in values if value is not None]
            if there:
                axis.plot(there, [place] * len(there), "o", color=colour, alpha=0.45, markersize=4)
                axis.plot(statistics.fmean(there), place, "|", color=colour, markersize=12, markeredgewidth=2)
        axis.set_title(f"{data}{suffix}\n{metric}, %, {'more' if metric == 'AP' else 'less'} is better", fontsize=8)
        axis.set_xlim(0, 1.05 * max(axis.dataLim.x1, 1))
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=8)
    axes[0, 0].set_yticks(range(len(variants)), variants)
    axes[0, 0].invert_yaxis()
    figure.tight_layout()
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110, format=path.suffix.lstrip(".") or None)
    pyplot.close(figure)
    with naming(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, drawn.getvalue())


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.study.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=Path, nargs="+", help="JSON files of training.study")
    parser.add_argument("--merge", type=Path, metavar="FILE", help="write the rows of all files to FILE")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw the variants to FILE, .png or .svg")
    parser.add_argument(
        "--compare", nargs=2, metavar=("A", "B"), help="print the difference of variant B minus A, by seed"
    )
    parser.add_argument(
        "--score",
        default=OWN_SCORE,
        help="score of the chart and of --compare, NAME or NAME@T (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    try:
        for option, path in (("--merge", options.merge), ("--chart", options.chart)):
            if path is not None:
                check_apart(option, path, {f"results {read}": read for read in options.results})
        contents = merged_results(options.results)
        rows = contents["rows"]
        if not any(options.score in row["measured"] for row in rows):
            known = ", ".join(dict.fromkeys(score for row in rows for score in row["measured"]))
            raise ValueError(f"--score {options.score}: was not measured; there are {known or 'none'}")
        if options.compare:
            first, second = options.compare
            text = comparison(rows, first, second, options.score)
        else:
            text = report(rows)
        if options.chart is not None:
            draw(rows, options.chart, options.score)
        if options.merge is not None:
            write_json(options.merge, contents)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"study_report: {error_line(error)}", file=sys.stderr)
        return 2
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
