"""What a camera of another aspect costs: frames cropped to it, stretched to the network's input and letterboxed.

    python benchmark/other_aspects.py BUNDLE --data NAME:PATH[@SPLIT] [--every 2] [--json FILE]

Classes are measured on the frames, anomalies on frames into which crops of other frames are pasted. Each aspect has its
own crops, so lines of one aspect can be compared.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ros_ood_perception.bundle.description import FITS
from ros_ood_perception.bundle.model_bundle import Bundle, read_bundle
from ros_ood_perception.files.json_files import write_json
from ros_ood_perception.number_arguments import whole
from training.bundles.runner import BundleRunner
from training.data.arguments import data_argument, open_frames
from training.data.labelled_frames import LabelledFrames
from training.data.progress import tracked
from training.joint.validation import with_pasted_crop
from training.metrics.pixel_exact import ExactPixelMetrics
from training.metrics.semantic import ConfusionMatrix

ASPECTS = {"4:3": 4 / 3, "16:9": 16 / 9, "2:1": 2.0, "1:1": 1.0}


def cropped(plane: NDArray[np.uint8], aspect: float) -> NDArray[np.uint8]:
    """The largest part of an image of this aspect, in its middle."""
    height, width = plane.shape[:2]
    rows, columns = min(height, round(width / aspect)), min(width, round(height * aspect))
    top, left = (height - rows) // 2, (width - columns) // 2
    return np.ascontiguousarray(plane[top : top + rows, left : left + columns])


def measured(bundle: Bundle, frames: LabelledFrames, aspect: float, every: int) -> dict[str, float]:
    """mIoU, and AP and FPR95 of pasted crops."""
    runner = BundleRunner(bundle, "onnxruntime")
    classes, anomalies = ConfusionMatrix(len(bundle.description.classes)), ExactPixelMetrics()
    for index in tracked(range(0, len(frames), every), f"{aspect:.2f} {bundle.description.input.fit}"):
        frame = frames[index]
        classes.update(runner.perceive(cropped(frame.image, aspect)).semantic, cropped(frame.labels, aspect))
        pasted, anomaly = with_pasted_crop(frames, index)
        anomalies.update(runner.perceive(cropped(pasted, aspect)).anomaly_score, cropped(anomaly, aspect))
    runner.close()
    found = anomalies.compute()
    return {"mIoU": classes.mean_iou(), "AP": found.ap, "FPR95": found.fpr95}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=data_argument, required=True, metavar="NAME:PATH[@SPLIT]")
    parser.add_argument("--every", type=whole(1, 10**6), default=2, metavar="N", help="each N-th frame (default: 2)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    bundle, frames = read_bundle(options.bundle), open_frames(options.data, ())
    table = Table("aspect", "fit", "mIoU, %", "AP, %", "FPR95, %")
    found = []
    for name, aspect in ASPECTS.items():
        for fit in FITS:
            description = bundle.description
            fitted = replace(bundle, description=replace(description, input=replace(description.input, fit=fit)))
            figures = measured(fitted, frames, aspect, options.every)
            found.append({"aspect": name, "fit": fit, **figures})
            table.add_row(name, fit, *(f"{100 * value:.1f}" for value in figures.values()))
    Console().print(table)
    if options.json is not None:
        write_json(options.json, found)


if __name__ == "__main__":
    main()
