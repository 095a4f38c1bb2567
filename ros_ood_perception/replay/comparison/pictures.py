"""Pictures of the frames that differ most: camera image, both results, and the pixels that changed, with a legend."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.files.output_folder import OutputFolder
from ros_ood_perception.messages.overlay import ANOMALY_COLOUR, semantic_picture
from ros_ood_perception.recordings.results import ResultFrame
from ros_ood_perception.replay.comparison.classes import MatchedClasses
from ros_ood_perception.replay.comparison.worst_pairs import PART_WIDTH, ChangedPair
from ros_ood_perception.replay.inputs import Input
from ros_ood_perception.replay.recorded_images import ImageKey, recorded_images
from ros_ood_perception.replay.report.pictures import draw_boxes, narrowed
from ros_ood_perception.shown_text import printable

WORST_FOLDER = "worst"
TITLE_HEIGHT = 26
"""Height of a line of text, pixels."""
ANOMALOUS_BEFORE = (0, 140, 255)
MARGIN = 6
LONGEST_TITLE = 110

Picture = NDArray[np.uint8]


def camera_images(source: Input | None, node_name: str, pairs: Sequence[ChangedPair]) -> list[Picture | None]:
    """The camera image of each frame, (H, W, 3) uint8 RGB at most `PART_WIDTH` wide; None if it is not found, or not
    unique."""
    found: dict[ImageKey, list[Picture]] = {pair.key: [] for pair in pairs}
    if source is not None:
        # A frame with results has passed the check of its size before, with the node's own limit.
        for key, _, image in recorded_images(source, node_name, found, sys.maxsize):
            found[key].append(narrowed(image, PART_WIDTH))
    return [found[pair.key][0] if len(found[pair.key]) == 1 else None for pair in pairs]


def write_picture(
    output: OutputFolder, rank: int, image: Picture | None, pair: ChangedPair, classes: MatchedClasses
) -> str:
    """Write camera image, other run, this run and changed pixels in two rows; returns the name of the file."""
    here, there = pair.here, pair.there
    theirs, ours = (_drawn(frame, classes) for frame in (there, here))
    parts = {"other run": theirs, "this run": ours, "changed": _difference(here, there, ours)}
    if image is not None and image.shape == ours.shape:
        parts = {"camera": image, **parts}
    else:
        parts = {"camera: no image": np.zeros_like(ours), **parts}
    shown = [_titled(title, _wide(picture)) for title, picture in parts.items()]
    rows = [np.concatenate(shown[:2], axis=1), np.concatenate(shown[2:], axis=1)]
    title = f"{here.camera}  stamp {here.stamp_ns / 1e9:.3f} s  {pair.changed:.2%} of the pixels changed"
    width = rows[0].shape[1]
    text = _line(width, [(printable(title, LONGEST_TITLE), None)])
    joined = np.concatenate([text, *rows, *_legend(width, here, there, classes)])
    name = f"{WORST_FOLDER}/{rank}_{here.stamp_ns}.png"
    output.write(name, cv2.imencode(".png", cv2.cvtColor(joined, cv2.COLOR_RGB2BGR))[1].tobytes())
    return name


def _difference(here: ResultFrame, there: ResultFrame, ours: Picture) -> Picture:
    changed = here.pictures["semantic_mask"] != there.pictures["semantic_mask"]
    difference = np.where(changed[..., None], np.uint8(255), (ours // 4).astype(np.uint8))
    if "anomaly_mask" in here.pictures and "anomaly_mask" in there.pictures:
        a, b = here.pictures["anomaly_mask"] > 0, there.pictures["anomaly_mask"] > 0
        difference[a & ~b], difference[b & ~a] = ANOMALY_COLOUR, ANOMALOUS_BEFORE
    return difference


def _drawn(frame: ResultFrame, classes: MatchedClasses) -> Picture:
    picture = semantic_picture(frame.pictures["semantic_mask"], classes.colours)
    if "anomaly_mask" in frame.pictures:
        picture[frame.pictures["anomaly_mask"] > 0] = ANOMALY_COLOUR
    draw_boxes(picture, frame.obstacles or ())
    return picture


def _wide(picture: Picture) -> Picture:
    """A picture at `PART_WIDTH`: a small one is enlarged, so that text fits beside it."""
    if picture.shape[1] == PART_WIDTH:
        return picture
    height = max(round(picture.shape[0] * PART_WIDTH / picture.shape[1]), 1)
    enlarged: Picture = cv2.resize(picture, (PART_WIDTH, height), interpolation=cv2.INTER_NEAREST)
    return enlarged


def _titled(title: str, picture: Picture) -> Picture:
    return np.concatenate([_line(picture.shape[1], [(title, None)]), picture])


def _legend(width: int, here: ResultFrame, there: ResultFrame, classes: MatchedClasses) -> list[Picture]:
    """Lines with the colours of the classes that are seen, and of the changes."""
    seen = set(np.unique(here.pictures["semantic_mask"]).tolist()) | set(
        np.unique(there.pictures["semantic_mask"]).tolist()
    )
    names = (*classes.names, *classes.only_there)
    entries: list[tuple[str, tuple[int, int, int] | None]] = [
        (printable(names[number], 30), classes.colours[number]) for number in sorted(seen) if number < len(names)
    ]
    changes: list[tuple[str, tuple[int, int, int] | None]] = [
        ("above the threshold", ANOMALY_COLOUR),
        ("changed: another class", (255, 255, 255)),
        ("anomalous now only", ANOMALY_COLOUR),
        ("anomalous before only", ANOMALOUS_BEFORE),
    ]
    lines, line, used = [], list[tuple[str, tuple[int, int, int] | None]](), MARGIN
    for entry in (*entries, *changes):
        length = _entry_width(entry[0])
        if line and used + length > width:
            lines.append(_line(width, line))
            line, used = [], MARGIN
        line.append(entry)
        used += length
    return [*lines, _line(width, line)]


def _entry_width(text: str) -> int:
    return int(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0]) + 34


def _line(width: int, entries: Sequence[tuple[str, tuple[int, int, int] | None]]) -> Picture:
    """A line of text, each part with a square of its colour before it."""
    strip = np.full((TITLE_HEIGHT, width, 3), 24, np.uint8)
    x = MARGIN
    for text, colour in entries:
        left = x
        if colour is not None:
            cv2.rectangle(strip, (x, 7), (x + 12, 19), colour, cv2.FILLED)
            cv2.rectangle(strip, (x, 7), (x + 12, 19), (160, 160, 160), 1)
            left += 18
        # The font has ASCII only.
        shown = text.encode("ascii", "replace").decode()
        cv2.putText(strip, shown, (left, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
        x += _entry_width(text)
    return strip
