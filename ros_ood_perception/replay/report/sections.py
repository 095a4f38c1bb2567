"""The sections of the report that hold figures and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any
from xml.etree.ElementTree import Element

from ros_ood_perception.pipeline.fates import FAILED, LEFT_OUT, MALFORMED, PUBLISHED
from ros_ood_perception.replay.problems import problems, warnings
from ros_ood_perception.replay.report.figures import FrameFigures, ObstacleRow
from ros_ood_perception.replay.report.page import Content, table, tag
from ros_ood_perception.replay.report.replay_output import ReplayOutput

FATES = {
    PUBLISHED: ("Results written", "#2a9d6f"),
    LEFT_OUT: ("Skipped on request (--every)", "#7f8c8d"),
    MALFORMED: ("Malformed", "#c0392b"),
    FAILED: ("Inference failed", "#7b241c"),
}
"""Text and colour of each count."""
MOST_OBSTACLES = 60
"""Rows of the table of obstacles; those seen in most frames are kept."""
MOST_PROBLEMS = 50


def heading(output: ReplayOutput, notes: Sequence[str]) -> list[Element]:
    """Title, what ran, and notes on the report itself."""
    summary = output.summary
    source = summary["input"]
    cameras = len(output.cameras)
    found = [
        tag("h1", f"Replay of {PurePath(str(source['path'])).name or source['path']}"),
        tag(
            "p",
            f"{cameras} camera{'s' if cameras != 1 else ''} of ",
            tag("code", str(source["path"])),
            f" ({source['kind']}); bundle {summary['bundle']['name']}, engine {summary['engine']}, anomaly threshold "
            f"{output.threshold:.4f}.",
            class_="soft",
        ),
    ]
    return found + [tag("p", note, class_="bad") for note in notes]


def tiles(output: ReplayOutput, frames: Sequence[FrameFigures], obstacles: int, has_obstacles: bool) -> Element:
    """The main figures."""
    counts = [camera.facts["accounting"] for camera in output.cameras]
    published, used = (sum(count[name] for count in counts) for name in ("published", "frames"))
    areas = [frame.area for frame in frames if frame.area is not None]
    found = problems(output.summary)

    def tile(title: str, value: str, note: str = "", kind: str | None = None) -> Element:
        small = tag("small", note) if note else None
        return tag("div", tag("span", title, class_="soft"), tag("b", value, class_=kind), small, class_="card tile")

    shown = [tile("Frames with results", f"{published} of {used}")]
    if areas:
        marked = sum(area > 0 for area in areas)
        shown.append(tile("Largest anomalous share", f"{max(areas):.2%}", "of a frame"))
        shown.append(tile("Frames with anomalies", f"{marked} of {len(areas)}"))
    if has_obstacles:
        shown.append(tile("Obstacles", str(obstacles), "with ids of their own"))
    implausible = sum(sum(camera.facts["implausible"].values()) for camera in output.cameras)
    if implausible:
        shown.append(tile("Findings on images", str(implausible), "black, frozen, ...: see each camera", "bad"))
    shown.append(tile("Problems", str(len(found)) if found else "none", "", "bad" if found else "good"))
    return tag("div", *shown, class_="tiles")


def problem_list(output: ReplayOutput) -> list[Element]:
    """Damage and other problems, and what may surprise."""
    found = problems(output.summary)
    shown = [tag("li", text) for text in found[:MOST_PROBLEMS]]
    if len(found) > MOST_PROBLEMS:
        shown.append(tag("li", f"{len(found) - MOST_PROBLEMS} more are in summary.json"))
    return [tag("ul", *shown, class_="problems bad")] if shown else []


def _places(camera: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Whence the camera's pose and the vehicle's motion are. A summary of an earlier version has not all of it."""
    pose = "unknown" if camera["ground"] != "known" else str(camera.get("pose_from", "not recorded"))
    return [("Pose of the camera", pose), ("Motion of the vehicle", str(camera.get("motion") or "not used"))]


