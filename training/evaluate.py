"""Measure a bundle on labelled frames, through the engine that ships.

    python -m training.evaluate models/camvid_small --data camvid:FOLDER/test

FOLDER/test holds `images/` and `labels/`. `--record` writes the figures and this command into the bundle.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ros_ood_perception.bundle import Bundle, BundleError, Measurement, read_bundle, write_description
from ros_ood_perception.inference.engine import ENGINES, EngineError, InferenceEngine, open_engine
from ros_ood_perception.perception import Perception
from training.data.camvid import CamVid
from training.metrics.semantic import ConfusionMatrix

DATA_SETS = {"camvid": CamVid}


@dataclass(frozen=True)
class DataArgument:
    """One `--data NAME:PATH`."""

    name: str
    path: Path


def _data(text: str) -> DataArgument:
    name, separator, path = text.partition(":")
    if not separator or name not in DATA_SETS:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME:PATH with NAME one of {', '.join(DATA_SETS)}")
    return DataArgument(name, Path(path))


def evaluate_semantic(engine: InferenceEngine, bundle: Bundle, frames: CamVid, title: str) -> ConfusionMatrix:
    """Classes at the frames' own size, as the node publishes them, against the labels.

    Raises:
        ValueError: the set has other classes than the bundle.
    """
    names = [c.name for c in bundle.description.classes]
    if names != [c.name for c in frames.classes]:
        raise ValueError(f"the bundle's classes are {names}; the data set's are {[c.name for c in frames.classes]}")
    perception = Perception(engine, 1.0, len(names))
    confusion = ConfusionMatrix(len(names))
    console = Console(stderr=True)
    for index in track(range(len(frames)), title, console=console, disable=not console.is_terminal):
        frame = frames[index]
        image = frame.image
        if bundle.description.input.colour_order == "bgr":
            image = np.ascontiguousarray(image[..., ::-1])
        confusion.update(perception(image).semantic, frame.labels)
    return confusion


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, help="folder of the model bundle")
    parser.add_argument("--data", type=_data, action="append", required=True, metavar="NAME:PATH")
    parser.add_argument("--engine", default="auto", choices=ENGINES)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--record", action="store_true", help="write the figures into the bundle")
    options = parser.parse_args(arguments)
    results: dict[str, Any] = {"sets": {}}
    try:
        if len({data.name for data in options.data}) < len(options.data):
            raise ValueError("--data: the same NAME twice; measure one folder of a data set at a time")
        bundle = read_bundle(options.bundle)
        engine = open_engine(bundle, options.engine)
        for data in options.data:
            frames = DATA_SETS[data.name](data.path)
            confusion = evaluate_semantic(engine, bundle, frames, f"{data.name} ({data.path.name})")
            iou = {c.name: float(v) for c, v in zip(frames.classes, confusion.iou(), strict=True)}
            results["sets"][data.name] = {
                "frames": len(frames),
                "semantic": {
                    "mIoU": _or_none(confusion.mean_iou()),
                    "IoU": {name: _or_none(value) for name, value in iou.items()},
                },
            }
            if options.record:
                bundle = record(bundle, data, len(frames), confusion.mean_iou())
        engine.close()
    except (BundleError, EngineError, FileNotFoundError, ValueError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    _print(results)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


def record(bundle: Bundle, data: DataArgument, frames: int, miou: float) -> Bundle:
    """The bundle with the figure in its training record; replaces an earlier one of the same data."""
    what = f"{data.name} ({data.path.name}, {frames} frames)"
    measurement = Measurement(
        metric="mIoU",
        value=round(miou, 4),
        data=what,
        command=f"python -m training.evaluate models/{bundle.description.name} "
        f"--data {data.name}:FOLDER/{data.path.name}",
    )
    training = bundle.description.training
    others = tuple(m for m in training.measurements if (m.metric, m.data) != ("mIoU", what))
    description = replace(bundle.description, training=replace(training, measurements=(*others, measurement)))
    write_description(bundle.folder, description)
    return read_bundle(bundle.folder)


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _print(results: dict[str, Any]) -> None:
    for name, result in results["sets"].items():
        table = Table(title=f"{name}, {result['frames']} frames", title_justify="left")
        table.add_column("class")
        table.add_column("IoU", justify="right")
        for label, iou in result["semantic"]["IoU"].items():
            table.add_row(label, "undefined" if iou is None else f"{iou:.4f}")
        table.add_section()
        miou = result["semantic"]["mIoU"]
        table.add_row("mean", "undefined" if miou is None else f"{miou:.4f}")
        Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
