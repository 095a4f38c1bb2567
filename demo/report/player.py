"""The data of the report's player: pictures, obstacles and truth of every frame, as plain values for the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.demo_input import DemoInput
from demo.recorded_run import RecordedRun
from ros_ood_perception.bundle.model_bundle import BundleDescription
from ros_ood_perception.camera.raw_image import MalformedImageError
from ros_ood_perception.messages.overlay import score_picture, semantic_picture
from ros_ood_perception.replay.report.pictures import encoded, narrowed, outlines
from ros_ood_perception.replay.report.player import PICTURE_WIDTH
from ros_ood_perception.shown_text import printable
from sample_drive.ground_truth import TrueObstacle
from training.metrics.obstacles.judging import FALSE, JudgedFrame
from training.metrics.obstacles.measure import MeasuredDrive
from training.metrics.obstacles.published import obstacle_regions

MAX_FRAMES = 600
"""Of a longer drive every second or third frame is shown, so that a browser can hold the page."""

Obstacles = Mapping[int, Mapping[int, NDArray[np.float64]]]
"""By frame, the obstacles' points (N, 3) by id."""


def recorded_obstacles(clouds: Mapping[int, NDArray[np.void]]) -> dict[int, dict[int, NDArray[np.float64]]]:
    """Clouds of `POINT` by frame, split into obstacles: id to points (N, 3), metres in `base_link`."""
    return {
        frame: {
            int(number): np.stack([cloud[axis][cloud["id"] == number].astype(np.float64) for axis in "xyz"], axis=1)
            for number in np.unique(cloud["id"])
        }
        for frame, cloud in clouds.items()
    }


