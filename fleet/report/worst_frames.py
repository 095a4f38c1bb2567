"""The frames of a fleet with most evidence of the unknown, as pictures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from fleet.comparison.groups import FIRST_REAL_NS
from fleet.report.charts import moment
from fleet.selection.candidates import UNKNOWN, Candidate, LeftOut, best_candidates
from fleet.selection.recorded_frames import FrameReader
from fleet.tables.mined import MinedTables
from fleet.tables.schema import OBSTACLES
from ros_ood_perception.recordings.results import DetectedBox
from ros_ood_perception.replay.report.page import tag
from ros_ood_perception.replay.report.pictures import data_uri, draw_boxes, narrowed

SHOWN = 12
OF_A_RECORDING = 3
"""Largest number of frames of one recording, so that one bad drive does not fill the page."""
APART_NS = 10_000_000_000
WIDTH = 560


@dataclass
class WorstFrames:
    """The pictures, and a sentence for each frame that could not be read again."""

    cards: list[Element] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def worst_frames(tables: MinedTables, rate_hz: float) -> WorstFrames:
    """The worst frames with their obstacles, the worst first.

    Args:
        rate_hz: of folders of images, as they were mined.

    Raises:
        TablesError: a table cannot be read.
    """
    taken: Counter[str] = Counter()
    chosen: list[Candidate] = []
    for candidate in best_candidates(tables, UNKNOWN, SHOWN * OF_A_RECORDING * 4, APART_NS, LeftOut()):
        if taken[candidate.recording] < OF_A_RECORDING and len(chosen) < SHOWN:
            taken[candidate.recording] += 1
            chosen.append(candidate)
    reader = FrameReader(rate_hz)
    ranks = {candidate: rank for rank, candidate in enumerate(chosen)}
    cards = {ranks[candidate]: _card(tables, candidate, image) for candidate, image in reader(chosen)}
    return WorstFrames([cards[rank] for rank in sorted(cards)], reader.problems)


def _card(tables: MinedTables, candidate: Candidate, image: NDArray[np.uint8]) -> Element:
    columns = ("topic", "number", "id", "box_x", "box_y", "box_width", "box_height")
    picture = narrowed(image, WIDTH).copy()
    # Drawn into the smaller picture, whose lines are as wide as they are meant.
    scale = picture.shape[1] / image.shape[1]
    boxes = [
        DetectedBox(
            row["box_x"] * scale,
            row["box_y"] * scale,
            row["box_width"] * scale,
            row["box_height"] * scale,
            str(row["id"]),
        )
        for row in tables.rows(OBSTACLES, columns, candidate.recording).to_pylist()
        if (row["topic"], row["number"]) == (candidate.topic, candidate.number)
    ]
    draw_boxes(picture, boxes)
    shown = tag("img", alt=f"frame {candidate.number}", src=data_uri(picture), style="width:100%")
    when = moment(candidate.time_ns) if candidate.time_ns >= FIRST_REAL_NS else f"{candidate.time_ns / 1e9:.3f} s"
    text = (
        f"{when}, frame {candidate.number} of {candidate.topic}: {candidate.evidence:.2%} of the picture is anomalous "
        f"road, {len(boxes)} obstacle{'s' if len(boxes) != 1 else ''}"
    )
    return tag("figure", shown, tag("figcaption", tag("code", candidate.recording), tag("br"), text), class_="card")
