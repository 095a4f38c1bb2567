"""The operating points that were chosen: as fields of a bundle, as rows of a JSON file, and as tables."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.table import Table

from ros_ood_perception.bundle.description import BundleDescription, Drive, FalseObstacles, OperatingPoint
from ros_ood_perception.shown_text import printable
from training.calibrate_obstacles.candidates import THRESHOLDS, Candidate, shown_settings
from training.calibrate_obstacles.choosing import EACH, Choice, Counts, Exposure, shown_hours, shown_rate
from training.evaluation.tables import output_console

MOST_DRIVES = 20
"""Of a point in `bundle.yaml`, which has a limited size. The last entry holds the rest."""

MOST_ROWS = 10
"""Of a table. The JSON file has all."""


@dataclass(frozen=True)
class Rated:
    """What was found for one rate.

    Attributes:
        asked: the rate.
        refused: why no point is written; empty if one is.
        choices: one for each candidate that reaches the rate, the most sensitive first.
    """

    asked: float
    refused: str
    choices: Sequence[Choice] = ()

    @property
    def missed(self) -> bool:
        """Whether no setting keeps the rate on the drives with objects."""
        best = self.choices[0].found if self.choices else None
        return best is not None and not best.keeps(self.asked)


@dataclass(frozen=True)
class PlayedDrive:
    """A drive that was counted: name, SHA-256, hours and frames."""

    name: str
    sha256: str
    hours: float
    frames: int


def point_name(asked: float, per: str) -> str:
    """`obstacles_6_per_hour`."""
    return f"obstacles_{asked:g}_per_{per}"


def chosen_point(
    rated: Rated, candidates: Sequence[Candidate], counts: Counts, exposure: Exposure, drives: Sequence[PlayedDrive]
) -> OperatingPoint:
    """The operating point for a rate that was reached, without the command."""
    choice = rated.choices[0]
    rate, interval, bound = exposure.rates(choice.count)
    found = choice.found
    rule = f"finds most objects of {found.objects}" if found else "has the lowest threshold"
    kept = f"of {len(rated.choices)} settings with at most {rated.asked:g} false obstacles {EACH[exposure.per]}"
    data = f"{len(drives)} drive(s) without unknown objects, "
    data += f"{exposure.frames} frames" if exposure.per == "frame" else shown_hours(exposure.hours)
    if found:
        data += f"; {found.false_obstacles} false obstacles on those with objects, {shown_rate(found.false_rate)} "
        data += EACH[exposure.per]
    measured = FalseObstacles(
        per=exposure.per,
        asked=rated.asked,
        count=choice.count,
        hours=exposure.hours,
        frames=exposure.frames,
        rate=rate,
        rate_interval=interval,
        rate_bound=bound,
        drives=_listed(drives, counts, choice),
        command="",
        objects_found=found.share if found else None,
        objects=found.objects if found else 0,
    )
    point = candidates[choice.candidate].point(THRESHOLDS[choice.threshold], point_name(rated.asked, exposure.per))
    return replace(
        point,
        chosen_by=f"{kept}, the one that {rule}"
        if not rated.missed
        else f"{kept}, none of which keeps it on the drives with objects, the one with the fewest there",
        data=data,
        false_obstacles=measured,
    )


def _listed(drives: Sequence[PlayedDrive], counts: Counts, choice: Choice) -> tuple[Drive, ...]:
    listed = []
    for number, drive in enumerate(drives):
        count = counts.of_drive(number, choice.candidate, choice.threshold) or 0
        listed.append(Drive(printable(drive.name, 100), drive.sha256, drive.hours, drive.frames, count))
    rest = listed[MOST_DRIVES - 1 :]
    if len(rest) < 2:
        return tuple(listed)
    together = Drive(
        f"{len(rest)} more drives, with the SHA-256 over theirs",
        hashlib.sha256("".join(drive.sha256 for drive in rest).encode()).hexdigest(),
        sum(drive.hours for drive in rest),
        sum(drive.frames for drive in rest),
        sum(drive.false_obstacles for drive in rest),
    )
    return (*listed[: MOST_DRIVES - 1], together)


def with_points(description: BundleDescription, points: Sequence[OperatingPoint]) -> BundleDescription:
    """The description with these points after the others; they replace those of the same names."""
    names = {point.name for point in points}
    others = tuple(point for point in description.operating_points if point.name not in names)
    return replace(description, operating_points=(*others, *points))


def rows(rated: Rated, candidates: Sequence[Candidate], counts: Counts, exposure: Exposure) -> list[dict[str, Any]]:
    """The choices for a rate as plain values, the chosen one first."""
    found = []
    for choice in rated.choices:
        rate, interval, bound = exposure.rates(choice.count)
        found.append(
            {
                "settings": candidates[choice.candidate].tried,
                "threshold": THRESHOLDS[choice.threshold],
                "share_of_pixels_above": counts.share_above(choice.threshold),
                "false_obstacles": choice.count,
                "rate": rate,
                "rate_interval": interval,
                "rate_bound": bound,
                "objects": choice.found.objects if choice.found else None,
                "objects_found": choice.found.found if choice.found else None,
                "share_of_frames_found": choice.found.frames_found if choice.found else None,
                "share_of_frames_marked": choice.found.frames_marked if choice.found else None,
                "false_obstacles_with_objects": choice.found.false_obstacles if choice.found else None,
                "rate_with_objects": choice.found.false_rate if choice.found else None,
            }
        )
    return found


def print_rated(asked: float, per: str, found: Sequence[dict[str, Any]]) -> None:
    """Print the rows for one rate as a table."""
    table = Table(title=f"at most {asked:g} false obstacles {EACH[per]}; the first is chosen", title_justify="left")
    for name in (
        "setting",
        "threshold",
        "pixels above",
        "false obstacles",
        f"{EACH[per]} (95 % interval)",
        "at most (95 %)",
    ):
        table.add_column(name, justify="left" if name == "setting" else "right", no_wrap=name == "setting")
    with_objects = any(row["objects"] for row in found)
    of_objects = ("objects found", "frames found", "frames marked", f"false there, {EACH[per]}")
    for name in of_objects if with_objects else ():
        table.add_column(name, justify="right")
    for row in found[:MOST_ROWS]:
        low, high = row["rate_interval"]
        cells = [
            shown_settings(row["settings"]),
            f"{row['threshold']:.4f}",
            f"{row['share_of_pixels_above']:.3%}",
            str(row["false_obstacles"]),
            f"{shown_rate(row['rate'])} ({shown_rate(low)} to {shown_rate(high)})",
            shown_rate(row["rate_bound"]),
        ]
        if with_objects:
            marked = row["share_of_frames_marked"]
            cells += [f"{row['objects_found']} of {row['objects']}", f"{row['share_of_frames_found']:.1%}"]
            cells.append("" if marked is None else f"{marked:.1%}")
            cells.append(f"{row['false_obstacles_with_objects']}: {shown_rate(row['rate_with_objects'])}")
        table.add_row(*cells)
    if len(found) > MOST_ROWS:
        table.caption = f"{len(found) - MOST_ROWS} more; --json has them"
    output_console().print(table)
