"""Which unknown objects a bundle marks on rendered frames, at thresholds that mark few pixels of frames without any.

    python -m sample_drive CHOICE --seed 2101 --drives 8 --seconds 20 --rate 0.4 --frames
    python benchmark/quality/marked_objects.py BUNDLE [BUNDLE ...] --objects CHOICE --empty sample_drive:FOLDER/val

For choosing between joint stages before any drive is replayed. An object counts in a frame if it shows at least 60
pixels and is at most 40 m away; it is marked if a fifth of its pixels reach the threshold. The threshold is the score
that a share of the known pixels of the --empty frames reach. Frames with objects do not set it, because scores next to
an object are high. mIoU of the known classes is that of the frames with objects.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ros_ood_perception.bundle.model_bundle import Bundle, read_bundle
from training.bundles.runner import BundleRunner
from training.data.arguments import data_argument, open_frames
from training.data.label_set import IGNORE
from training.data.labelled_frames import LabelledFrames
from training.data.progress import tracked
from training.data.sets.sample_drive import SampleDriveTest
from training.metrics.obstacles.judging import Rule
from training.metrics.semantic import ConfusionMatrix

SHARES = (0.0002, 0.0005, 0.001, 0.002, 0.004)
SMALL = 250
RULE = Rule()


def measured(bundle: Bundle, objects: Path, empty: LabelledFrames) -> dict[str, Any]:
    """Shares of sightings that are marked, by the share of known pixels, and mIoU."""
    runner = BundleRunner(bundle, "onnxruntime")
    known = []
    for frame in tracked(empty, "frames without objects"):
        score = runner.perceive(frame.image).anomaly_score
        known.append(score[frame.labels != IGNORE])
    confusion, pixels, reached = ConfusionMatrix(len(bundle.description.classes)), [], []
    frames = SampleDriveTest(objects)
    seen = {row["name"]: row["obstacles"] for drive in _truth(objects) for row in drive["frames"]}
    for frame in tracked(frames, "frames with objects"):
        perceived = runner.perceive(frame.image)
        confusion.update(perceived.semantic, frame.labels)
        path = objects / "instances" / f"{frame.name}.png"
        instances = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if instances is None:
            sys.exit(f"{path}: is not there or no picture; render the drives again, with --frames")
        for row in seen[f"{frame.name}.png"]:
            shown = instances == row["id"]
            if int(shown.sum()) >= RULE.min_pixels and row["range_m"] <= RULE.max_range_m:
                pixels.append(int(shown.sum()))
                reached.append(float(np.quantile(perceived.anomaly_score[shown], 1 - RULE.min_marked)))
    runner.close()
    thresholds = {share: float(np.quantile(np.concatenate(known), 1 - share)) for share in SHARES}
    small = np.array(pixels) < SMALL
    rows = {
        share: {"threshold": threshold, "marked": float(hit.mean()), "marked_small": float(hit[small].mean())}
        for share, threshold in thresholds.items()
        for hit in (np.array(reached) >= threshold,)
    }
    return {"sightings": len(pixels), "miou": confusion.mean_iou(), "at": rows}


def _truth(folder: Path) -> list[Any]:
    return list(json.loads((folder / "ground_truth.json").read_text("utf-8"))["drives"])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    parser.add_argument("--objects", type=Path, required=True, metavar="FOLDER", help="rendered with --frames")
    parser.add_argument("--empty", type=data_argument, required=True, metavar="NAME:PATH[@SPLIT]")
    options = parser.parse_args()
    for path in options.bundles:
        found = measured(read_bundle(path), options.objects, open_frames(options.empty, ()))
        print(f"{path}: mIoU {100 * found['miou']:.1f} %, {found['sightings']} sightings")
        for share, row in found["at"].items():
            print(
                f"  {share:.2%} of the known pixels at {row['threshold']:.3f}: marked {row['marked']:.1%}, "
                f"below {SMALL} pixels {row['marked_small']:.1%}"
            )


if __name__ == "__main__":
    main()
