"""The frames with most anomaly evidence, one of each scene, as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.messages.overlay import score_picture
from ros_ood_perception.recordings.results import DetectedBox, FrameKey, ResultFrame
from ros_ood_perception.replay.report.figures import FrameFigures, score_of, worst
from ros_ood_perception.replay.report.page import Content, tag
from ros_ood_perception.replay.report.pictures import Colours, data_uri, found_picture, narrowed
from ros_ood_perception.replay.report.player import heat_caption
from ros_ood_perception.replay.scenes import Scenes

SHOWN = 6
"""Number of frames that are shown."""
CANDIDATES = 18
"""Number of frames whose pictures are compared."""
WIDTH = 720


@dataclass
class Candidate:
    """A frame that may be shown: its results and image, at most `WIDTH` pixels wide."""

    figures: FrameFigures
    ids: NDArray[np.uint8] | None = None
    mask: NDArray[np.uint8] | None = None
    score: NDArray[np.float32] | None = None
    boxes: tuple[DetectedBox, ...] = ()
    image: NDArray[np.uint8] | None = None
    classes: set[int] = field(default_factory=set)

    def add_results(self, frame: ResultFrame) -> None:
        """Keep the frame's results."""
        ids = frame.pictures.get("semantic_mask")
        if ids is None:
            return
        self.ids = narrowed(ids, WIDTH, cv2.INTER_NEAREST)
        self.classes = set(np.unique(self.ids).tolist())
        mask, score = frame.pictures.get("anomaly_mask"), score_of(frame)
        self.mask = None if mask is None else narrowed(mask, WIDTH, cv2.INTER_NEAREST)
        self.score = None if score is None else narrowed(score, WIDTH)
        scale = self.ids.shape[1] / ids.shape[1]
        self.boxes = tuple(
            DetectedBox(box.x * scale, box.y * scale, box.width * scale, box.height * scale, box.id)
            for box in frame.obstacles or ()
        )

    def add_image(self, image: NDArray[np.uint8]) -> None:
        """Keep the camera's image (H, W, 3) uint8 RGB."""
        self.image = narrowed(image, WIDTH)


def candidates(frames: Sequence[FrameFigures], by_time: bool = True) -> dict[FrameKey, Candidate]:
    """The worst frames that are far enough apart in time, the worst first; see `Scenes` for `by_time`."""
    apart = Scenes(by_time)
    found: dict[FrameKey, Candidate] = {}
    for figures in worst(frames, len(frames)):
        if apart.add(figures.camera, figures.time_ns):
            found[figures.key] = Candidate(figures)
            if len(found) == CANDIDATES:
                break
    return found


def one_of_each_scene(found: Mapping[FrameKey, Candidate], by_time: bool = True) -> list[Candidate]:
    """At most `SHOWN` candidates, in their order, without near copies of an earlier one."""
    scenes = Scenes(by_time)
    shown = [
        candidate
        for candidate in found.values()
        if candidate.ids is not None
        and scenes.add(candidate.figures.camera, candidate.figures.time_ns, candidate.image)
    ]
    return shown[:SHOWN]


def worst_frame_cards(
    shown: Sequence[Candidate],
    names: Mapping[str, tuple[int, str]],
    start_ns: int,
    classes: Sequence[str],
    colours: Colours,
) -> list[Element]:
    """A card for each frame: camera, what was found, and score side by side.

    Args:
        names: prefix of a camera's outputs to its index in the player, and its name.
    """
    cards: list[Element] = []
    for candidate in shown:
        assert candidate.ids is not None
        figures = candidate.figures
        number, name = names[figures.camera]
        seconds = (figures.time_ns - start_ns) / 1e9
        link = tag("a", f"{name}, {seconds:.1f} s", href="#player", data_camera=number, data_t=f"{seconds:.3f}")
        area = "" if figures.area is None else f"{figures.area:.2%} of the frame above the threshold, "
        note = f"{area}evidence {figures.evidence:.4f}, {len(figures.boxes)} obstacles"
        panels: list[Content] = []
        if candidate.image is not None:
            panels.append(_panel("camera", candidate.image, f"camera {name}"))
        drawn = found_picture(candidate.image, candidate.ids, candidate.mask, candidate.boxes, colours)
        panels.append(_panel("classes, anomalies and obstacles", drawn, f"results of {name}"))
        if candidate.score is not None:
            panel = _panel("", score_picture(candidate.score), f"anomaly score of {name}")
            panel.remove(panel[-1])
            panel.append(heat_caption())
            panels.append(panel)
        header = tag("header", tag("b", link), tag("span", note, class_="soft"))
        cards.append(tag("div", header, tag("div", *panels, class_="panels"), class_="card frame"))
    if cards:
        seen = set[int]().union(*(candidate.classes for candidate in shown))
        cards.append(legend([(classes[i], colours[i]) for i in sorted(seen) if i < len(classes)]))
    return cards


def legend(classes: Sequence[tuple[str, tuple[int, int, int]]]) -> Element:
    """Colours of classes, anomalies and obstacles."""

    def entry(name: str, style: str) -> Element:
        return tag("span", tag("i", class_="swatch", style=style), name)

    shown = [entry(name, f"background:rgb({r},{g},{b})") for name, (r, g, b) in classes]
    shown.append(entry("above the threshold", "background:rgb(255,140,0)"))
    shown.append(entry("obstacle", "background:transparent;border:2px solid #fff;outline:1px solid #000"))
    return tag("p", *shown, class_="legend")


def _panel(caption: str, picture: NDArray[np.uint8], alt: str) -> Element:
    return tag("figure", tag("img", alt=alt, src=data_uri(picture)), tag("figcaption", caption))
