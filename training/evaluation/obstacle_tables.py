"""The figures of obstacles on the command line."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ros_ood_perception.shown_text import printable
from training.evaluation.tables import output_console, say

MISSING = "-"
GROUPS = (
    ("by_kind", "kind"),
    ("by_height_m", "height, m"),
    ("by_range_m", "range, m"),
    ("by_pixels", "pixels in the picture"),
)


def print_obstacles(output: dict[str, Any]) -> None:
    """Print what `measured_replays` gave: tables on standard output, what was not measured on standard error."""
    out = output_console()
    _print_summary(out, output)
    _print_objects(out, output["each"])
    _print_groups(out, output)
    _print_causes(out, output)
    _print_froc(out, output["froc"], output["seconds"])
    for text in [*notes(output), *unmeasured(output)]:
        say(text)


def unmeasured(output: dict[str, Any]) -> list[str]:
    """A sentence for each thing that could not be read or measured."""
    found = []
    for drive in output["drives"]:
        found += drive["damage"]
        if drive["frames_without_places"]:
            found.append(
                f"{drive['replay']}: {drive['frames_without_places']} frames are not measured: the truth has places, "
                "and they have no obstacles on the ground (camera_info or pose missing)"
            )
        if drive["frames_with_a_repeated_stamp"]:
            found.append(
                f"{drive['replay']}: {drive['frames_with_a_repeated_stamp']} frames are not measured: their stamps "
                "were there before"
            )
    return found


def notes(output: dict[str, Any]) -> list[str]:
    """What a reader should know, and is no fault."""
    found = []
    for drive in output["drives"]:
        if drive["frames_without_truth"]:
            found.append(
                f"{drive['replay']}: {drive['frames_without_truth']} frames are not in the truth, and not measured"
            )
        if drive["frames_of_the_truth_without_results"]:
            found.append(
                f"{drive['truth']}: {drive['frames_of_the_truth_without_results']} frames of the truth have no results"
            )
        if drive["no_kilometres_because"]:
            found.append(f"{drive['replay']}: no figures by kilometre: {drive['no_kilometres_because']}")
    return found


def _print_summary(out: Console, output: dict[str, Any]) -> None:
    published = output["froc"]["points"][-1]
    table = Table("figure", "value", "95 % interval", title="Obstacles", title_justify="left")
    found = f"{output['found']} of {output['objects']}"
    table.add_row("objects found", found, _span(published["share_found_interval"], 100, " %"))
    if output["marked"] is not None:
        table.add_row("objects marked", f"{output['marked']} of {output['objects']}")
    table.add_row("frames in view with the object marked", _number(output["share_of_frames_marked"], 100, " %"))
    table.add_row("frames in view with the object found", _number(output["share_of_frames_found"], 100, " %"))
    table.add_row("objects found by one id only", f"{output['found_by_one_id']} of {output['found']}")
    table.add_row("first marked at, median", _number(output["first_marked_m"], 1, " m"))
    table.add_row("first found at, median", _number(output["first_found_m"], 1, " m"))
    table.add_row("found after coming into view, median", _number(output["seconds_until_found"], 1, " s"))
    before = _number(output["seconds_found_before_leaving_view"], 1, " s")
    table.add_row("found before leaving view, median", before)
    error = output["placement_error_m"]
    table.add_row(
        "placement error, median; 95 %", f"{_number(error['median'], 1, ' m')}; {_number(error['p95'], 1, ' m')}"
    )
    interval = _span(published["false_obstacles_per_minute_interval"], 1, "")
    table.add_row("false obstacles", str(output["false_obstacles"]))
    table.add_row("  a minute", _number(output["false_obstacles_per_minute"], 1, ""), interval)
    table.add_row("  an hour", _number(output["false_obstacles_per_hour"], 1, ""))
    table.add_row("  a kilometre", _number(output["false_obstacles_per_kilometre"], 1, ""))
    share = _number(output["share_of_frames_with_a_false_obstacle"], 100, " %")
    table.add_row("frames with a false obstacle", share)
    table.add_row("measured", f"{output['frames']} frames, {output['seconds']:.1f} s, {_driven(output['kilometres'])}")
    out.print(table)
    out.print(f"Intervals: bootstrap over {output['froc']['resampled']}.", highlight=False)


def _driven(kilometres: float | None) -> str:
    return "distance not known" if kilometres is None else f"{kilometres:.3f} km"


def _print_objects(out: Console, rows: list[dict[str, Any]]) -> None:
    table = Table(title="Objects", title_justify="left")
    table.add_column("object")
    for column in ("in view from", "first found at", "after", "frames in view", "marked", "touched", "found", "error"):
        table.add_column(column, justify="right")
    for row in rows:
        camera = f"{row['camera']}: " if "camera" in row else ""
        table.add_row(
            escape(printable(f"{camera}{row['kind']} {row['id']}")),
            _number(row["first_in_view_m"], 1, " m"),
            "missed" if not row["frames_found"] else _number(row["first_found_m"], 1, " m"),
            _number(row["seconds_until_found"], 1, " s"),
            str(row["frames_in_view"]),
            str(row["frames_marked"]),
            str(row["frames_touched"]),
            f"{row['frames_found']} ({_number(row['share_found'], 100, ' %', 0)})",
            _number(row["placement_error_m"], 1, " m"),
        )
    out.print(table)


def _print_groups(out: Console, output: dict[str, Any]) -> None:
    table = Table(title="Found by kind and size", title_justify="left")
    for column in ("by", "group"):
        table.add_column(column)
    for column in ("objects", "found", "frames in view", "frames marked", "frames found"):
        table.add_column(column, justify="right")
    for key, name in GROUPS:
        for group, figures in output[key].items():
            table.add_row(
                name,
                escape(printable(group)),
                str(figures["objects"]),
                str(figures["found"]),
                str(figures["frames_in_view"]),
                _number(figures["share_of_frames_marked"], 100, " %"),
                _number(figures["share_of_frames_found"], 100, " %"),
            )
        table.add_section()
    out.print(table)


def _print_causes(out: Console, output: dict[str, Any]) -> None:
    if not output["causes"]:
        return
    table = Table(title="False obstacles by what they lie on", title_justify="left")
    table.add_column("cause")
    for column in ("obstacles", "frames"):
        table.add_column(column, justify="right")
    for row in output["causes"]:
        table.add_row(escape(printable(row["cause"])), str(row["false_obstacles"]), str(row["frames"]))
    out.print(table)
    if any(drive["frames_with_false_obstacles_without_labels"] for drive in output["drives"]):
        out.print("Without labels, classes are those that the network saw.", highlight=False)


def _print_froc(out: Console, froc: dict[str, Any], seconds: float) -> None:
    table = Table(title="Objects found by false obstacles a minute (FROC)", title_justify="left")
    for column in ("false a minute, at most", "threshold on the obstacle's score", "objects found", "95 % interval"):
        table.add_column(column, justify="right")
    for row in froc["at_rates"]:
        table.add_row(
            f"{row['false_obstacles_per_minute']:g}",
            "above all" if row["threshold"] is None else f"{row['threshold']:.4f}",
            _number(row["share_found"], 100, " %"),
            _span(row["share_found_interval"], 100, " %"),
        )
    out.print(table)
    if seconds and 60 / seconds > froc["at_rates"][0]["false_obstacles_per_minute"]:
        out.print(
            f"One false obstacle in the measured time is {60 / seconds:.2g} a minute: at lower rates there is none.",
            highlight=False,
        )


def _number(value: float | None, times: float, unit: str, digits: int = 1) -> str:
    return MISSING if value is None else f"{times * value:.{digits}f}{unit}"


def _span(interval: list[float] | None, times: float, unit: str) -> str:
    return MISSING if interval is None else f"{times * interval[0]:.1f} to {times * interval[1]:.1f}{unit}"
