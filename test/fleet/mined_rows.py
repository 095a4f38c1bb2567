"""Tables of a fleet with rows of one's choice, for the tests of what reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from recorded_drive import START_NS, STEP_NS, image, picture, write_bag

from fleet.tables.files import file_key
from fleet.tables.schema import DONE, FAILED, FRAMES, OBSTACLES, RECORDINGS, Table
from ros_ood_perception.bundle.model_bundle import read_bundle

TOPIC = "/front/image_raw"


def drive(folder: Path, numbers: Sequence[int], seed: int = 0) -> Path:
    """A bag with frames at `START_NS + number * STEP_NS`, whose pictures depend on seed and number."""
    times = range(max(numbers) + 1)
    frames = [image(number, picture(1000 * seed + number)) if number in numbers else None for number in times]
    return write_bag(folder, {TOPIC: frames})


def frame(recording: Path | str, number: int, place: int | None = None, **columns: Any) -> dict[str, Any]:
    """A row of the table of frames.

    Args:
        number: of the frame in its bag.
        place: number of its stamp; None: the same.
    """
    time_ns = START_NS + (number if place is None else place) * STEP_NS
    values = {
        "recording": str(recording),
        "topic": TOPIC,
        "number": number,
        "camera": "",
        "time_ns": time_ns,
        "stamp_ns": time_ns,
        "fate": "published",
        "problem": "",
        "anomaly_share": 0.01,
        "known_score_mean": 0.1,
        "road_anomaly_share": 0.01,
        "road_score_peak": 0.9,
        "obstacles": 1,
        "doubts": [],
    }
    return values | columns


def obstacle(
    recording: Path | str, number: int, box: tuple[int, int, int, int], place: int | None = None
) -> dict[str, Any]:
    """A row of the table of obstacles; `box` is left, top, width and height."""
    key = {
        name: frame(recording, number, place)[name]
        for name in ("recording", "topic", "number", "camera", "time_ns", "stamp_ns")
    }
    sides = dict(zip(("box_x", "box_y", "box_width", "box_height"), box, strict=True))
    zeros = {"age_frames": 2, "age_s": 0.1, "score": 0.8, "score_peak": 0.9, "area": 10, "foot_is_cut": False}
    return {**key, "id": box[0], **sides, **zeros}


def recording(path: Path | str, bundle: Path, **columns: Any) -> dict[str, Any]:
    """A row of the table of recordings."""
    description = read_bundle(bundle).description
    values = {
        "recording": str(path),
        "state": DONE,
        "reason": "",
        "kind": "bag",
        "frames": 1,
        "first_ns": START_NS,
        "last_ns": START_NS,
        "bundle": description.name,
        "model_sha256": description.model_sha256,
        "classes": [known.name for known in description.classes],
        "engine": "onnxruntime",
        "threshold": 0.5,
        "operating_point": "default",
    }
    return values | columns


def failed(path: str, reason: str) -> dict[str, Any]:
    """The row of a recording that failed."""
    return {"recording": path, "state": FAILED, "reason": reason}


def write_tables(
    folder: Path,
    recordings: Sequence[Mapping[str, Any]],
    frames: Sequence[Mapping[str, Any]],
    obstacles: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write the three tables, a file a recording, as `fleet.mine` does; returns the folder."""
    parts: tuple[tuple[Table, Sequence[Mapping[str, Any]]], ...] = ((FRAMES, frames), (OBSTACLES, obstacles))
    counted = [
        {
            **row,
            "frames": sum(found["recording"] == row["recording"] for found in frames),
            "obstacles": sum(found["recording"] == row["recording"] for found in obstacles),
        }
        for row in recordings
    ]
    for table, rows in ((RECORDINGS, counted), *parts):
        (folder / table.name).mkdir(parents=True)
        for row in counted if table is RECORDINGS else [row for row in counted if row["state"] == DONE]:
            own = [found for found in rows if found["recording"] == row["recording"]]
            name = f"{file_key(str(row['recording']))}.parquet"
            pq.write_table(pa.Table.from_pylist(own, table.schema), folder / table.name / name)
    return folder
