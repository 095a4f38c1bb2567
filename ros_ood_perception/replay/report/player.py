"""The data of the page's player, and the elements that it draws into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.messages.overlay import score_picture, semantic_picture
from ros_ood_perception.recordings.results import ResultFrame
from ros_ood_perception.replay.report.figures import FrameFigures, score_of
from ros_ood_perception.replay.report.page import Content, tag
from ros_ood_perception.replay.report.pictures import Colours, data_uri, encoded, narrowed, outlines
from ros_ood_perception.shown_text import printable

PICTURE_WIDTH = 480
SPEEDS = ("0.25", "0.5", "1", "2", "4")


@dataclass
class PlayedFrame:
    """One frame of the player: its number among the camera's frames with results, and its part of the data."""

    number: int
    figures: FrameFigures
    start_ns: int
    data: dict[str, Any] = field(default_factory=dict)
    size: tuple[int, int] | None = None

    def add_results(self, frame: ResultFrame, colours: Colours) -> None:
        """Add the pictures of a frame's results."""
        ids, mask, score = frame.pictures.get("semantic_mask"), frame.pictures.get("anomaly_mask"), score_of(frame)
        if ids is None:
            return
        self.size = (ids.shape[1], ids.shape[0])
        small = narrowed(ids, PICTURE_WIDTH, cv2.INTER_NEAREST)
        self.data["classes"] = encoded(semantic_picture(small, colours), ".png")
        if score is not None:
            self.data["score"] = encoded(score_picture(narrowed(score, PICTURE_WIDTH)), ".jpg")
        if mask is not None:
            self.data["outlines"] = outlines(mask, PICTURE_WIDTH)

    def add_image(self, name: str, image: NDArray[np.uint8]) -> None:
        """Add the camera's image (H, W, 3) uint8 RGB."""
        self.data |= {"camera": encoded(narrowed(image, PICTURE_WIDTH), ".jpg"), "name": printable(name)}

    def plain(self) -> dict[str, Any]:
        """The frame's part of the data for the page's script."""
        figures = self.figures
        found: dict[str, Any] = {
            "number": self.number,
            "t": round((figures.time_ns - self.start_ns) / 1e9, 3),
            "name": f"stamp {figures.key[1] / 1e9:.3f} s",
            "area": round(figures.area or 0.0, 6),
            "peak": None if figures.peak is None else round(figures.peak, 4),
            "obstacles": [
                {"id": printable(box.id, 40), "box": [round(v, 1) for v in (box.x, box.y, box.width, box.height)]}
                | ({"range_m": round(range_m, 2)} if (range_m := figures.ranges_m.get(box.id)) is not None else {})
                for box in figures.boxes
            ],
        }
        return found | self.data


def player_data(cameras: Sequence[tuple[str, Sequence[PlayedFrame]]]) -> dict[str, Any] | None:
    """Everything that `player.js` needs, for JSON; None if there is no frame to show.

    Args:
        cameras: name and frames of each camera.
    """
    shown = [(name, [frame for frame in frames if frame.size is not None]) for name, frames in cameras]
    shown = [(name, frames) for name, frames in shown if frames]
    if not shown:
        return None
    opened = max(
        ((number, index) for number, (_, frames) in enumerate(shown) for index in range(len(frames))),
        key=lambda place: _found(shown[place[0]][1][place[1]].figures),
    )
    return {
        "cameras": [
            {
                "name": printable(name),
                "size": frames[0].size,
                "width": min(PICTURE_WIDTH, (frames[0].size or (PICTURE_WIDTH,))[0]),
                "frames": [frame.plain() for frame in frames],
            }
            for name, frames in shown
        ],
        "second": {"key": "peak", "unit": "", "text": "largest score ", "digits": 3, "max": 1},
        "ground": None,
        "has_truth": False,
        "events": [],
        "open": {"camera": opened[0], "frame": opened[1]},
    }


def _found(figures: FrameFigures) -> tuple[float, float]:
    """A report opens on the frame with most obstacles; of those, with most anomaly evidence."""
    return len(figures.boxes), figures.evidence


def player_card(data: dict[str, Any], threshold: float) -> Element:
    """The elements of the player."""
    frames = [frame for camera in data["cameras"] for frame in camera["frames"]]
    has_classes = any("classes" in frame for frame in frames)
    has_score = any("score" in frame for frame in frames)
    camera = tag(
        "figure", _canvas("camera", "camera"), tag("figcaption", "camera", id="camera-caption"), _controls(data)
    )
    beside: list[Content] = []
    if has_classes:
        beside.append(tag("figure", _canvas("classes", "classes"), tag("figcaption", "classes")))
    if has_score:
        beside.append(tag("figure", _canvas("score", "anomaly score"), heat_caption()))
    stage = tag("div", camera, tag("div", *beside, class_="stack") if beside else None)
    stage.set("class", "stage" if beside else "stage single")
    timeline = tag("canvas", id="timeline", tabindex=0, role="slider", aria_label="time")
    return tag("div", stage, timeline, _key(threshold), class_="card player", id="player")


def heat_caption() -> Element:
    """The scale of the pictures of the score."""
    bar = data_uri(score_picture(np.linspace(0, 1, 256, dtype=np.float32)[None].repeat(8, 0)), ".png")
    return tag("figcaption", "anomaly score 0 ", tag("img", alt="", src=bar), " 1", class_="heat")


def _canvas(name: str, label: str) -> Element:
    return tag("canvas", id=name, role="img", aria_label=label)


def _controls(data: dict[str, Any]) -> Element:
    cameras = [tag("option", camera["name"], value=number) for number, camera in enumerate(data["cameras"])]
    speeds = [tag("option", f"{speed} x", value=speed, selected=speed == "1") for speed in SPEEDS]
    return tag(
        "div",
        tag("button", "▶ Play", id="play", title="Space"),
        tag("button", "◀", id="back", title="Left arrow", aria_label="one frame back"),
        tag("button", "▶", id="forward", title="Right arrow", aria_label="one frame on"),
        tag("label", "Camera ", tag("select", *cameras, id="which")) if len(cameras) > 1 else None,
        tag("label", "Speed ", tag("select", *speeds, id="speed")),
        tag("label", tag("input", type="checkbox", id="show-found", checked=True), " anomaly mask and obstacles"),
        tag("span", id="where"),
        class_="controls",
    )


def _key(threshold: float) -> Element:
    keys = (tag("kbd", "Space"), " play ", tag("kbd", "←"), tag("kbd", "→"), " frame")
    return tag(
        "div",
        tag("span", tag("i", style="border-color:var(--above)"), f"pixels above the threshold ({threshold:.3f})"),
        tag("span", tag("i", class_="dot", style="background:var(--latency)"), "largest score"),
        tag("span", class_="spacer"),
        tag("span", *keys),
        class_="key",
    )
