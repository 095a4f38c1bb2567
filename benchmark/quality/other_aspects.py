"""What a camera of another aspect costs: frames cropped to it, at the bundle's own size and at others.

    python benchmark/quality/other_aspects.py BUNDLE --data NAME:PATH[@SPLIT] [--aspect 16:9] [--size 384x672]
        [--every 2] [--json FILE]

At the bundle's own size a frame is stretched or letterboxed, and at each `--size` it is stretched. Classes are measured
on the frames, anomalies on frames into which crops of other frames are pasted. Each aspect has its own crops, so lines
of one aspect can be compared. The false positive rates are of the bundle's operating points on the frames without
pasted crops. CPU time is processor time of all threads for one inference, as a ratio to the first line of the aspect;
the frames run on all engines in turn.
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ros_ood_perception.bundle.description import FITS
from ros_ood_perception.bundle.model_bundle import Bundle, OperatingPoint, read_bundle
from ros_ood_perception.files.json_files import write_json
from ros_ood_perception.number_arguments import image_size, whole
from training.bundles.runner import BundleRunner
from training.bundles.sizes.resized_graph import resized
from training.data.arguments import data_argument, open_frames
from training.data.label_set import IGNORE
from training.data.labelled_frames import LabelledFrames
from training.data.progress import tracked
from training.joint.validation import with_pasted_crop
from training.metrics.pixel_exact import ExactPixelMetrics
from training.metrics.semantic import ConfusionMatrix

ASPECTS = ("4:3", "16:9", "2:1", "1:1")


def aspect_argument(text: str) -> tuple[str, float]:
    """The text, and width over height of WIDTH:HEIGHT, as argparse wants it."""
    found = re.fullmatch(r"([0-9]{1,4}):([0-9]{1,4})", text)
    if found is None or 0 in map(int, found.groups()):
        raise argparse.ArgumentTypeError(f"is {text!r}; it must be WIDTH:HEIGHT, such as 16:9")
    return text, int(found[1]) / int(found[2])


def cropped(plane: NDArray[np.uint8], aspect: float) -> NDArray[np.uint8]:
    """The largest part of an image of this aspect, in its middle."""
    height, width = plane.shape[:2]
    rows, columns = min(height, round(width / aspect)), min(width, round(height * aspect))
    top, left = (height - rows) // 2, (width - columns) // 2
    return np.ascontiguousarray(plane[top : top + rows, left : left + columns])


@dataclass
class Way:
    """One way for frames into the network, and what is measured of it."""

    name: str
    runner: BundleRunner
    points: tuple[OperatingPoint, ...]
    classes: ConfusionMatrix = field(init=False)
    anomalies: ExactPixelMetrics = field(default_factory=ExactPixelMetrics)
    reached: dict[str, int] = field(default_factory=dict)
    counted: dict[str, int] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.classes = ConfusionMatrix(len(self.runner.bundle.description.classes))

    def add(self, image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """Measure classes, false positives and CPU time on a frame (H, W, 3) uint8 with labels (H, W) uint8."""
        started = time.process_time()
        found = self.runner.perceive(image)
        self.seconds.append(time.process_time() - started)
        self.classes.update(found.semantic, labels)
        for point in self.points:
            ids = self.runner.bundle.description.drivable_ids
            where = np.isin(labels, ids) if point.name.startswith("drivable") else labels != IGNORE
            high = (found.anomaly_score >= np.float32(point.threshold)) & where
            self.reached[point.name] = self.reached.get(point.name, 0) + int(high.sum())
            self.counted[point.name] = self.counted.get(point.name, 0) + int(where.sum())

    def add_pasted(self, image: NDArray[np.uint8], anomaly: NDArray[np.uint8]) -> None:
        """Measure anomalies on a frame."""
        self.anomalies.update(self.runner.perceive(image).anomaly_score, anomaly)

    def figures(self) -> dict[str, float]:
        """mIoU, AP and FPR95 of pasted crops, the false positive rates, and the median of the seconds."""
        found = self.anomalies.compute()
        rates = {name: self.reached[name] / max(self.counted[name], 1) for name in self.reached}
        seconds = statistics.median(self.seconds)
        return {"mIoU": self.classes.mean_iou(), "AP": found.ap, "FPR95": found.fpr95, "seconds": seconds, **rates}


def ways(bundle: Bundle, sizes: list[tuple[int, int]]) -> list[Way]:
    """Stretched, letterboxed, and stretched to each of these sizes."""
    own = bundle.at(bundle.description.input.size)
    given = own.description.input
    inputs = [replace(given, fit=fit) for fit in FITS]
    inputs += [replace(given, height=height, width=width, fit=FITS[0]) for height, width in sizes]
    found = []
    for model_input in inputs:
        description = replace(own.description, input=model_input)
        model = bundle.model if model_input.size == given.size else resized(bundle.model, model_input.size)
        runner = BundleRunner(replace(own, description=description, model=model), "onnxruntime")
        name = f"{model_input.height}x{model_input.width} {model_input.fit}"
        found.append(Way(name, runner, description.operating_points))
    return found


def measured(
    bundle: Bundle, frames: LabelledFrames, aspect: float, sizes: list[tuple[int, int]], every: int
) -> list[Way]:
    """All ways, on the same crops."""
    found = ways(bundle, sizes)
    for index in tracked(range(0, len(frames), every), f"{aspect:.2f}"):
        frame = frames[index]
        pasted, anomaly = with_pasted_crop(frames, index)
        for way in found:
            way.add(cropped(frame.image, aspect), cropped(frame.labels, aspect))
            way.add_pasted(cropped(pasted, aspect), cropped(anomaly, aspect))
    for way in found:
        way.runner.close()
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=data_argument, required=True, metavar="NAME:PATH[@SPLIT]")
    parser.add_argument(
        "--aspect",
        type=aspect_argument,
        action="append",
        default=[],
        metavar="W:H",
        help=f"default: {', '.join(ASPECTS)}",
    )
    parser.add_argument("--size", type=image_size, action="append", default=[], metavar="HEIGHTxWIDTH")
    parser.add_argument("--every", type=whole(1, 10**6), default=2, metavar="N", help="each N-th frame (default: 2)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    aspects = options.aspect or [aspect_argument(name) for name in ASPECTS]
    bundle, frames = read_bundle(options.bundle), open_frames(options.data, ())
    points = [point.name for point in bundle.description.operating_points]
    table = Table("aspect", "input", "mIoU, %", "AP, %", "FPR95, %", "CPU time", *(f"{name}, %" for name in points))
    found = []
    for name, aspect in aspects:
        first = math.nan
        for way in measured(bundle, frames, aspect, options.size, options.every):
            figures = way.figures()
            found.append({"aspect": name, "input": way.name, **figures})
            seconds = figures.pop("seconds")
            first = seconds if math.isnan(first) else first
            shown = [f"{100 * figures.pop(key):.1f}" for key in ("mIoU", "AP", "FPR95")]
            rates = (f"{100 * rate:.3f}" for rate in figures.values())
            table.add_row(name, way.name, *shown, f"{seconds / first:.2f}", *rates)
    Console(width=200).print(table)
    if options.json is not None:
        write_json(options.json, found)


if __name__ == "__main__":
    main()
