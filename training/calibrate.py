"""Calibrate a bundle on labelled frames without anomalies: the score's temperature, then the anomaly thresholds.

    python -m training.calibrate models/camvid_small --data camvid:FOLDER/val

The temperature is the one at which the class probabilities fit the labels best (smallest cross-entropy, Guo et al.,
arXiv 1706.04599). With `--fit negatives` it is the lowest whose FPR95 is within a point of the best on frames into
which crops of other frames are pasted. It is written into the graph. The thresholds are those that 0.1, 1 and 5 % of
the inlier pixels reach, on all pixels and on those of drivable classes. Each has a 95 % interval by bootstrap over
frames. All of this is written into the bundle. Frames with anomalies are refused: a threshold tuned on them could not
be measured on them.

`--score NAME` also replaces the anomaly score. Class ids stay as they are.

Drivable classes are those of `--drivable`, or else those that the label set marks. The node takes them from the bundle
if its parameter `region.drivable_classes` is empty.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ros_ood_perception.bundle.model_bundle import Bundle, BundleClass, Measurement, read_bundle, write_bundle
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.output_folder import check_apart
from ros_ood_perception.number_arguments import real
from ros_ood_perception.shown_text import error_line
from training.bundles.folder import check_bundle_folder
from training.bundles.operating_points import measured_operating_points
from training.bundles.rescored import rescored, rescored_files
from training.bundles.temperature import LabelledLogits, best_temperature, labelled_logits
from training.data.arguments import DataArgument, data_argument, open_frames
from training.data.held_out import HeldOut
from training.data.label_table import print_label_table
from training.data.labelled_frames import LabelledFrames
from training.evaluation.record import SCORE_METRICS
from training.evaluation.set_run import measured_classes
from training.joint.negative_temperature import lowest_of_the_best, temperatures_on_negatives
from training.segmenter.mask_scores import ALL_SCORES

GIVEN_TEMPERATURES = (1e-3, 1e3)
CLASSES, NEGATIVES = "classes", "negatives"
FITS = (CLASSES, NEGATIVES)
"""What the temperature is fitted on."""


def calibrate(
    bundle: Bundle,
    data: DataArgument,
    out: Path,
    temperature: float | None,
    held_out: Sequence[str] = (),
    drivable: Sequence[str] = (),
    fit: str = CLASSES,
    score: str | None = None,
) -> Bundle:
    """Write the calibrated bundle.

    Args:
        out: folder to write to. It may be the folder of the bundle, which is then replaced.
        temperature: the temperature to set; None fits it.
        held_out: classes that the bundle was trained without.
        drivable: names of the drivable classes; empty: those that the label set marks, else those that the bundle does.
        fit: what the temperature is fitted on, one of `FITS`.
        score: the anomaly score to set, one of `training.segmenter.mask_scores.ALL_SCORES`; None keeps the bundle's.

    Raises:
        ValueError: frames with anomalies, other classes than the bundle's, no labelled pixel, or a drivable class that
            the bundle does not have.
        GraphError: the graph has no temperature to set, or no logits for another score.
    """
    original = bundle
    old_score = bundle.description.score
    bundle = rescored(bundle, replace(old_score, name=score or old_score.name))
    _check_out(out, bundle, data)
    frames = _known_frames(bundle, data, held_out)
    classes = with_drivable(bundle.description.classes, drivable or [c.name for c in frames.classes if c.drivable])
    print_label_table([(frames, data.split or data.path.name)])
    pixels = labelled_logits(bundle, frames)
    rates = temperatures_on_negatives(bundle, frames) if temperature is None and fit == NEGATIVES else {}
    chosen = temperature or (lowest_of_the_best(rates) if rates else best_temperature(pixels.cross_entropy))
    what = f"{data.name} ({data.split or data.path.name}, {len(frames)} frames)"
    bundle = rescored(bundle, replace(bundle.description.score, temperature=chosen))
    fitted = [f"--temperature {temperature:g}"] if temperature is not None else [f"--fit {fit}"] if rates else []
    fitted += [f"--score {score}"] if score else []
    command = _command(bundle, data, fitted, held_out, drivable)
    measured = [
        Measurement(f"{name} at temperature {t:g}", round(value, 5), what, command)
        for t in sorted({1.0, chosen})
        for name, value in _figures(pixels, rates, t)
    ]
    description = bundle.description
    # Recorded figures of the anomaly score hold for the old score and temperature only.
    stale = () if description.score == old_score else SCORE_METRICS
    kept = [m for m in description.training.measurements if "at temperature" not in m.metric and m.metric not in stale]
    description = replace(
        description,
        classes=classes,
        training=replace(description.training, measurements=(*kept, *measured)),
        operating_points=(),
    )
    points = measured_operating_points(replace(bundle, description=description), frames, what)
    files = rescored_files(original, description.score)
    description = replace(description, name=out.resolve().name, operating_points=points)
    return write_bundle(out, description, bundle.model, files)


def _check_out(out: Path, bundle: Bundle, data: DataArgument) -> None:
    check_bundle_folder("--out", out, bundle.description.files, {"--data": data.path})
    if out.resolve() != bundle.folder.resolve():
        check_apart("--out", out, {"the bundle": bundle.folder})


def _command(
    bundle: Bundle, data: DataArgument, fitted: Sequence[str], held_out: Sequence[str], drivable: Sequence[str]
) -> str:
    """The command that repeats the calibration."""
    parts = [f"python -m training.calibrate models/{bundle.description.name} --data {data.shown}", *fitted]
    parts += [f"--held-out {shlex.quote(name)}" for name in held_out]
    return " ".join(parts + [f"--drivable {shlex.quote(name)}" for name in drivable])


def _figures(pixels: LabelledLogits, rates: Mapping[float, float], temperature: float) -> list[tuple[str, float]]:
    figures = [("cross-entropy", pixels.cross_entropy(temperature)), ("ECE", pixels.calibration_error(temperature))]
    return figures + ([("FPR95 of pasted crops", rates[temperature])] if rates else [])


def _known_frames(bundle: Bundle, data: DataArgument, held_out: Sequence[str]) -> LabelledFrames:
    """The frames to calibrate on: of the bundle's classes, without anomalies."""
    frames = open_frames(data, ())
    if held_out and frames.classes:
        frames = HeldOut(frames, held_out).validation
    if frames.has_anomalies:
        raise ValueError(
            f"{data.name} has anomalies; calibrate on frames of known classes only, such as a validation split"
        )
    if not measured_classes(bundle, frames, data.name):
        raise ValueError(f"{data.name} has no classes to calibrate on")
    return frames


