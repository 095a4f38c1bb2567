"""The report of an evaluation: one HTML file with tables, curves and the worst frames as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle.model_bundle import Bundle
from ros_ood_perception.messages.overlay import score_picture
from training.data.labelled_frames import ANOMALY, INLIER, LabelledFrames
from training.evaluation.report_page import picture_uri, pyplot, svg_uri, write_page
from training.evaluation.set_evaluation import SetEvaluation, WorstFrame
from training.evaluation.tables import SCORE_COLUMNS

TEMPLATE = Path(__file__).with_name("evaluation_report.html.jinja")
HISTOGRAM_BINS = 64
INLIER_COLOUR, ANOMALY_COLOUR = "#2a6f9d", "#e07b00"


@dataclass(frozen=True)
class EvaluatedSet:
    """One set in the report: its frames, for pictures, and its figures."""

    name: str
    frames: LabelledFrames
    evaluation: SetEvaluation
    results: dict[str, Any]


@dataclass(frozen=True)
class Picture:
    """A frame with many wrong pixels: its name, a note, and pictures as data URIs by caption."""

    name: str
    note: str
    panels: dict[str, str]


def write_report(path: Path, bundle: Bundle | None, sets: Sequence[EvaluatedSet], output: dict[str, Any]) -> None:
    """Write the report.

    Args:
        bundle: that was measured; None for scores of another method.
        output: all figures, as in the JSON file.
    """
    write_page(
        path,
        TEMPLATE,
        bundle=None if bundle is None else bundle.description,
        output=output,
        score_columns=SCORE_COLUMNS,
        sets=[_shown(evaluated) for evaluated in sets],
    )


def _shown(evaluated: EvaluatedSet) -> dict[str, Any]:
    charts: dict[str, str] = {}
    if evaluated.evaluation.has_anomalies and evaluated.results["exact"]["AP"] is not None:
        charts["Precision over recall"] = _precision_recall(evaluated)
        charts["ROC, false-positive rate from 0.01 %"] = _roc(evaluated)
    if evaluated.evaluation.frames:
        charts["Scores of the pixels"] = _histogram(evaluated)
    if evaluated.evaluation.calibration.pixels.any():
        charts["Reliability of the classes"] = _reliability(evaluated)
    wanted = {worst.name for worst in (*evaluated.evaluation.false_alarms, *evaluated.evaluation.misses)}
    panels = _panels(evaluated, wanted)
    return {
        "name": evaluated.name,
        "title": evaluated.frames.title,
        "terms": evaluated.frames.terms,
        "results": evaluated.results,
        "charts": charts,
        "false_alarms": _pictures(evaluated.evaluation.false_alarms, panels, "of the inlier pixels above"),
        "misses": _pictures(evaluated.evaluation.misses, panels, "of the anomaly pixels below"),
    }


def _pictures(worst: Sequence[WorstFrame], panels: dict[str, dict[str, str]], what: str) -> list[Picture]:
    return [
        Picture(w.name, f"{w.share:.1%} {what} the threshold", panels[w.name])
        for w in worst
        if w.share > 0 and w.name in panels
    ]


def _panels(evaluated: EvaluatedSet, names: set[str]) -> dict[str, dict[str, str]]:
    index = {paths.name: i for i, paths in enumerate(evaluated.frames.files)}
    panels = {}
    for scored in evaluated.evaluation.scored_frames():
        if scored.name not in names:
            continue
        image = evaluated.frames[index[scored.name]].image
        panels[scored.name] = {
            "frame": picture_uri(image),
            "labels": picture_uri(_label_picture(image, scored.anomaly)),
            "anomaly score": picture_uri(score_picture(_shown_score(evaluated, scored.value))),
        }
    return panels


def _label_picture(image: NDArray[np.uint8], anomaly: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The frame, darkened where the label is unknown, orange on anomalies."""
    shown = (image * np.where((anomaly == INLIER) | (anomaly == ANOMALY), 1.0, 0.35)[..., None]).astype(np.uint8)
    shown[anomaly == ANOMALY] = shown[anomaly == ANOMALY] // 3 + np.array([170, 93, 0], np.uint8)
    return shown


