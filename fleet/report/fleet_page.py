"""The page of a fleet: where, when and in which recordings the network met what it does not know."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

import numpy as np

from fleet.comparison.groups import MAP
from fleet.report.charts import axis, bars, map_chart, moment, time_titles
from fleet.report.fleet_figures import PEAK_EDGES, SHARE_EDGES, FleetFigures
from fleet.report.worst_frames import WorstFrames
from fleet.tables.mined import MinedTables
from ros_ood_perception.pipeline.fates import FAILED, LEFT_OUT, MALFORMED, PUBLISHED
from ros_ood_perception.replay.report.page import Content, page, table, tag

MOST_ROWS = 40
FATES = {
    PUBLISHED: ("With results", "#2a9d6f"),
    LEFT_OUT: ("Skipped on request (--every)", "#7f8c8d"),
    MALFORMED: ("Malformed", "#c0392b"),
    FAILED: ("Inference failed", "#7b241c"),
}


def fleet_page(tables: MinedTables, figures: FleetFigures, worst: WorstFrames) -> str:
    """The page, HTML."""
    recordings = list(tables.recordings.values())
    ran = "No recording has results."
    if tables.done:
        facts = tables.model().facts
        ran = (
            f"Bundle {facts['bundle']}, engine {facts['engine']}, anomaly threshold {facts['threshold']:.4f} "
            f"({facts['operating_point']})."
        )
    body = [
        tag("h1", f"Fleet of {len(recordings)} recordings"),
        tag("p", ran, class_="soft"),
        _tiles(tables, figures),
        *_failed(tables),
        *_map(figures),
        *_timeline(figures),
        *_histograms(figures),
        *_worst(worst),
        *_by_recording(figures),
        *_fates(tables, figures),
    ]
    return page("Fleet", body)


def _tiles(tables: MinedTables, figures: FleetFigures) -> Element:
    done, total = len(tables.done), len(tables.recordings)
    published, frames = figures.fates[PUBLISHED], sum(figures.fates.values())
    spans = [r.facts["last_ns"] - r.facts["first_ns"] for r in tables.done if r.facts["first_ns"] is not None]
    sums = figures.recordings.values()
    marked = sum(of.with_obstacles for of in sums)

    def tile(title: str, value: str, note: str = "", kind: str | None = None) -> Element:
        small = tag("small", note) if note else None
        return tag("div", tag("span", title, class_="soft"), tag("b", value, class_=kind), small, class_="card tile")

    return tag(
        "div",
        tile("Recordings", f"{done} of {total}", "with results", "good" if done == total else "bad"),
        tile("Recorded", _duration(sum(spans) / 1e9)),
        tile("Frames with results", f"{published:,} of {frames:,}"),
        tile("Frames with obstacles", f"{marked:,}", f"{marked / max(published, 1):.1%} of those with results"),
        tile("Obstacles", f"{sum(of.obstacles for of in sums):,}", "summed over frames"),
        class_="tiles",
    )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _failed(tables: MinedTables) -> list[Element]:
    failed = [recording for recording in tables.recordings.values() if not recording.is_done]
    if not failed:
        return []
    rows: list[list[Content]] = [[tag("code", of.recording), of.reason] for of in failed[:MOST_ROWS]]
    more = (
        [tag("p", f"{len(failed) - MOST_ROWS} more are in the table of recordings.")] if len(failed) > MOST_ROWS else []
    )
    return [tag("h2", "Failed recordings"), tag("div", table(["recording", "reason"], rows), *more, class_="card bad")]


def _map(figures: FleetFigures) -> list[Element]:
    title = tag("h2", "Map")
    if figures.map_frames is None or figures.map_anomalous is None or figures.east is None or figures.north is None:
        return [title, tag("p", "No frame has a position that recordings share.", class_="soft")]
    unit = "m" if figures.place == MAP else "degrees"
    digits = 1 if figures.place == MAP else 5
    east, north = figures.east, figures.north
    text = (
        f"{figures.placed:,} of {figures.fates[PUBLISHED]:,} frames have a position: {east.least:.{digits}f} to "
        f"{east.most:.{digits}f} {unit} to the east, {north.least:.{digits}f} to {north.most:.{digits}f} {unit} to the "
        "north (up). Orange: anomalous road, the stronger the larger its mean share of the picture. Grey: less than a "
        "sixteenth of the largest."
    )
    chart = map_chart(figures.map_frames, figures.map_anomalous)
    return [title, tag("p", text, class_="soft"), tag("div", chart, class_="card")]


def _timeline(figures: FleetFigures) -> list[Element]:
    title = tag("h2", "Over time")
    if figures.times is None or not figures.time_frames.any():
        return [title, tag("p", "No recording has times of a clock that was set.", class_="soft")]
    frames, marked = figures.time_frames, figures.time_obstacle_frames
    share = np.divide(marked, frames, out=np.zeros(len(frames)), where=frames > 0)
    mean = np.divide(figures.time_anomalous, frames, out=np.zeros(len(frames)), where=frames > 0)
    times = figures.times
    ends = axis(moment(times.least), moment(times.most))
    counted = time_titles(times, frames, [f"{count} frames" for count in frames])
    shown = time_titles(
        times, frames, [f"{part:.1%} of {count} frames" for part, count in zip(share, frames, strict=True)]
    )
    anomalous = time_titles(times, frames, [f"{value:.3%} of the picture" for value in mean])
    return [
        title,
        tag(
            "div",
            tag("p", f"Frames with results, at most {frames.max():,} in a bar", class_="soft"),
            bars(frames.astype(np.float64), counted),
            tag("p", f"Share of them with obstacles, at most {share.max():.1%}", class_="soft"),
            bars(share, shown, "var(--above)"),
            tag("p", f"Anomalous road, mean share of the picture, at most {mean.max():.3%}", class_="soft"),
            bars(mean, anomalous, "var(--above)"),
            ends,
            class_="card",
        ),
    ]


def _histograms(figures: FleetFigures) -> list[Element]:
    shares, peaks = figures.shares, figures.peaks
    edges = [f"{edge:.3%}" for edge in SHARE_EDGES]
    # The first bin holds nearly all frames; a logarithm of counts lets the others be seen.
    titles = [f"{edges[i]} to {edges[i + 1]}: {count:,} frames" for i, count in enumerate(shares)]
    steps = [f"{PEAK_EDGES[i]:.2f} to {PEAK_EDGES[i + 1]:.2f}: {count:,} frames" for i, count in enumerate(peaks)]
    return [
        tag("h2", "How much is anomalous"),
        tag(
            "div",
            tag(
                "div",
                tag(
                    "p",
                    "Frames by the share of the picture that is anomalous road; heights are logarithms",
                    class_="soft",
                ),
                bars(np.log1p(shares), titles, "var(--above)"),
                axis("none", "0.01 %", "1 %", "100 %"),
                class_="card",
            ),
            tag(
                "div",
                tag("p", "Frames by the highest score on the road; heights are logarithms", class_="soft"),
                bars(np.log1p(peaks), steps),
                axis("0", "0.5", "1"),
                class_="card",
            ),
            class_="two",
        ),
    ]


def _worst(worst: WorstFrames) -> list[Element]:
    title = tag("h2", "Worst frames")
    problems = [tag("li", text) for text in worst.problems[:MOST_ROWS]]
    listed = [tag("ul", *problems, class_="bad")] if problems else []
    if not worst.cards:
        return [title, *listed, tag("p", "No frame has an obstacle and anomalous road.", class_="soft")]
    grid = "display:grid;grid-template-columns:repeat(auto-fill,minmax(min(340px,100%),1fr));gap:14px"
    text = (
        "Frames with an obstacle and most anomalous road. Of one camera they are 10 s apart; white boxes are obstacles."
    )
    return [title, *listed, tag("p", text, class_="soft"), tag("div", *worst.cards, style=grid)]


def _by_recording(figures: FleetFigures) -> list[Element]:
    ordered = sorted(figures.recordings.items(), key=lambda item: (-item[1].anomalous / item[1].frames, item[0]))
    rows: list[list[Content]] = [
        [
            tag("code", name),
            f"{sums.frames:,}",
            f"{sums.with_obstacles / sums.frames:.1%}",
            f"{sums.obstacles:,}",
            f"{sums.anomalous / sums.frames:.3%}",
            f"{sums.peak:.3f}",
        ]
        for name, sums in ordered[:MOST_ROWS]
    ]
    heads: list[Content] = ["recording", "frames", "with obstacles", "obstacles", "anomalous road", "highest score"]
    text = f"The {len(rows)} of {len(ordered)} with most anomalous road." if len(ordered) > len(rows) else ""
    return [
        tag("h2", "By recording"),
        *([tag("p", text, class_="soft")] if text else []),
        tag("div", table(heads, rows, range(1, 6)), class_="card"),
    ]


def _fates(tables: MinedTables, figures: FleetFigures) -> list[Element]:
    total = max(sum(figures.fates.values()), 1)
    parts = [
        tag("i", style=f"width:{100 * figures.fates[name] / total:.3f}%;background:{colour}")
        for name, (_, colour) in FATES.items()
        if figures.fates[name]
    ]
    rows: list[list[Content]] = [
        [tag("span", tag("i", class_="swatch", style=f"background:{colour}"), text), f"{figures.fates[name]:,}"]
        for name, (text, colour) in FATES.items()
    ]
    doubts: list[list[Content]] = [[kind, f"{count:,}"] for kind, count in figures.doubts.most_common()]
    doubtful = (
        [table(["doubt about the picture", "frames"], doubts, [1])]
        if doubts
        else [tag("p", "No doubt about a picture.")]
    )
    cards = [
        tag("div", tag("div", *parts, class_="bar"), table([], rows, [1]), class_="card"),
        tag("div", *doubtful, class_="card"),
    ]
    said = [(r.recording, text) for r in tables.done for name in ("damage", "problems") for text in r.facts[name] or ()]
    found = [tag("h2", "Where every frame went"), tag("div", *cards, class_="two")]
    return found + _said(said)


def _said(said: Sequence[tuple[str, str]]) -> list[Element]:
    if not said:
        return []
    rows: list[list[Content]] = [[tag("code", name), text] for name, text in said[:MOST_ROWS]]
    more = f" {len(said) - MOST_ROWS} more are in the table of recordings." if len(said) > MOST_ROWS else ""
    text = f"Damage and problems of recordings with results.{more}"
    return [tag("div", tag("p", text), table(["recording", "what"], rows), class_="card", style="margin-top:16px")]