def with_drivable(classes: Sequence[BundleClass], names: Sequence[str]) -> tuple[BundleClass, ...]:
    """The classes, of which only the named ones are drivable; unchanged without names.

    Raises:
        ValueError: there is no class of a name.
    """
    known = [c.name for c in classes]
    for name in names:
        if name not in known:
            raise ValueError(f"--drivable {name}: the bundle has no such class; it has {', '.join(known)}")
    return tuple(replace(c, drivable=c.name in names) for c in classes) if names else tuple(classes)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.calibrate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, help="folder of the model bundle")
    parser.add_argument("--data", type=data_argument, required=True, metavar="NAME:PATH[@SPLIT]")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write to FOLDER instead of into the bundle")
    parser.add_argument(
        "--held-out", action="append", default=[], metavar="CLASS", help="a class that the bundle was trained without"
    )
    parser.add_argument(
        "--drivable",
        action="append",
        default=[],
        metavar="CLASS",
        help="a class that the vehicle drives on; may be repeated (default: those that the label set marks)",
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--temperature", type=real(*GIVEN_TEMPERATURES), help="set this temperature instead of fitting one"
    )
    chosen.add_argument(
        "--fit",
        choices=FITS,
        default=CLASSES,
        help="fit the temperature to the class probabilities (default), or to the score on pasted crops",
    )
    parser.add_argument(
        "--score", choices=ALL_SCORES, metavar="NAME", help="set this anomaly score (default: the bundle's)"
    )
    options = parser.parse_args(arguments)
    try:
        bundle = read_bundle(options.bundle)
        calibrated = calibrate(
            bundle,
            options.data,
            options.out or options.bundle,
            options.temperature,
            options.held_out,
            options.drivable,
            options.fit,
            options.score,
        )
    except (PerceptionError, OSError, ValueError) as error:
        print(f"calibrate: {error_line(error)}", file=sys.stderr)
        return 2
    description = calibrated.description
    print(f"{calibrated.folder}: {description.score.name}, temperature {description.score.temperature:g}")
    for measurement in description.training.measurements:
        if "at temperature" in measurement.metric:
            print(f"  {measurement.metric}: {measurement.value:.5f}")
    names = [c.name for c in description.classes if c.drivable]
    print(f"  drivable classes: {', '.join(names) or 'none, so no drivable_ thresholds; --drivable CLASS names them'}")
    for point in description.operating_points:
        interval = point.threshold_interval or (point.threshold, point.threshold)
        print(f"  {point.name}: score >= {point.threshold:.4f} ({interval[0]:.4f} to {interval[1]:.4f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
