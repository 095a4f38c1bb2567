"""Time and memory of the streaming exact pixel metrics, against scikit-learn and against the binned SMIYC procedure.

    python benchmark/metrics.py [--frames 100] [--height 1024] [--width 2048] [--json FILE]

All three get the same frames, with scores like those of a network: inliers near 0, anomalies spread, 1 % of the pixels
anomalous, a tenth void. Each process makes the frames from a seed, so that only the time and memory of the metric are
measured. AP, FPR95 and AUROC of each are printed. The streaming ones must equal those of scikit-learn.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ros_ood_perception.files.json_files import write_json
from ros_ood_perception.number_arguments import whole

Frame = tuple[NDArray[np.float32], NDArray[np.uint8]]


def frames(count: int, height: int, width: int) -> Iterator[Frame]:
    """Deterministic frames: score (H, W) float32 in [0, 1] and label (H, W) uint8 0, 1 or 255."""
    for number in range(count):
        generator = np.random.default_rng(number)
        anomaly = np.zeros((height, width), np.uint8)
        top, left = generator.integers(0, height * 9 // 10), generator.integers(0, width * 9 // 10)
        anomaly[top : top + height // 10, left : left + width // 10] = 1
        anomaly[: height // 10] = 255
        certainty = generator.standard_normal((height, width), np.float32) * np.float32(2.5) - np.float32(4)
        certainty[anomaly == 1] += np.float32(4)
        yield np.float32(1) / (np.float32(1) + np.exp(-certainty)), anomaly


def streaming(source: Iterator[Frame]) -> tuple[float, dict[str, float]]:
    """Seconds of update and compute, and the figures."""
    from training.metrics.pixel_exact import ExactPixelMetrics

    return _timed(ExactPixelMetrics(), source)


def binned(source: Iterator[Frame]) -> tuple[float, dict[str, float]]:
    """The procedure of the SMIYC benchmark."""
    from training.metrics.pixel_smiyc import SmiycPixelMetrics

    return _timed(SmiycPixelMetrics(), source)


def _timed(metric: Any, source: Iterator[Frame]) -> tuple[float, dict[str, float]]:
    seconds = 0.0
    for score, anomaly in source:
        started = time.perf_counter()
        metric.update(score, anomaly)
        seconds += time.perf_counter() - started
    started = time.perf_counter()
    found = metric.compute()
    seconds += time.perf_counter() - started
    return seconds, {"AP": found.ap, "FPR95": found.fpr95, "AUROC": found.auroc}


def scikit_learn(source: Iterator[Frame]) -> tuple[float, dict[str, float]]:
    """All pixels pooled and sorted; the pooling is part of what it costs."""
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    seconds = 0.0
    scores, labels = [], []
    for score, anomaly in source:
        started = time.perf_counter()
        scores.append(score[anomaly != 255])
        labels.append(anomaly[anomaly != 255])
        seconds += time.perf_counter() - started
    started = time.perf_counter()
    score, label = np.concatenate(scores), np.concatenate(labels)
    del scores, labels
    ap = float(average_precision_score(label, score))
    fpr, tpr, _ = roc_curve(label, score)
    fpr95 = float(fpr[np.argmax(tpr >= 0.95)])
    del fpr, tpr
    auroc = float(roc_auc_score(label, score))
    return seconds + time.perf_counter() - started, {"AP": ap, "FPR95": fpr95, "AUROC": auroc}


METHODS: dict[str, Callable[[Iterator[Frame]], tuple[float, dict[str, float]]]] = {
    "streaming exact": streaming,
    "SMIYC binned": binned,
    "scikit-learn": scikit_learn,
}


def _run(name: str, count: int, height: int, width: int, results: Any) -> None:
    METHODS[name](frames(1, 64, 64))  # imports are not the metric's
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in frames(1, height, width):  # nor is the making of a frame
        pass
    with_frame = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, figures = METHODS[name](frames(count, height, width))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results.put(
        {
            "method": name,
            "seconds": seconds,
            "peak_mib": peak / 1024,
            "of_the_metric_mib": (peak - with_frame) / 1024,
            "of_imports_mib": before / 1024,
            **figures,
        }
    )


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=whole(1, 10**6), default=100)
    parser.add_argument("--height", type=whole(1, 10**6), default=1024)
    parser.add_argument("--width", type=whole(1, 10**6), default=2048)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    rows = []
    for name in METHODS:
        results = context.SimpleQueue()
        process = context.Process(target=_run, args=(name, options.frames, options.height, options.width, results))
        process.start()
        process.join()
        if process.exitcode:
            print(f"{name}: ended with {process.exitcode} (out of memory?)", file=sys.stderr)
            return 1
        rows.append(results.get())
    slowest = rows[-1]["seconds"]
    table = Table(title=f"{options.frames} frames of {options.height}x{options.width}", title_justify="left")
    for column in ("method", "seconds", "x faster", "peak MiB", "metric MiB", "AP", "FPR95", "AUROC"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for row in rows:
        table.add_row(
            row["method"],
            f"{row['seconds']:.2f}",
            f"{slowest / row['seconds']:.1f}",
            f"{row['peak_mib']:.0f}",
            f"{row['of_the_metric_mib']:.0f}",
            *(f"{row[key]:.8f}" for key in ("AP", "FPR95", "AUROC")),
        )
    (Console() if sys.stdout.isatty() else Console(width=140)).print(table)
    if options.json is not None:
        write_json(options.json, rows, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
