"""The rows of a replayed frame: one in the table of frames, and one for each of its obstacles."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Collection
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fleet.mine.recording.positions import Positions
from fleet.tables.schema import FRAMES, OBSTACLES, TIMINGS
from ros_ood_perception.inference.perception import FramePerception
from ros_ood_perception.messages.stamps import stamp_ns
from ros_ood_perception.obstacles.regions import drivable_mask
from ros_ood_perception.obstacles.tracks import Obstacle
from ros_ood_perception.pipeline.camera_pipeline import FrameResult
from ros_ood_perception.replay.camera_replay import CameraReplay
from ros_ood_perception.replay.inputs import InputFrame

Row = dict[str, Any]


class RowWriter(Protocol):
    """Takes rows, table by table."""

    def add(self, table: str, row: Row) -> None:
        """Take the next row of a table."""
        ...


class FrameRows:
    """Sees every frame of a replay and writes its rows. It follows `FrameObserver`.

    Args:
        recording: name of the recording.
        num_classes: of the bundle.
        drivable_ids: class ids of drivable ground; None: everything counts as road.
        positions: where the recording was made.
        writer: takes the rows.

    Attributes:
        first_ns, last_ns: times of the first and last frame; None before the first.
        obstacles: number of rows of obstacles.
        digest: of the digests of the frames that have one, topic by topic.
    """

    def __init__(
        self,
        recording: str,
        num_classes: int,
        drivable_ids: Collection[int] | None,
        positions: Positions,
        writer: RowWriter,
    ) -> None:
        self._recording, self._num_classes, self._drivable_ids = recording, num_classes, drivable_ids
        self._positions, self._writer = positions, writer
        self.first_ns: int | None = None
        self.last_ns: int | None = None
        self.obstacles = 0
        self._machine = platform.node()
        self._before = time.monotonic()

    def __call__(self, camera: CameraReplay, frame: InputFrame, result: FrameResult | None) -> None:
        """See `FrameObserver`."""
        end = camera.last_end
        assert end is not None
        self.first_ns = frame.time_ns if self.first_ns is None else self.first_ns
        self.last_ns = frame.time_ns
        key = {"recording": self._recording, "topic": camera.topics.image, "number": frame.number}
        place = {"camera": camera.topics.name, "time_ns": frame.time_ns}
        row = dict.fromkeys(FRAMES.schema.names) | key | place | {"fate": end.fate, "problem": end.problem}
        if frame.message is not None:
            header = frame.message.header
            row |= {"stamp_ns": stamp_ns(header.stamp), "frame_id": header.frame_id}
        if result is not None:
            row |= self._of_result(result) | {
                "ground": camera.ground,
                "motion": camera.motion,
                "doubts": list(end.doubts),
            }
            row["latitude"], row["longitude"] = self._positions.at(frame.time_ns)
            for obstacle in result.obstacles:
                self._writer.add(
                    OBSTACLES.name, key | place | {"stamp_ns": row["stamp_ns"]} | _obstacle_columns(obstacle)
                )
            self.obstacles += len(result.obstacles)
        self._writer.add(FRAMES.name, row)
        now = time.monotonic()
        latency_ms, self._before = (now - self._before) * 1e3, now
        self._writer.add(TIMINGS.name, key | {"latency_ms": latency_ms, "machine": self._machine})

    def _of_result(self, result: FrameResult) -> Row:
        perception = result.perception
        height, width = perception.frame_size
        row: Row = {"height": height, "width": width, "obstacles": len(result.obstacles)}
        row |= _score_columns(perception, self._road(perception))
        counts = np.bincount(perception.engine_semantic.ravel(), minlength=self._num_classes)
        row["class_shares"] = (counts / perception.engine_semantic.size).tolist()
        row["sha256"] = _digest(perception)
        if result.motion is not None and result.motion.pose is not None:
            pose = result.motion.pose
            row |= {"x": pose.x, "y": pose.y, "yaw": pose.yaw, "motion_epoch": result.motion.epoch}
        return row

    def _road(self, perception: FramePerception) -> NDArray[np.bool_]:
        if self._drivable_ids is None:
            return np.ones(perception.engine_semantic.shape, bool)
        return between_outermost(drivable_mask(perception.engine_semantic, self._drivable_ids) > 0)


def between_outermost(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(h, w) bool: from the leftmost to the rightmost true pixel of each row of `mask` (h, w) bool.

    So a thing that hides the road behind it is on the road.

    >>> between_outermost(np.array([[False, True, False, True], [False] * 4])).astype(int).tolist()
    [[0, 1, 1, 1], [0, 0, 0, 0]]
    """
    width = mask.shape[1]
    columns = np.arange(width)
    first = np.where(mask.any(axis=1), mask.argmax(axis=1), width)[:, None]
    last = (width - 1 - mask[:, ::-1].argmax(axis=1))[:, None]
    inside: NDArray[np.bool_] = (columns >= first) & (columns <= last)
    return inside


def _score_columns(perception: FramePerception, road: NDArray[np.bool_]) -> Row:
    score = perception.engine_anomaly_score
    anomalous = score >= np.float32(perception.anomaly_threshold)
    count, pixels = int(anomalous.sum()), score.size
    total = float(score.sum(dtype=np.float64))
    known = total - float(score[anomalous].sum(dtype=np.float64))
    on_road = score[road]
    return {
        "anomaly_share": count / pixels,
        "score_mean": total / pixels,
        "score_peak": float(score.max()),
        "known_score_mean": known / (pixels - count) if count < pixels else None,
        "road_share": on_road.size / pixels,
        "road_anomaly_share": int(anomalous[road].sum()) / pixels,
        "road_score_peak": float(on_road.max()) if on_road.size else None,
    }


def _digest(perception: FramePerception) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(perception.engine_semantic).data)
    digest.update(np.ascontiguousarray(perception.engine_anomaly_score).data)
    return digest.hexdigest()


def _obstacle_columns(obstacle: Obstacle) -> Row:
    region, box = obstacle.region, obstacle.region.box
    x, y, z = obstacle.position or (None, None, None)
    return {
        "id": obstacle.id,
        "age_frames": obstacle.age_frames,
        "age_s": obstacle.age_s,
        "score": region.score,
        "score_peak": region.peak_score,
        "area": region.area,
        "box_x": box.x,
        "box_y": box.y,
        "box_width": box.width,
        "box_height": box.height,
        "foot_is_cut": region.foot_is_cut,
        "x": x,
        "y": y,
        "z": z,
        "range_m": obstacle.range_m,
        "width_m": obstacle.width_m,
        "evidence": obstacle.evidence,
    }
