"""Measured figures, written into a bundle's training record."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace

from ros_ood_perception.bundle.model_bundle import Bundle, Measurement, read_bundle, write_description
from training.evaluation.set_run import SetRun

SCORE_METRICS = ("AP", "FPR95")
"""Figures of the anomaly score that are recorded for a set with anomalies. Another temperature changes them."""


def record(bundle: Bundle, run: SetRun, held_out: Sequence[str]) -> Bundle:
    """Write the figures of a set into the bundle's training record; returns the bundle.

    They replace earlier figures of the same data.
    """
    title = f"{run.data.name}, {' and '.join(held_out)} as anomalies" if held_out else run.data.name
    what = f"{title} ({run.data.split or run.data.path.name}, {run.results['frames']} frames)"
    command = f"python -m training.evaluate models/{bundle.description.name} --data {run.data.shown}"
    command += "".join(f" --held-out {shlex.quote(name)}" for name in held_out)
    figures = {"mIoU": run.results.get("semantic", {}).get("mIoU")}
    figures |= {key: run.results.get("exact", {}).get(key) for key in SCORE_METRICS}
    training = bundle.description.training
    kept = [m for m in training.measurements if m.data != what or m.metric not in figures]
    added = [Measurement(key, round(value, 4), what, command) for key, value in figures.items() if value is not None]
    description = replace(bundle.description, training=replace(training, measurements=(*kept, *added)))
    write_description(bundle.folder, description)
    return read_bundle(bundle.folder)
