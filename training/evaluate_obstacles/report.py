"""The report of obstacles: one HTML file with curves, timelines, and a picture of each false obstacle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.recordings.results import DetectedBox
from ros_ood_perception.replay.recorded_images import ImageKey, recorded_images
from training.evaluation.report_page import picture_uri, pyplot, svg_uri, write_page
from training.metrics.obstacles.causes import FalseObstacle
from training.metrics.obstacles.findings import SECONDS_PER_NANOSECOND
from training.metrics.obstacles.judging import FALSE
from training.metrics.obstacles.replayed import MeasuredReplay

TEMPLATE = Path(__file__).with_name("obstacle_report.html.jinja")
MOST_PICTURES = 60
"""False obstacles that are shown. A page with more is slow to open."""
CONTEXT = 1.5
"""Of the box's size, so much is shown around it on each side,"""
LEAST_CONTEXT_PX = 40
"""or so many pixels, if that is more."""
NEAR_WIDTH = 320
FOUND_COLOUR, SEEN_COLOUR, FALSE_COLOUR = "#2a6f9d", "#b9cfdd", "#c0392b"
FALSE_RGB = (230, 60, 40)


@dataclass(frozen=True)
class ShownFalse:
    """A false obstacle on the page: its facts, and two pictures as data URIs; None without camera images."""

    known: FalseObstacle
    drive: str
    seconds: float
    near: str | None
    frame: str | None


def write_obstacle_report(path: Path, output: dict[str, Any], replays: Sequence[MeasuredReplay]) -> list[str]:
    """Write the report.

    Args:
        output: all figures, as in the JSON file.
        replays: that they are of.

    Returns:
        A sentence for each drive without camera images.

    Raises:
        OSError: the file cannot be written, with the path.
    """
    notes: list[str] = []
    ranked = sorted(
        ((known, replay) for replay in replays for known in replay.false.worst_first()),
        key=lambda pair: (-pair[0].frames, -pair[0].score),
    )
    chosen = ranked[:MOST_PICTURES]
    pictures: dict[tuple[int, str, str], tuple[str, str]] = {}
    for number, replay in enumerate(replays):
        own = [known for known, of in chosen if of is replay]
        pictures |= {(number, *key): uris for key, uris in _pictures(replay, own, notes).items()}
    shown = []
    for known, replay in chosen:
        near, frame = pictures.get((replays.index(replay), known.camera, known.id), (None, None))
        seconds = (known.stamp_ns - _start_ns(replay)) * SECONDS_PER_NANOSECOND
        shown.append(ShownFalse(known, str(replay.truth.out), seconds, near, frame))
    write_page(
        path,
        TEMPLATE,
        output=output,
        froc=_froc_chart(output["froc"]["points"]) if output["objects"] else None,
        ranges=_range_chart(output["by_range_m"]) if output["by_range_m"] else None,
        timelines=[(str(replay.truth.out), _timeline(replay)) for replay in replays],
        shown=shown,
        not_shown=len(ranked) - len(shown),
        several=len(replays) > 1,
    )
    return notes


def _start_ns(replay: MeasuredReplay) -> int:
    return min(stamp for _, stamp in replay.drive.frames)


def _pictures(
    replay: MeasuredReplay, wanted: Sequence[FalseObstacle], notes: list[str]
) -> dict[tuple[str, str], tuple[str, str]]:
    """Camera and id to the pictures of the place and of the whole frame."""
    output = replay.output
    if not wanted:
        return {}
    try:
        source, problem = output.open_recording(replay.truth.recording)
    except (PerceptionError, OSError) as error:
        source, problem = None, f"without camera images: {error}"
    if source is None:
        notes.append(f"{replay.truth.out}: {problem}")
        return {}
    by_image: dict[ImageKey, list[FalseObstacle]] = defaultdict(list)
    for known in wanted:
        by_image[known.image_key].append(known)
    found = {}
    for key, _, image in recorded_images(source, output.node_name, by_image, output.max_pixels):
        for known in by_image[key]:
            framed = image.copy()
            _draw(framed, known.box)
            found[known.camera, known.id] = (picture_uri(_near(framed, known.box), NEAR_WIDTH), picture_uri(framed))
    return found


