"""Which anomaly score of a bundle finds crops of other frames best, large ones and small ones. Needs no anomalies.

    python benchmark/quality/scores_on_crops.py BUNDLE --data NAME:PATH[@SPLIT] --score NAME[@T] ... [--json FILE]

Crops of other frames are pasted into each frame, as `training.calibrate --fit negatives` does. Scores are measured at
the resolution of the logits.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import torch
from rich.console import Console
from rich.table import Column, Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.files.json_files import write_json
from training.bundles.runner import BundleRunner, LogitScore
from training.data.arguments import data_argument, open_frames
from training.data.progress import tracked
from training.joint.validation import PASTED, with_pasted_crop
from training.metrics.pixel_exact import ExactPixelMetrics
from training.segmenter.anomaly_scores import SCORES

SIDES = {"large": (64, 320), "small": (16, 80)}
"""Smallest and largest side of the crops, as `negatives.sides`."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=data_argument, required=True, metavar="NAME:PATH[@SPLIT]")
    parser.add_argument("--score", type=LogitScore.parse, action="append", required=True, metavar="NAME[@T]")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    frames = open_frames(options.data, ())
    runner = BundleRunner(read_bundle(options.bundle), "onnxruntime")
    metrics = {(score, size): ExactPixelMetrics() for score in options.score for size in SIDES}
    for size, sides in SIDES.items():
        for index in tracked(range(len(frames)), f"{size} crops"):
            image, anomaly = with_pasted_crop(frames, index, replace(PASTED, sides=sides))
            runner.perceive(image)
            logits = torch.from_numpy(runner.logits)[None]
            shape = (logits.shape[3], logits.shape[2])
            small = cv2.resize(anomaly, shape, interpolation=cv2.INTER_NEAREST_EXACT)
            for score in options.score:
                value = SCORES[score.name].in_unit_range(logits, score.temperature)[0, 0].numpy()
                metrics[score, size].update(value, small)
    runner.close()
    table = Table(Column("score", overflow="fold"), *(f"{size}: AP / FPR95, %" for size in SIDES))
    found = []
    for score in options.score:
        figures = {size: metrics[score, size].compute() for size in SIDES}
        found.append({"score": str(score), **{size: {"AP": f.ap, "FPR95": f.fpr95} for size, f in figures.items()}})
        table.add_row(str(score), *(f"{100 * f.ap:.1f} / {100 * f.fpr95:.1f}" for f in figures.values()))
    Console().print(table)
    if options.json is not None:
        write_json(options.json, found)


if __name__ == "__main__":
    main()