class Player:
    """The data that the page plays.

    Args:
        run: what was recorded.
        played: the frames that were sent.
        obstacles: as published; None without the camera's geometry.
        measured: the obstacles judged by the truth; None without it.

    Attributes:
        shown: positions of the frames that the page plays.
    """

    def __init__(
        self,
        run: RecordedRun,
        played: DemoInput,
        description: BundleDescription,
        obstacles: Obstacles | None,
        measured: MeasuredDrive | None,
    ) -> None:
        self._run, self._description = run, description
        self._frames, self._geometry, self._truth = played.frames, played.geometry, played.truth
        self._obstacles, self._measured = obstacles, measured
        self._messages = {name: {m.frame: m for m in messages} for name, messages in run.messages.items()}
        self._complete = sorted(set.intersection(*(set(by_frame) for by_frame in self._messages.values())))
        self._step = -(-len(self._complete) // MAX_FRAMES) or 1
        self.shown = self._complete[:: self._step]

    def _judged(self, position: int) -> JudgedFrame | None:
        """The judgement of a frame; None where there is no truth about it."""
        if self._measured is None:
            return None
        return self._measured.frames.get(("", self._run.sent[position].stamp_ns))

    def _objects(self, position: int) -> tuple[TrueObstacle, ...]:
        assert self._truth is not None
        return self._truth.obstacles.get(self._run.sent[position].stamp_ns, ())

    def _obstacles_of(self, position: int) -> Mapping[int, NDArray[np.float64]]:
        return (self._obstacles or {}).get(position, {})

    def data(self, pixels: Iterable[tuple[str, int, NDArray[np.uint8]]], advance: Callable[[], None]) -> dict[str, Any]:
        """Everything that the page's script needs, for JSON.

        Args:
            pixels: recorded images, see `recorded_pixels`.
            advance: called for every frame that was sent.
        """
        frames: dict[int, dict[str, Any]] = {position: {} for position in self.shown}
        colours = self._description.colours
        for name, position, image in pixels:
            if position not in frames:
                continue
            if name == "semantic_mask":
                frames[position]["classes"] = encoded(
                    semantic_picture(narrowed(image, PICTURE_WIDTH, cv2.INTER_NEAREST), colours), ".png"
                )
            elif name == "anomaly_score":
                heat = score_picture(narrowed(image, PICTURE_WIDTH).astype(np.float32) / 255)
                frames[position]["score"] = encoded(heat, ".jpg")
            else:
                false = self._false_pixels(position, image)
                frames[position]["outlines"] = outlines(np.where(false, np.uint8(0), image), PICTURE_WIDTH)
                if false.any():
                    frames[position]["false_outlines"] = outlines(false.astype(np.uint8), PICTURE_WIDTH)
        size = None
        for position, frame in enumerate(self._frames):
            advance()
            if position not in frames:
                continue
            try:
                image = self._frames.colour(frame.message, "rgb")
            except MalformedImageError:
                # The node published a mask for a frame without an image: there is nothing to show.
                continue
            size = size or (image.shape[1], image.shape[0])
            camera = encoded(narrowed(image, PICTURE_WIDTH), ".jpg")
            frames[position] |= {"camera": camera, "name": printable(frame.name)} | self._facts(position)
        played = [frames[position] for position in self.shown if "camera" in frames[position]]
        shown = {
            "name": "camera",
            "size": size or (4, 3),
            "width": min(PICTURE_WIDTH, size[0]) if size else PICTURE_WIDTH,
            "frames": played,
        }
        return {
            "cameras": [shown] if played else [],
            "every": self._step,
            "second": {"key": "latency_ms", "unit": " ms", "text": "", "digits": 0, "max": None},
            "ground": self._ground(),
            "has_truth": self._truth is not None,
            "events": self._events(),
            "open": {"camera": 0, "frame": max(range(len(played)), key=lambda i: _found(played[i]), default=0)},
        }

    def _false_pixels(self, position: int, mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which pixels of a frame's anomaly mask (H, W) belong to false obstacles."""
        judged = self._judged(position)
        if judged is None:
            return np.zeros(mask.shape, np.bool_)
        regions = obstacle_regions(mask > 0, [obstacle.box for obstacle in judged.obstacles])
        false = [number for number, obstacle in enumerate(judged.obstacles, 1) if obstacle.verdict == FALSE]
        return np.isin(regions, false)

    def _facts(self, position: int) -> dict[str, Any]:
        sent = self._run.sent
        latency_ms = (self._messages["semantic_mask"][position].arrived_at_ns - sent[position].sent_at_ns) / 1e6
        facts: dict[str, Any] = {
            "number": position + 1,
            "t": round((sent[position].stamp_ns - sent[self._complete[0]].stamp_ns) / 1e9, 3),
            "area": round(self._messages["anomaly_mask"][position].share_set, 6),
            "latency_ms": round(latency_ms, 1),
        }
        if self._geometry is not None:
            facts["obstacles"] = self._drawn_obstacles(position)
        if self._truth is not None:
            mask = self._truth.anomaly(sent[position].stamp_ns)
            if mask is not None:
                facts["true_outlines"] = outlines(mask, PICTURE_WIDTH)
                facts["true_area"] = round(float(np.count_nonzero(mask) / mask.size), 6)
            judged = self._judged(position)
            found = {known.truth.id for known in judged.objects if known.found} if judged else set()
            facts["objects"] = [
                {
                    "id": truth.id,
                    "kind": truth.kind,
                    "found": str(truth.id) in found,
                    "range_m": round(truth.range_m, 2),
                    "visible": truth.visible_pixels > 0,
                    "footprint": _rounded(truth.footprint, 2),
                }
                for truth in self._objects(position)
            ]
        return facts

    def _drawn_obstacles(self, position: int) -> list[dict[str, Any]]:
        assert self._geometry is not None
        ground = self._geometry.ground
        judged = self._judged(position)
        verdicts = judged.verdicts if judged else {}
        drawn = []
        for number, points in self._obstacles_of(position).items():
            on_ground = points.copy()
            # The published points are above the ground, so that an obstacle layer does not drop them.
            on_ground[:, 2] = ground.ground_z_m
            pixels = ground.pixels(on_ground)
            pixels = pixels[np.isfinite(pixels).all(axis=1)]
            drawn.append(
                {
                    "id": number,
                    "points": _rounded(points[:, :2], 2),
                    "pixels": _rounded(pixels, 1),
                    "range_m": round(float(ground.range_m(points).min()), 2),
                    "verdict": verdicts.get(str(number)),
                }
            )
        return drawn

    def _ground(self) -> dict[str, Any] | None:
        """The camera's field of view on the ground: its outline, metres."""
        if self._geometry is None:
            return None
        ground = self._geometry.ground
        height, width = ground.camera.height, ground.camera.width
        # Near the horizon a pixel is metres long, so ten places of each row are computed.
        rows = np.linspace(height - 1, 0, 10 * height)
        columns = [ground.place(np.stack([np.full_like(rows, u), rows], axis=1)) for u in np.linspace(0, width - 1, 25)]
        seen = [column[np.isfinite(column).all(axis=1)] for column in columns]
        ends = [column[[0, -1]] for column in seen if len(column)]
        view = np.array([near for near, _ in ends] + [far for _, far in ends[::-1]]).reshape(-1, 3)[:, :2]
        return {
            "view": _rounded(view, 2),
            "max_range_m": ground.max_range_m,
            "camera": _rounded([ground.pose.translation[:2]], 2)[0],
        }

    def _events(self) -> list[dict[str, Any]]:
        """Where to jump to: the frame in which an unknown object is first found, or last in view if it never is."""
        if self._measured is None:
            return []
        shown = np.array([self._run.sent[position].stamp_ns for position in self.shown])
        events: list[dict[str, Any]] = []
        for record in self._measured.findings.objects.values():
            found = record.found_in
            at = found[0] if found else record.sightings[-1]
            if found:
                text = f"{record.kind} found {at.range_m or 0:.1f} m ahead"
            else:
                text = f"{record.kind} missed, in view from {record.sightings[0].range_m or 0:.1f} m on"
            events.append(
                {
                    "camera": 0,
                    "frame": min(int(np.searchsorted(shown, at.stamp_ns)), len(shown) - 1),
                    "kind": "found" if found else "missed",
                    "object": record.id,
                    "text": text,
                }
            )
        return sorted(events, key=lambda event: event["frame"])


def _found(frame: Mapping[str, Any]) -> tuple[int, int, float]:
    """The report opens on the frame with most found objects; of those, with most obstacles, then anomalous pixels."""
    found = sum(known["found"] for known in frame.get("objects", ()))
    return found, len(frame.get("obstacles", ())), frame["area"]


def _rounded(values: Sequence[Any] | NDArray[np.float64], digits: int) -> list[Any]:
    rounded: list[Any] = np.round(np.asarray(values, np.float64), digits).tolist()
    return rounded
