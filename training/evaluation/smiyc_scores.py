"""Score files as the SegmentMeIfYouCan harness reads them: one HDF5 file a frame with the dataset `value` in float16.

https://github.com/SegmentMeIfYouCan/road-anomaly-benchmark looks for them in its outputs folder, as
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
"""By registered name, the folder in which the harness looks for a set's scores."""


def harness_folder(registered_name: str, name: str, split: str | None) -> str:
    """DATA_SET in the path above. The harness keeps the frames of all splits of a set together: it looks for those of
    `AnomalyTrack-validation` in `AnomalyTrack-all` (`dset_name` and `name_for_persistence` in its `datasets/`).

    Args:
        registered_name: of the set.
        name: what the set is called here; taken where the harness does not know the set.
        split: that was read; None for the set's first.
    """
    if registered_name == "smiyc_lostandfound":
        return "LostAndFound-train" if split is not None and split.startswith("train") else "LostAndFound-test"
    return WHOLE_SETS.get(registered_name, name)


SMALLEST_LOGARITHM = -150.0
"""Below log2 of the smallest float32 above zero."""


def submitted(score: NDArray[np.float32]) -> NDArray[np.float16]:
    """What is handed in for a score: the same order, in float16. (H, W) float32 in [0, 1] -> (H, W) float16 up to 0.

    float16 has 2^-11 between its numbers just below 1, where the anomalies are, and would tie them. So the upper half
    is handed in as score - 1: just below 0 float16 resolves 2^-24, which is all that a float32 score has there. The
    lower half is log2(score) + 1/2, which keeps the order of confident pixels, at -1/2 and below. The metrics use the
    order of the scores only.
    """
    with np.errstate(divide="ignore"):
        logarithm = np.maximum(np.log2(score), np.float32(SMALLEST_LOGARITHM)) + np.float32(0.5)
    return np.where(score >= 0.5, score - np.float32(1), logarithm).astype(np.float16)


def score_of_submitted(value: NDArray[Any] | float) -> NDArray[np.float32]:
    """The score that a submitted value stands for, up to float16: any shape -> float32 in [0, 1]."""
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
    # Imported here: metrics are measured where nothing is handed in, and h5py is not installed.
    import h5py

    path = folder / "anomaly_p" / method / data_set / f"{frame}.hdf5"
    with naming(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    contents = io.BytesIO()
    with h5py.File(contents, "w") as file:
        file.create_dataset("value", data=value, compression=4)
    write_file(path, contents.getvalue(), sync=False)