def fate_cards(output: ReplayOutput) -> list[Element]:
    """Where every frame of each camera went, and why."""
    cards = []
    for camera in output.cameras:
        counts = camera.facts["accounting"]
        frames = max(counts["frames"], 1)
        parts = [
            tag("i", style=f"width:{100 * counts[name] / frames:.3f}%;background:{colour}")
            for name, (_, colour) in FATES.items()
            if counts[name]
        ]
        rows: list[list[Content]] = [
            [tag("span", tag("i", class_="swatch", style=f"background:{colour}"), text), str(counts[name])]
            for name, (text, colour) in FATES.items()
        ]
        rows.append([tag("b", "Read from the recording"), tag("b", str(counts["frames"]))])
        rows += [[title, text] for title, text in _places(camera.facts)]
        notes = [
            *(tag("li", str(text), class_="bad") for text in camera.facts["problems"]),
            *(tag("li", text) for text in warnings(camera.facts)),
        ]
        title = tag("b", f"{camera.name}: ", tag("code", str(camera.facts["image"])))
        bar = tag("div", *parts, class_="bar")
        cards.append(tag("div", title, bar, table([], rows, [1]), tag("ul", *notes) if notes else None, class_="card"))
    lost = [tag("li", str(text)) for text in output.summary["input"]["damage"]]
    if lost:
        text = "Frames that could not be read from the recording are in no count above. What was damaged or lost:"
        cards.append(tag("div", tag("b", text), tag("ul", *lost), class_="card bad"))
    return [tag("h2", "Where every frame went"), tag("div", *cards, class_="two")]


def obstacle_table(
    rows: Sequence[ObstacleRow], frames: Sequence[FrameFigures], names: Mapping[str, tuple[int, str]], start_ns: int
) -> list[Element]:
    """Every obstacle: when it was there, how large and how near."""
    kept = sorted(sorted(rows, key=lambda row: -row.frames)[:MOST_OBSTACLES], key=lambda row: row.first)

    def seconds(index: int) -> str:
        return f"{(frames[index].time_ns - start_ns) / 1e9:.1f}"

    cells: list[list[Content]] = []
    for row in kept:
        number, name = names[row.camera]
        at_s = (frames[row.largest[1]].time_ns - start_ns) / 1e9
        link = tag("a", f"{name} {row.id}", href="#player", data_camera=number, data_t=f"{at_s:.3f}")
        nearest = "unknown" if row.nearest_m is None else f"{row.nearest_m:.1f}"
        times = (seconds(row.first), seconds(row.last))
        cells.append([link, *times, str(row.frames), f"{row.largest[0]:.0f}", nearest])
    heads: list[Content] = ["camera and id", "first, s", "last, s", "frames", "largest box, px", "nearest, m"]
    found = [tag("h2", "Obstacles")]
    if not rows:
        return [*found, tag("p", "No region persisted long enough to become an obstacle.", class_="soft")]
    if len(rows) > len(kept):
        text = f"The {len(kept)} of {len(rows)} obstacles that were seen in most frames."
        found.append(tag("p", text, class_="soft"))
    note = "Nearest: from the origin of the vehicle's frame, where the place on the ground is known."
    return [*found, tag("div", table(heads, cells, range(1, 6)), tag("p", note, class_="soft"), class_="card")]


def what_ran(output: ReplayOutput) -> list[Element]:
    """Bundle, parameters and digests: what to name when the result is passed on."""
    summary = output.summary
    bundle, plan = summary["bundle"], summary["plan"]
    options = {name: plan[name] for name in ("--every", "--start", "--stop") if plan.get(name) not in (None, 1)}
    rows: list[list[Content]] = [
        ["Bundle", str(bundle["name"])],
        ["SHA-256 of the model", tag("code", str(bundle["model_sha256"]))],
        ["Licence of the weights", str(bundle["weights_licence"])],
        ["Engine", f"{summary['engine']}, {plan['threads']} threads"],
        ["Counted as road", ", ".join(output.drivable) or "no class: region.drivable_classes is empty"],
    ]
    rows += [[name, str(value)] for name, value in options.items()]
    digests: list[list[Content]] = [
        [tag("code", str(topic)), str(facts["messages"]), tag("code", str(facts["sha256"])[:16])]
        for topic, facts in summary["topics"].items()
    ]
    heads: list[Content] = ["topic", "messages", "SHA-256, first 16 digits"]
    return [
        tag("h2", "What ran"),
        tag(
            "div",
            tag("div", table([], rows), class_="card"),
            tag("div", table(heads, digests, [1]), class_="card"),
            class_="two",
        ),
    ]
