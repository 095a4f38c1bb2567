"""The figures of a camera over time, as strips of SVG."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.replay.report.figures import FrameFigures
from ros_ood_perception.replay.report.page import Content, tag

WIDTH, HEIGHT = 1000, 46
MOST_POINTS = 500
"""Of more frames, each point of a line is the largest value of its part of the time."""


def camera_strips(number: int, frames: Sequence[FrameFigures], start_ns: int, has_obstacles: bool) -> list[Element]:
    """Share of frame and road above the threshold, largest score, and obstacles of one camera.

    Args:
        number: the camera's index in the player.
        frames: in the order of their times, at least one.
        start_ns: time 0 of the axis.
    """
    times = (np.array([frame.time_ns for frame in frames], np.float64) - start_ns) / 1e9
    strips = []

    def strip(label: Content, *paths: Element) -> None:
        attributes = {"data_camera": number, "data_from": times[0], "data_span": max(times[-1] - times[0], 0.0)}
        drawing = tag(
            "svg", *paths, viewBox=f"0 0 {WIDTH} {HEIGHT}", preserveAspectRatio="none", role="img", **attributes
        )
        strips.append(tag("div", tag("span", label), drawing, class_="strip"))

    area, road, peak = (_values([getattr(frame, name) for frame in frames]) for name in ("area", "road", "peak"))
    if np.isfinite(area).any():
        top = float(np.nanmax(area)) or 1.0
        strip(
            f"frame above the threshold, at most {np.nanmax(area):.2%}",
            tag("path", d=_area(times, area / top), class_="area"),
            tag("path", d=_line(times, area / top), class_="line"),
        )
    if np.isfinite(road).any():
        top = float(np.nanmax(road)) or 1.0
        strip(
            f"road above the threshold, at most {np.nanmax(road):.2%}",
            tag("path", d=_line(times, road / top), class_="road"),
        )
    if np.isfinite(peak).any():
        strip(
            f"largest score, 0 to 1; at most {np.nanmax(peak):.3f}",
            tag("path", d=_line(times, peak), class_="peak"),
        )
    if has_obstacles:
        counts = np.array([len(frame.boxes) for frame in frames], np.float64)
        top = float(counts.max()) or 1.0
        strip(f"obstacles, at most {counts.max():.0f}", tag("path", d=_area(times, counts / top), class_="bars"))
    strips.append(tag("div", tag("span", f"{times[0]:.1f} s"), tag("span", f"{times[-1]:.1f} s"), class_="axis"))
    return strips


def _values(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _points(times: NDArray[np.float64], shares: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Points of a line: x in the drawing, y 0 to 1."""
    span = times[-1] - times[0]
    x = (times - times[0]) / span * WIDTH if span > 0 else np.linspace(0, WIDTH, len(times))
    known = np.isfinite(shares)
    x, shares = x[known], shares[known]
    if len(x) > MOST_POINTS:
        parts = np.array_split(np.arange(len(x)), MOST_POINTS)
        x, shares = np.array([x[part[0]] for part in parts]), np.array([shares[part].max() for part in parts])
    return list(zip(x.tolist(), shares.tolist(), strict=True))


def _line(times: NDArray[np.float64], shares: NDArray[np.float64]) -> str:
    points = _points(times, shares)
    # A single frame is a line across.
    points = points if len(points) > 1 else [(0.0, points[0][1]), (float(WIDTH), points[0][1])]
    return "M" + "L".join(f"{x:.1f} {2 + (HEIGHT - 4) * (1 - y):.1f}" for x, y in points)


def _area(times: NDArray[np.float64], shares: NDArray[np.float64]) -> str:
    return f"{_line(times, shares)}L{WIDTH} {HEIGHT}L0 {HEIGHT}Z"
