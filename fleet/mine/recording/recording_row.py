"""The row of a recording in the table of recordings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from fleet.mine.recording.parts import SpanResult
from fleet.tables.schema import DONE, FAILED, RECORDINGS
from ros_ood_perception.replay.problems import problems, warnings

_FATES = ("frames", "left_out", "published", "malformed", "failed")


def recording_digest(frames: Iterable[Mapping[str, Any]]) -> str:
    """Digest of the rows of a recording's frames: what each is, what became of it, and its own digest, by topic."""
    of_topics: dict[str, Any] = {}
    for row in frames:
        line = (row["number"], row["time_ns"], row["stamp_ns"], row["fate"], row["sha256"])
        of_topics.setdefault(row["topic"], hashlib.sha256()).update(repr(line).encode())
    whole = hashlib.sha256()
    for topic in sorted(of_topics):
        whole.update(f"{topic} {of_topics[topic].hexdigest()}\n".encode())
    return whole.hexdigest()


def done_row(
    name: str, size: int | None, summary: Mapping[str, Any], result: SpanResult, sha256: str
) -> dict[str, Any]:
    """The row of a replayed recording.

    Args:
        summary: as in `summary.json` of its replay.
        result: of the whole recording.
        sha256: see `recording_digest`.
    """
    cameras, read, bundle = summary["cameras"], summary["input"], summary["bundle"]
    return {
        "recording": name,
        "state": DONE,
        "reason": "",
        "bytes": size,
        "kind": read["kind"],
        "frames": sum(camera["accounting"]["frames"] for camera in cameras),
        "obstacles": result.obstacles,
        "first_ns": result.first_ns,
        "last_ns": result.last_ns,
        "cameras": [
            {"topic": camera["image"], "name": camera["name"], **{fate: camera["accounting"][fate] for fate in _FATES}}
            for camera in cameras
        ],
        "left_out": [f"{topic}: {reason}" for topic, reason in sorted(read["not_cameras"].items())],
        "damage": read["damage"],
        "notes": read["notes"],
        "problems": problems(summary),
        "warnings": [
            f"{camera['image']}: {text}" if len(cameras) > 1 else text
            for camera in cameras
            for text in warnings(camera)
        ],
        "outputs": [{"topic": topic, **facts} for topic, facts in sorted(summary["topics"].items())],
        "sha256": sha256,
        "bundle": bundle["name"],
        "model_sha256": bundle["model_sha256"],
        "classes": [known["name"] for known in bundle["classes"]],
        "engine": summary["engine"],
        "threshold": summary["anomaly_threshold"],
        "operating_point": summary["operating_point"],
    }


def failed_row(name: str, size: int | None, reason: str) -> dict[str, Any]:
    """The row of a recording that failed."""
    row = dict.fromkeys(RECORDINGS.schema.names)
    return row | {"recording": name, "state": FAILED, "reason": reason, "bytes": size}
