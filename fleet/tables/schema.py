"""The columns of every table. The files carry each description as the metadata of its field.

A frame is (recording, topic, number). Shares are of the pixels of the network's output, in [0, 1]. Times are
nanoseconds, and those of stamps are since 1970 where the driver's clock was.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = 1
"""Raised when a column changes its meaning or goes. A further column does not raise it."""
VERSION_KEY = b"ros_ood_perception.fleet.schema_version"
DONE, FAILED = "done", "failed"
"""States of a recording."""


@dataclass(frozen=True)
class Table:
    """One table, which is a folder of Parquet files.

    Attributes:
        name: of the folder.
        schema: the columns, each with its description.
        key: the columns that identify a row, in the order in which rows are sorted.
        is_repeatable: the same recordings, bundle and settings give the same rows, byte for byte.
    """

    name: str
    schema: pa.Schema
    key: tuple[str, ...]
    is_repeatable: bool = True


def _column(name: str, kind: pa.DataType, description: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable, {b"description": description.encode()})


def _schema(*columns: pa.Field) -> pa.Schema:
    return pa.schema(columns, {VERSION_KEY: str(SCHEMA_VERSION).encode()})


TEXTS = pa.list_(pa.field("element", pa.string(), nullable=False))
_FRAME_KEY = (
    _column("recording", pa.string(), "path or URI of the recording"),
    _column("topic", pa.string(), "topic of the camera's images"),
    _column("number", pa.int64(), "number of the frame among those of its topic, from 0, frames left out included"),
)
_STAMP = _column("stamp_ns", pa.int64(), "stamp of the image's header; null where the message cannot be read", True)

FRAMES = Table(
    "frames",
    _schema(
        *_FRAME_KEY,
        _column("camera", pa.string(), "name of the camera; empty if there is only one"),
        _column("time_ns", pa.int64(), "time in the recording"),
        _STAMP,
        _column("frame_id", pa.string(), "frame_id of the image's header; null where the message cannot be read", True),
        _column("fate", pa.string(), "published, malformed, failed, or left_out (--every)"),
        _column("problem", pa.string(), "why the frame is malformed or failed; else empty"),
        _column("width", pa.int32(), "width of the image, pixels; null unless published, as all below", True),
        _column("height", pa.int32(), "height of the image, pixels", True),
        _column("latitude", pa.float64(), "degrees, of the recording's nearest NavSatFix; null: none within 1 s", True),
        _column("longitude", pa.float64(), "degrees, likewise", True),
        _column(
            "x", pa.float64(), "x of the vehicle in the fixed frame of odometry or tf, metres; null: unknown", True
        ),
        _column("y", pa.float64(), "y, likewise", True),
        _column("yaw", pa.float64(), "its heading there, radians", True),
        _column("motion_epoch", pa.int64(), "x and y of other epochs cannot be compared, as after a jump", True),
        _column("anomaly_share", pa.float64(), "share of pixels whose score is at least the threshold", True),
        _column("score_mean", pa.float64(), "mean anomaly score of all pixels", True),
        _column("score_peak", pa.float64(), "highest anomaly score", True),
        _column(
            "known_score_mean",
            pa.float64(),
            "mean score of the pixels below the threshold: doubt about the known",
            True,
        ),
        _column(
            "road_share",
            pa.float64(),
            "share of pixels on the road: from the leftmost to the rightmost pixel of a drivable class, in each row",
            True,
        ),
        _column("road_anomaly_share", pa.float64(), "pixels on the road at or above the threshold, of all", True),
        _column("road_score_peak", pa.float64(), "highest score on the road; null: no road is seen", True),
        _column("obstacles", pa.int32(), "number of obstacles", True),
        _column("ground", pa.string(), "known, or why nothing can be placed on the ground", True),
        _column("motion", pa.string(), "known, or why it is not known where the vehicle was", True),
        _column(
            "doubts",
            TEXTS,
            "kinds of doubt about the picture, sorted: frozen, black, blown_out, blurred, wrong_size, filled_up; and "
            "frames_too_far_apart, no_motion",
            True,
        ),
        _column(
            "class_shares",
            pa.list_(pa.field("element", pa.float64(), nullable=False)),
            "share of pixels of each class, in the order of `classes` in the table of recordings",
            True,
        ),
        _column(
            "sha256", pa.string(), "digest of class ids and scores as the network gave them, before any rounding", True
        ),
    ),
    ("recording", "topic", "number"),
)

OBSTACLES = Table(
    "obstacles",
    _schema(
        *_FRAME_KEY,
        _column("camera", pa.string(), "name of the camera; empty if there is only one"),
        _column("time_ns", pa.int64(), "time in the recording"),
        _column("stamp_ns", pa.int64(), "stamp of the image's header"),
        _column("id", pa.int64(), "the same for one obstacle as long as its camera follows it"),
        _column("age_frames", pa.int32(), "number of frames in which it was seen, this one included"),
        _column("age_s", pa.float64(), "seconds since it was first seen"),
        _column("score", pa.float64(), "mean anomaly score of its pixels"),
        _column("score_peak", pa.float64(), "highest anomaly score of its pixels"),
        _column("area", pa.int64(), "pixels of the image"),
        _column("box_x", pa.int32(), "left edge of its box, pixels of the image"),
        _column("box_y", pa.int32(), "upper edge, likewise"),
        _column("box_width", pa.int32(), "width of its box, pixels of the image"),
        _column("box_height", pa.int32(), "height, likewise"),
        _column("foot_is_cut", pa.bool_(), "it reaches the lower edge of the image or the own vehicle"),
        _column("x", pa.float64(), "x of its place in the vehicle's frame, metres; null: it has none", True),
        _column("y", pa.float64(), "y, likewise", True),
        _column("z", pa.float64(), "z, likewise", True),
        _column("range_m", pa.float64(), "distance of its nearest point from the camera; null: it has no place", True),
        _column("width_m", pa.float64(), "width across the line of sight; null: it has no place", True),
        _column("evidence", pa.float64(), "log-likelihood ratio of object to false mark; null: frames counted", True),
    ),
    ("recording", "topic", "number", "id"),
)

_CAMERA = pa.struct(
    [
        _column("topic", pa.string(), "topic of the images"),
        _column("name", pa.string(), "name of the camera; empty if there is only one"),
        *(
            _column(name, pa.int64(), f"frames: {text}")
            for name, text in (
                ("frames", "all; the sum of the others"),
                ("left_out", "skipped because of --every"),
                ("published", "with results"),
                ("malformed", "without a readable image"),
                ("failed", "the engine failed"),
            )
        ),
    ]
)
_OUTPUT = pa.struct(
    [
        _column("topic", pa.string(), "topic of an output of the replay"),
        _column("messages", pa.int64(), "number of messages"),
        _column("sha256", pa.string(), "digest of the messages: that in summary.json of a replay"),
    ]
)

RECORDINGS = Table(
    "recordings",
    _schema(
        _column("recording", pa.string(), "path or URI of the recording"),
        _column("state", pa.string(), f"{DONE} or {FAILED}. A failed recording has no rows in other tables"),
        _column("reason", pa.string(), "why it failed; else empty"),
        _column("bytes", pa.int64(), "size of the recording; null: unknown", True),
        _column("kind", pa.string(), "bag, folder of images, or video; null if it failed, as below", True),
        _column("frames", pa.int64(), "frames of all cameras", True),
        _column("obstacles", pa.int64(), "rows in the table of obstacles", True),
        _column("first_ns", pa.int64(), "time of the first frame; null: it has none", True),
        _column("last_ns", pa.int64(), "time of the last frame", True),
        _column(
            "cameras",
            pa.list_(pa.field("element", _CAMERA, nullable=False)),
            "where every frame of each camera went",
            True,
        ),
        _column("left_out", TEXTS, "image topics that are not taken for a camera, with the reason", True),
        _column("damage", TEXTS, "what of the recording cannot be read", True),
        _column("notes", TEXTS, "what to know about the recording, and is no damage", True),
        _column("problems", TEXTS, "what to know before trusting its results, as a replay prints it", True),
        _column("warnings", TEXTS, "what may surprise about its cameras, as a replay prints it", True),
        _column(
            "outputs",
            pa.list_(pa.field("element", _OUTPUT, nullable=False)),
            "digest of each output of --outputs as a replay writes it, and of /diagnostics; empty without --outputs",
            True,
        ),
        _column("sha256", pa.string(), "digest of its frames' digests, in the order of their key", True),
        _column("bundle", pa.string(), "name of the bundle", True),
        _column("model_sha256", pa.string(), "digest of its model", True),
        _column("classes", TEXTS, "names of its classes, by id", True),
        _column("engine", pa.string(), "name of the engine", True),
        _column("threshold", pa.float64(), "anomaly threshold", True),
        _column("operating_point", pa.string(), "name of the operating point", True),
    ),
    ("recording",),
)

TIMINGS = Table(
    "timings",
    _schema(
        *_FRAME_KEY,
        _column(
            "latency_ms",
            pa.float64(),
            "time that the worker took: since the frame before it was done, reading included",
        ),
        _column("machine", pa.string(), "name of the machine"),
    ),
    ("recording", "topic", "number"),
    is_repeatable=False,
)
"""Apart, because latencies differ from run to run, and the other tables do not."""

TABLES = (FRAMES, OBSTACLES, RECORDINGS, TIMINGS)
