"""Score files for the SegmentMeIfYouCan harness: one HDF5 file for each frame, with the dataset `value` in float16.

https://github.com/SegmentMeIfYouCan/road-anomaly-benchmark reads them from its outputs folder, as
`anomaly_p/METHOD/DATA_SET/FRAME.hdf5`.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.files.atomic_files import naming, write_file

WHOLE_SETS = {"smiyc_anomaly": "AnomalyTrack-all", "smiyc_obstacle": "ObstacleTrack-all"}
"""The folder of a set's scores in the harness, by the registered name of the set."""


def harness_folder(registered_name: str, name: str, split: str | None) -> str:
    """DATA_SET in the path above.

    The harness keeps the frames of all splits of a set together: those of `AnomalyTrack-validation` are in
    `AnomalyTrack-all` (`dset_name` and `name_for_persistence` in its `datasets/`).

    >>> harness_folder("smiyc_anomaly", "smiyc_anomaly_val", None)
    'AnomalyTrack-all'

    Args:
        registered_name: of the set.
        name: of the set on the command line; the folder of a set that the harness does not know.
        split: that was read; None for the set's first.
    """
    if registered_name == "smiyc_lostandfound":
        return "LostAndFound-train" if split is not None and split.startswith("train") else "LostAndFound-test"
    return WHOLE_SETS.get(registered_name, name)


SMALLEST_LOGARITHM = -150.0
"""Below log2 of the smallest float32 above zero."""


def submitted(score: NDArray[np.float32]) -> NDArray[np.float16]:
    """Values to submit for a score, in the same order: (H, W) float32 in [0, 1] -> (H, W) float16, at most 0.

    Just below 1, where the anomalies are, float16 has steps of 2^-11 and would tie their scores. So scores from 1/2 on
    are submitted as score - 1: just below 0, float16 has steps of 2^-24, as float32 has just below 1. Smaller scores
    become log2(score) + 1/2, which is below -1/2 and keeps the order of confident pixels. The metrics use only the
    order.

    >>> submitted(np.array([[0.25, 0.5, 1.0]], np.float32)).tolist()
    [[-1.5, -0.5, 0.0]]
    """
    with np.errstate(divide="ignore"):
        logarithm = np.maximum(np.log2(score), np.float32(SMALLEST_LOGARITHM)) + np.float32(0.5)
    return np.where(score >= 0.5, score - np.float32(1), logarithm).astype(np.float16)


def score_of_submitted(value: NDArray[Any] | float) -> NDArray[np.float32]:
    """The score of a submitted value, as exact as float16: any shape -> float32 in [0, 1]."""
    exact = np.asarray(value, np.float64)
    return np.where(exact >= -0.5, exact + 1.0, np.exp2(np.minimum(exact, -0.5) - 0.5)).astype(np.float32)


def write_scores(folder: Path, method: str, data_set: str, frame: str, value: NDArray[np.float16]) -> None:
    """Write one frame's file below `folder`.

    Args:
        method: the model's name.
        data_set: the set's name in the harness.
        frame: the frame's name in the set.
        value: (H, W) float16.

    Raises:
        OSError: with the path.
    """
    # Imported where it is needed: h5py is not installed everywhere.
    import h5py

    path = folder / "anomaly_p" / method / data_set / f"{frame}.hdf5"
    with naming(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    contents = io.BytesIO()
    with h5py.File(contents, "w") as file:
        file.create_dataset("value", data=value, compression=4)
    write_file(path, contents.getvalue(), sync=False)
