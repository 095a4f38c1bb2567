"""Charts of a fleet's page as SVG: map, bars over time, histograms."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from fleet.report.fleet_figures import Extent
from ros_ood_perception.replay.report.page import tag

MAP_WIDTH, MAP_HEIGHT = 1000, 520
CELL_GAP = 0.06
BARS_WIDTH, BARS_HEIGHT = 1000, 90
FAINTEST = 0.25
"""Opacity of the faintest cell. Cells with a smaller root of the largest share are grey: the fleet drove there."""


def map_chart(frames: NDArray[np.int64], anomalous: NDArray[np.float64]) -> Element:
    """Cells of a map, from south to north: grey where frames are, the stronger in orange the more is anomalous.

    Args:
        frames: (rows, columns), numbers of frames.
        anomalous: (rows, columns), sums of their anomalous shares.
    """
    rows, columns = frames.shape
    side = min(MAP_WIDTH / columns, MAP_HEIGHT / rows)
    share = np.divide(anomalous, frames, out=np.zeros(frames.shape), where=frames > 0)
    most = float(share.max()) or 1.0
    squares = []
    for row, column in zip(*np.nonzero(frames), strict=True):
        # The square root: few cells are near the largest, and the others are to be told apart.
        strength = float(np.sqrt(share[row, column] / most))
        text = f"anomalous road: {share[row, column]:.3%} of the picture in {frames[row, column]} frames"
        squares.append(
            tag(
                "rect",
                tag("title", text),
                x=f"{(column + CELL_GAP) * side:.2f}",
                y=f"{(rows - 1 - row + CELL_GAP) * side:.2f}",
                width=f"{side * (1 - 2 * CELL_GAP):.2f}",
                height=f"{side * (1 - 2 * CELL_GAP):.2f}",
                rx=f"{side * 0.15:.2f}",
                fill="var(--above)" if strength >= FAINTEST else "var(--soft)",
                fill_opacity=f"{max(strength, FAINTEST):.3f}",
            )
        )
    box = f"0 0 {columns * side:.1f} {rows * side:.1f}"
    style = f"max-width:{columns * side:.0f}px;width:100%;display:block;margin:0 auto"
    return tag("svg", *squares, viewBox=box, role="img", style=style)


def bars(
    values: Sequence[float] | NDArray[np.float64], titles: Sequence[str], colour: str = "var(--latency)"
) -> Element:
    """Bars side by side, the highest as high as the chart. `titles` are shown where the pointer is."""
    top = max((float(value) for value in values if np.isfinite(value)), default=0.0) or 1.0
    width = BARS_WIDTH / max(len(values), 1)
    shapes = []
    for index, (value, title) in enumerate(zip(values, titles, strict=True)):
        if not np.isfinite(value) or value <= 0:
            continue
        # A bar that can be seen, however small its value.
        height = max(float(value) / top * BARS_HEIGHT, 1.5)
        shapes.append(
            tag(
                "rect",
                tag("title", title),
                x=f"{index * width + width * 0.08:.2f}",
                y=f"{BARS_HEIGHT - height:.2f}",
                width=f"{width * 0.84:.2f}",
                height=f"{height:.2f}",
                fill=colour,
            )
        )
    style = f"width:100%;height:{BARS_HEIGHT}px;display:block;background:var(--ground);border-radius:4px"
    return tag(
        "svg", *shapes, viewBox=f"0 0 {BARS_WIDTH} {BARS_HEIGHT}", preserveAspectRatio="none", role="img", style=style
    )


def axis(*texts: str) -> Element:
    """Texts below a chart, from its left to its right end."""
    style = "display:flex;justify-content:space-between;font-size:12px;color:var(--soft);margin-bottom:12px"
    return tag("div", *(tag("span", text) for text in texts), style=style)


def moment(time_ns: float) -> str:
    """A time in UTC.

    >>> moment(1_700_000_000_000_000_000)
    '2023-11-14 22:13:20 UTC'
    """
    return datetime.fromtimestamp(time_ns / 1e9, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def time_titles(times: Extent, counts: NDArray[np.int64], what: Sequence[str]) -> list[str]:
    """A title for each bin over time: its begin, and what is in it."""
    begins = np.linspace(times.least, times.most, len(counts), endpoint=False)
    return [f"{moment(begin)}: {text}" for begin, text in zip(begins.tolist(), what, strict=True)]