def _shown_score(evaluated: EvaluatedSet, value: NDArray[np.float16]) -> NDArray[np.float32]:
    """(H, W) float32 in [0, 1], for a picture."""
    scale = evaluated.evaluation.scale
    return scale.share(scale.score(value)).astype(np.float32)


def _axes(x_label: str, y_label: str) -> tuple[Any, Any]:
    figure, axes = pyplot.subplots(figsize=(5.6, 3.8), layout="constrained")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    return figure, axes


def _precision_recall(evaluated: EvaluatedSet) -> str:
    curve = evaluated.evaluation.exact.curve()
    figure, axes = _axes("recall, %", "precision, %")
    axes.plot(100 * curve.true_positive_rate, 100 * curve.precision, color=ANOMALY_COLOUR)
    counts = evaluated.evaluation.exact.counts
    base = 100 * counts.num_anomalies / max(counts.num_anomalies + counts.num_inliers, 1)
    axes.axhline(base, color="#7f8c8d", linestyle=":", label=f"random: {base:.2f} %")
    axes.set(xlim=(0, 100), ylim=(0, 100))
    axes.legend(frameon=False, loc="upper right")
    return svg_uri(figure)


def _roc(evaluated: EvaluatedSet) -> str:
    curve = evaluated.evaluation.exact.curve()
    figure, axes = _axes("false-positive rate, %", "true-positive rate, %")
    axes.plot(100 * np.maximum(curve.false_positive_rate, 1e-6), 100 * curve.true_positive_rate, color=INLIER_COLOUR)
    axes.axhline(95, color="#7f8c8d", linestyle=":")
    axes.set(xscale="log", xlim=(0.01, 100), ylim=(0, 100))
    axes.set_xticks([0.01, 0.1, 1, 10, 100], ["0.01", "0.1", "1", "10", "100"])
    return svg_uri(figure)


def _histogram(evaluated: EvaluatedSet) -> str:
    scale = evaluated.evaluation.scale
    edges = np.linspace(*scale.limits, HISTOGRAM_BINS + 1)
    anomalies, inliers = np.zeros(HISTOGRAM_BINS), np.zeros(HISTOGRAM_BINS)
    counts = evaluated.evaluation.exact.counts
    for part in counts.descending():
        number = np.minimum((scale.share(part.threshold) * HISTOGRAM_BINS).astype(np.int64), HISTOGRAM_BINS - 1)
        anomalies += np.bincount(number, weights=part.anomalies, minlength=HISTOGRAM_BINS)
        inliers += np.bincount(number, weights=part.inliers, minlength=HISTOGRAM_BINS)
    figure, axes = _axes("anomaly score", "share of the pixels, %")
    for pixels, total, colour, label in (
        (inliers, counts.num_inliers, INLIER_COLOUR, "inliers"),
        (anomalies, counts.num_anomalies, ANOMALY_COLOUR, "anomalies"),
    ):
        if total:
            axes.stairs(100 * pixels / total, edges, color=colour, fill=True, alpha=0.35)
            axes.stairs(100 * pixels / total, edges, color=colour, label=label)
    axes.set(xlim=scale.limits, yscale="log")
    axes.set_ylim(bottom=1e-3)
    for point in evaluated.evaluation.operating_points[:1]:
        axes.axvline(point.threshold, color="#444", linestyle=":", label=f"threshold {point.threshold:.3f}")
    axes.legend(frameon=False)
    return svg_uri(figure)


def _reliability(evaluated: EvaluatedSet) -> str:
    confidence, accuracy, share = evaluated.evaluation.calibration.reliability()
    figure, axes = _axes("confidence, %", "accuracy, %")
    axes.plot([0, 100], [0, 100], color="#7f8c8d", linestyle=":", label="calibrated")
    axes.scatter(100 * confidence, 100 * accuracy, s=12 + 400 * share, color=INLIER_COLOUR, alpha=0.5)
    axes.plot(
        100 * confidence,
        100 * accuracy,
        color=INLIER_COLOUR,
        label=f"ECE {100 * evaluated.evaluation.calibration.compute():.2f} %",
    )
    axes.set(xlim=(0, 102), ylim=(0, 102))
    axes.legend(frameon=False, loc="upper left")
    return svg_uri(figure)