def _draw(picture: NDArray[np.uint8], box: DetectedBox) -> None:
    width = max(picture.shape[1] // 320, 1)
    corners = (round(box.x), round(box.y)), (round(box.x + box.width), round(box.y + box.height))
    cv2.rectangle(picture, *corners, FALSE_RGB, width)


def _near(picture: NDArray[np.uint8], box: DetectedBox) -> NDArray[np.uint8]:
    """The box with its surroundings, at least as wide as high, enlarged to a width that can be seen."""
    above = max(CONTEXT * box.height, LEAST_CONTEXT_PX)
    aside = max(CONTEXT * box.width, LEAST_CONTEXT_PX, above + (box.height - box.width) / 2)
    left, top = max(int(box.x - aside), 0), max(int(box.y - above), 0)
    right, bottom = int(box.x + box.width + aside) + 1, int(box.y + box.height + above) + 1
    part = np.ascontiguousarray(picture[top:bottom, left:right])
    factor = max(NEAR_WIDTH / part.shape[1], 1.0)
    return cv2.resize(part, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)


def _froc_chart(points: Sequence[dict[str, Any]]) -> str:
    """Objects found over false obstacles a minute, with both intervals' band."""
    figure, axes = pyplot.subplots(figsize=(5.6, 3.8), layout="constrained")
    known = [p for p in points if p["share_found"] is not None and p["false_obstacles_per_minute"] is not None]
    rates = [p["false_obstacles_per_minute"] for p in known]
    axes.plot(rates, [100 * p["share_found"] for p in known], color=FOUND_COLOUR, drawstyle="steps-post")
    band = [p for p in known if p["share_found_interval"] is not None]
    if band:
        axes.fill_between(
            [p["false_obstacles_per_minute"] for p in band],
            [100 * p["share_found_interval"][0] for p in band],
            [100 * p["share_found_interval"][1] for p in band],
            color=FOUND_COLOUR,
            alpha=0.15,
            step="post",
            linewidth=0,
        )
    axes.set(xlabel="false obstacles a minute", ylabel="objects found, %", ylim=(0, 102))
    axes.set_xscale("symlog", linthresh=1.0)
    axes.set_xlim(0, max([*rates, 1.0]))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    return svg_uri(figure)


def _range_chart(groups: dict[str, dict[str, Any]]) -> str:
    """Share of the frames in view in which the object was found, by its range."""
    figure, axes = pyplot.subplots(figsize=(5.6, 3.8), layout="constrained")
    names = list(groups)
    shares = [100 * (groups[name]["share_of_frames_found"] or 0.0) for name in names]
    bars = axes.bar(names, shares, color=FOUND_COLOUR)
    axes.bar_label(bars, [f"{groups[name]['found']} of {groups[name]['objects']}" for name in names], fontsize=8)
    axes.set(xlabel="range, m", ylabel="frames in view with the object found, %", ylim=(0, 105))
    axes.spines[["top", "right"]].set_visible(False)
    return svg_uri(figure)


def _timeline(replay: MeasuredReplay) -> str:
    """When each object was in view and found, and when obstacles were false."""
    objects = list(replay.drive.findings.objects.values())
    figure, axes = pyplot.subplots(figsize=(11.5, 0.9 + 0.22 * (len(objects) + 1)), layout="constrained")
    start, names = _start_ns(replay), []
    for row, record in enumerate(objects):
        names.append(f"{record.camera} {record.kind} {record.id}".strip())
        for sightings, colour in ((record.sightings, SEEN_COLOUR), (record.found_in, FOUND_COLOUR)):
            times = [(sighting.stamp_ns - start) * SECONDS_PER_NANOSECOND for sighting in sightings]
            axes.plot(times, [row] * len(times), "s", color=colour, markersize=4)
    names.append("false obstacles")
    counts = {
        stamp: sum(obstacle.verdict == FALSE for obstacle in frame.obstacles)
        for (_, stamp), frame in replay.drive.frames.items()
    }
    times = [(stamp - start) * SECONDS_PER_NANOSECOND for stamp, count in counts.items() if count]
    sizes = [12.0 * count for count in counts.values() if count]
    axes.scatter(times, [len(objects)] * len(times), s=sizes, color=FALSE_COLOUR, marker="o", linewidths=0)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xlabel="seconds", ylim=(len(names) - 0.4, -0.6))
    axes.spines[["top", "right"]].set_visible(False)
    return svg_uri(figure)
