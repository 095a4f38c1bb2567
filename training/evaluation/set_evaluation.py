"""One score measured on one data set, frame by frame, with all metrics that the set's labels allow."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle.model_bundle import OperatingPoint
from training.data.label_set import IGNORE
from training.data.labelled_frames import ANOMALY, INLIER, LabelledFrame
from training.evaluation.score_scale import ScoreScale
from training.evaluation.scored_frames import ScoredFrame, ScoredFrames, TownFrame
from training.metrics.anomaly_pixels import MetricInputError
from training.metrics.calibration_error import CalibrationError
from training.metrics.component_smiyc import ANOMALY_TRACK, OBSTACLE_TRACK, SmiycComponentMetrics
from training.metrics.error_monitor import ErrorMonitorMetrics
from training.metrics.open_semantic import (
    OpenSemanticMetrics,
    Town,
    half_size,
    open_miou,
    threshold_at_recall,
)
from training.metrics.per_image_overlap import PerImageOverlap, SharedFalsePositiveRate
from training.metrics.pixel_exact import ExactPixelMetrics
from training.metrics.pixel_per_image import PerImagePixelMetrics
from training.metrics.pixel_smiyc import SmiycPixelMetrics
from training.metrics.score_counts import ScoreCounts
from training.metrics.scores_by_class import ScoresByClass
from training.metrics.semantic import ConfusionMatrix
from training.metrics.threshold_curves import ThresholdCurveMetrics

COMPONENT_SIZES = {
    "sample_drive_test": OBSTACLE_TRACK,
    "smiyc_lostandfound": OBSTACLE_TRACK,
    "smiyc_obstacle": OBSTACLE_TRACK,
}
"""By registered name. All other sets are measured with the sizes of the AnomalyTrack."""

TOWNS = {"streethazards_test": ("t5", "t6")}
"""Sets of two towns, by registered name. Open-mIoU takes the threshold of one town from the other."""

WORST_FRAMES = 3


@dataclass(frozen=True)
class WorstFrame:
    """A frame with many wrong pixels: `share` of its inlier (or anomaly) pixels are wrong at the threshold."""

    share: float
    name: str


@dataclass
class SetEvaluation:
    """Streaming metrics of one score on one set.

    Component metrics and AUPIMO need thresholds from all frames. So the frames are kept on disk for a second pass
    (`ScoredFrames`).

    Args:
        name: registered name of the set.
        classes: names of the classes to measure; empty to measure none.
        has_anomalies: whether the set labels anomalies.
        operating_points: of the bundle; their rates are measured.
        exact_only: skip the anomaly metrics of other protocols than the exact one.
        scale: range of the score; by default [0, 1], as bundles score.
    """

    name: str
    classes: Sequence[str]
    has_anomalies: bool
    operating_points: Sequence[OperatingPoint] = ()
    exact_only: bool = False
    scale: ScoreScale = field(default_factory=ScoreScale)
    frames: int = 0
    void_pixels: int = 0

    confusion: ConfusionMatrix = field(init=False)
    by_class: ScoresByClass = field(init=False)
    calibration: CalibrationError = field(default_factory=CalibrationError)
    error_monitor: ErrorMonitorMetrics = field(default_factory=ErrorMonitorMetrics)
    exact: ExactPixelMetrics = field(default_factory=ExactPixelMetrics)
    threshold_curves: ThresholdCurveMetrics = field(default_factory=ThresholdCurveMetrics)
    shared_rate: SharedFalsePositiveRate = field(default_factory=SharedFalsePositiveRate)
    official: SmiycPixelMetrics = field(default_factory=SmiycPixelMetrics)
    per_image: PerImagePixelMetrics = field(default_factory=PerImagePixelMetrics)
    false_alarms: list[WorstFrame] = field(default_factory=list)
    misses: list[WorstFrame] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.confusion = ConfusionMatrix(max(len(self.classes), 1))
        self.by_class = ScoresByClass(len(self.classes))
        self._town_counts = {town: ScoreCounts() for town in self.towns}
        self._kept = ScoredFrames()

    @property
    def towns(self) -> tuple[str, ...]:
        """The towns of open-mIoU; empty for most sets."""
        return TOWNS.get(self.name, ()) if self.classes else ()

    def update(
        self,
        frame: LabelledFrame,
        semantic: NDArray[np.uint8],
        score: NDArray[np.float32],
        confidence: NDArray[np.float32] | None,
    ) -> NDArray[np.float16]:
        """Add one frame and its results.

        Args:
            semantic: (H, W) uint8 predicted ids.
            score: (H, W) float32 in the range of `scale`.
            confidence: (H, W) float32 in [0, 1], the largest class probability; None skips the calibration error.

        Returns:
            The value of the official metrics, (H, W) float16.

        Raises:
            MetricInputError: the score is infinite or NaN, or labels and score differ in size.
        """
        infinite = int(np.count_nonzero(np.isinf(score)))
        if infinite:
            # The metrics of ranks would take it, those that count scores by their size could not.
            raise MetricInputError(
                f"frame {frame.name}: the score is infinite at {infinite} of {score.size} pixels; scores are from 0 to "
                "1, so the network's output or the score's formula is broken"
            )
        value = self.scale.value(score)
        # The metric with the checks comes first, so that a refused frame is in no metric.
        self.exact.update(score, frame.anomaly)
        if self.classes:
            self.confusion.update(semantic, frame.labels)
            self.by_class.update(score, frame.labels, frame.anomaly)
            self.error_monitor.update(score, semantic, frame.labels, frame.anomaly)
            if confidence is not None:
                self.calibration.update(confidence, semantic, frame.labels)
        if self.has_anomalies:
            if self.scale.unit:
                self.threshold_curves.update(score, frame.anomaly)
            self.shared_rate.update(value, frame.anomaly)
        if self.has_anomalies and not self.exact_only:
            self.official.update(value, frame.anomaly)
            self.per_image.update(score, frame.anomaly)
            for town, counts in self._town_counts.items():
                if frame.name.startswith(town):
                    counts.update(*half_size(score, frame.anomaly))
        of_town = TownFrame(score, semantic, frame.labels) if self.towns else None
        self._kept.add(ScoredFrame(frame.name, value, frame.anomaly, of_town))
        self.frames += 1
        self.void_pixels += int(np.count_nonzero(frame.anomaly == IGNORE))
        return value

    def void_for_anomalies(self, shown: str) -> str:
        """A message if void stands where the anomalies of the set should be; else empty.

        Args:
            shown: name of the set in the message.
        """
        if not self.has_anomalies or not self.void_pixels or self.exact.counts.num_anomalies:
            return ""
        return (
            f"{shown}: no pixel of its {self.frames} frame(s) is labelled as an anomaly, and {self.void_pixels} are "
            "void (255), so its anomalies may be lost: write them as the value that the set gives anomalies (1 in "
            "masks of 0, 1 and 255)"
        )

    def scored_frames(self) -> Iterator[ScoredFrame]:
        """The frames again, in order."""
        return iter(self._kept)

    def close(self) -> None:
        """Delete the kept frames."""
        self._kept.close()

    def results(self) -> dict[str, Any]:
        """All figures as plain values: fractions, None if undefined. Figures that do not apply are absent."""
        found: dict[str, Any] = {"frames": self.frames}
        if self.classes:
            iou = self.confusion.iou()
            found["semantic"] = {
                "mIoU": or_none(self.confusion.mean_iou()),
                "IoU": {name: or_none(value) for name, value in zip(self.classes, iou, strict=True)},
            }
            if self.calibration.pixels.any():
                found["semantic"]["ECE"] = or_none(self.calibration.compute())
            found["scores_by_class"] = self._scores_by_class()
            found["error_monitor"] = self._error_monitor()
        threshold = self.operating_points[0].threshold if self.operating_points else None
        if self.has_anomalies:
            found["exact"] = {key: or_none(value) for key, value in _pixel(self.exact.compute()).items()}
            curves = self.threshold_curves.compute()
            found["threshold_curves"] = {
                "AUTC": or_none(curves.autc),
                "AUFPR": or_none(curves.aufpr),
                "AUFNR": or_none(curves.aufnr),
            }
            found["per_image_overlap"] = self._per_image_overlap()
        if self.has_anomalies and not self.exact_only:
            official, per_image = self.official.compute(), self.per_image.compute()
            found["official"] = {key: or_none(value) for key, value in _pixel(official).items()} | {
                "best_f1": or_none(official.best_f1),
                "threshold": or_none(float(self.scale.score(official.threshold))),
            }
            found["per_image"] = {key: or_none(value) for key, value in _pixel(per_image).items()}
            if np.isfinite(official.threshold):
                threshold = float(self.scale.score(official.threshold))
            found["component"] = self._components(official.threshold)
            found |= self._open_semantic()
        if threshold is not None:
            self._find_worst(threshold)
        if self.operating_points:
            found["operating_points"] = self._rates()
        return found

    def _per_image_overlap(self) -> dict[str, Any]:
        overlap = PerImageOverlap(self.shared_rate)
        for frame in self.scored_frames():
            overlap.update(frame.value, frame.anomaly)
        figures = overlap.compute()
        return {
            "AUPIMO": or_none(figures.aupimo),
            "lowest_tenth": or_none(figures.lowest_tenth),
            "images": figures.images,
            "false_positives_on": "normal images" if self.shared_rate.of_normal_images else "inlier pixels",
        }

    def _components(self, threshold: float) -> dict[str, Any]:
        """Component metrics at a threshold on `submitted` scores."""
        if not np.isfinite(threshold):
            return dict.fromkeys(("sIoU", "PPV", "mean_F1"))
        sizes = COMPONENT_SIZES.get(self.name, ANOMALY_TRACK)
        metrics = SmiycComponentMetrics(threshold, sizes)
        for frame in self.scored_frames():
            metrics.update(frame.value, frame.anomaly)
        components = metrics.compute()
        return {
            "sIoU": or_none(components.siou),
            "PPV": or_none(components.ppv),
            "mean_F1": or_none(components.mean_f1),
            "true_components": components.true_components,
            "predicted_components": components.predicted_components,
            "minimum_size": asdict(sizes),
        }

    def _error_monitor(self) -> dict[str, float | None]:
        figures = self.error_monitor.compute()
        return {
            "error_rate": or_none(figures.error_rate),
            "AUROC": or_none(figures.auroc),
            "FPR95": or_none(figures.fpr95),
            "AURC": or_none(figures.aurc),
            "excess_AURC": or_none(figures.excess_aurc),
        }

    def _open_semantic(self) -> dict[str, Any]:
        if not self.towns or not all(counts.num_anomalies for counts in self._town_counts.values()):
            return {}
        first, second = self.towns
        metrics = {
            town: OpenSemanticMetrics(len(self.classes), threshold_at_recall(self._town_counts[other]))
            for town, other in ((first, second), (second, first))
        }
        for frame in self.scored_frames():
            assert frame.town is not None
            for town, measured in metrics.items():
                if frame.name.startswith(town):
                    measured.update(frame.town.semantic, frame.town.score, frame.town.labels, frame.anomaly)
        towns = [Town(measured.compute(), measured.frames) for measured in metrics.values()]
        return {
            "open_semantic": {"open_mIoU": or_none(open_miou(towns))}
            | {town: or_none(result.open_miou) for town, result in zip(metrics, towns, strict=True)}
        }

    def _find_worst(self, threshold: float) -> None:
        alarms, misses = [], []
        [lowest] = self.scale.value(np.array([threshold], np.float32))
        for frame in self.scored_frames():
            above = frame.value >= lowest
            inliers, anomalies = frame.anomaly == INLIER, frame.anomaly == ANOMALY
            if inliers.any():
                alarms.append(WorstFrame(float(above[inliers].mean()), frame.name))
            if anomalies.any():
                misses.append(WorstFrame(float((~above[anomalies]).mean()), frame.name))
        self.false_alarms = heapq.nlargest(WORST_FRAMES, alarms, key=lambda worst: worst.share)
        self.misses = heapq.nlargest(WORST_FRAMES, misses, key=lambda worst: worst.share)

    def _scores_by_class(self) -> dict[str, Any]:
        """By class: median score, and shares marked at 95 % recall and at the bundle's first operating point."""

        def named(values: NDArray[np.float64]) -> dict[str, float | None]:
            return {name: or_none(value) for name, value in zip(self.classes, values, strict=True)}

        medians = self.by_class.medians()
        found: dict[str, Any] = {"median": named(medians[:-1])}
        if self.has_anomalies:
            found |= {"anomaly_median": or_none(medians[-1]), "FPR95": named(self.by_class.marked_at_recall())}
        if self.operating_points:
            found["marked"] = named(self.by_class.marked(self.operating_points[0].threshold))
        return found

    def _rates(self) -> dict[str, dict[str, float | None]]:
        """The rates of the bundle's operating points on this set."""
        counts = self.exact.counts
        found = {}
        for point in self.operating_points:
            anomalies = inliers = 0
            for part in counts.descending():
                above = part.threshold >= np.float32(point.threshold)
                anomalies += int(part.anomalies[above].sum())
                inliers += int(part.inliers[above].sum())
                if not above.all():
                    break
            rates = {"false_positive_rate": inliers / counts.num_inliers if counts.num_inliers else None}
            if self.has_anomalies:
                rates["true_positive_rate"] = anomalies / counts.num_anomalies if counts.num_anomalies else None
            found[point.name] = {"threshold": point.threshold, **rates}
        return found


def _pixel(figures: Any) -> dict[str, float]:
    return {"AP": figures.ap, "FPR95": figures.fpr95, "AUROC": figures.auroc}


def or_none(value: float) -> float | None:
    """The number, or None if it is not finite: JSON has no such numbers."""
    return float(value) if np.isfinite(value) else None
