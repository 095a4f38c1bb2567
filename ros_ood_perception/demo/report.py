"""The report of a demo run: one HTML file with everything in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle import Bundle
from ros_ood_perception.camera_images import to_colour
from ros_ood_perception.demo.frame_player import to_image
from ros_ood_perception.demo.recording import Recording, recorded_pixels
from ros_ood_perception.overlay import overlay_picture, score_picture, semantic_picture
from ros_ood_perception.recordings.frame_source import FrameSource
from ros_ood_perception.report_page import data_uri, picture_uri, pyplot, svg_uri, write_page

TEMPLATE = Path(__file__).with_name("report.html.jinja")
EVENLY_SPACED = 8
MOST_ANOMALOUS = 4

FATES = {
    "published": ("Published", "#2a9d6f"),
    "replaced_unread": ("Replaced by a newer frame before inference was free", "#d9a441"),
    "too_old": ("Too old when their turn came", "#b9770e"),
    "malformed": ("Malformed", "#c0392b"),
    "failed": ("Inference or publishing failed", "#7b241c"),
    "lost_in_transport": ("Lost in transport", "#6c3483"),
    "in_progress": ("Still in progress", "#7f8c8d"),
}


@dataclass(frozen=True)
class ShownFrame:
    """One row of the report: title, why it is shown, and pictures as data URIs by caption."""

    title: str
    note: str
    pictures: dict[str, str]


def choose_frames(anomalous_share: Mapping[int, float]) -> list[int]:
    """Frames spread evenly over the drive, and those with the largest anomalous area besides; in order of time."""
    frames = sorted(anomalous_share)
    if len(frames) <= EVENLY_SPACED + MOST_ANOMALOUS:
        return frames
    even = {frames[round(i * (len(frames) - 1) / (EVENLY_SPACED - 1))] for i in range(EVENLY_SPACED)}
    others = sorted(set(frames) - even, key=lambda f: anomalous_share[f], reverse=True)
    return sorted(even | set(others[:MOST_ANOMALOUS]))


def write_report(
    out: Path,
    topics: Mapping[str, str],
    summary: dict[str, Any],
    recording: Recording,
    source: FrameSource,
    bundle: Bundle,
) -> None:
    """Write `report.html` into the folder of a run.

    Args:
        topics: output name -> topic, as recorded.
        summary: what `summary.json` holds.
    """
    anomalous_share = {m.frame: m.share_set for m in recording.messages["anomaly_mask"]}
    accounting = summary["accounting"]
    sent = max(accounting["sent"], 1)
    write_page(
        out / "report.html",
        TEMPLATE,
        summary=summary,
        classes=bundle.description.classes,
        fates=[
            {"name": name, "text": text, "colour": colour, "count": accounting[name], "share": accounting[name] / sent}
            for name, (text, colour) in FATES.items()
        ],
        stages=_stages(summary["latency_ms"]["node"]),
        latency_chart=_latency_chart(recording),
        anomaly_chart=_anomaly_chart(anomalous_share),
        heat_bar=data_uri(score_picture(np.linspace(0, 1, 256, dtype=np.float32)[None].repeat(8, 0)), ".png"),
        frames=_shown_frames(out, topics, anomalous_share, recording, source, bundle),
    )


def _stages(percentiles: Mapping[str, float]) -> list[dict[str, Any]]:
    names = {
        "wait": "waiting for the engine",
        "conversion": "message to image",
        "inference": "inference and checks",
        "publish": "to masks and published",
        "receive_to_publish": "received to published",
    }
    return [
        {"text": text, **{f"p{p}": percentiles.get(f"{stage}_ms_p{p}") for p in (50, 95, 99)}}
        for stage, text in names.items()
    ]


def _shown_frames(
    out: Path,
    topics: Mapping[str, str],
    anomalous_share: Mapping[int, float],
    recording: Recording,
    source: FrameSource,
    bundle: Bundle,
) -> list[ShownFrame]:
    chosen = set(choose_frames(anomalous_share))
    recorded: dict[str, dict[int, NDArray[np.uint8]]] = {name: {} for name in topics}
    for name, position, pixels in recorded_pixels(out, topics, recording.sent):
        if position in chosen:
            recorded[name][position] = pixels
    colours = bundle.description.colours
    shown = []
    for position, frame in enumerate(source):
        if position not in chosen or any(position not in by_frame for by_frame in recorded.values()):
            continue
        image = to_colour(to_image(frame, 0), "rgb")
        ids, score = recorded["semantic_mask"][position], recorded["anomaly_score"][position]
        mask = recorded["anomaly_mask"][position] > 0
        shown.append(
            ShownFrame(
                title=f"{position + 1}. {frame.name}",
                note=f"{anomalous_share[position]:.1%} of the pixels above the threshold",
                pictures={
                    "camera": picture_uri(image),
                    "classes": picture_uri(semantic_picture(ids, colours)),
                    "anomaly score": picture_uri(score_picture(score.astype(np.float32) / 255)),
                    "above the threshold": picture_uri(overlay_picture(image, ids, mask, colours)),
                },
            )
        )
    return shown


def _axes(x_label: str, y_label: str) -> tuple[Any, Any]:
    figure, axes = pyplot.subplots(figsize=(9, 2.4), layout="constrained")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    return figure, axes


def _latency_chart(recording: Recording) -> str:
    messages = recording.messages["semantic_mask"]
    figure, axes = _axes("frame", "end to end, ms")
    latencies = [(m.arrived_at_ns - recording.sent[m.frame].sent_at_ns) / 1e6 for m in messages]
    axes.plot([m.frame + 1 for m in messages], latencies, ".", markersize=4, color="#2a6f9d")
    axes.set_ylim(bottom=0)
    return svg_uri(figure)


def _anomaly_chart(anomalous_share: Mapping[int, float]) -> str:
    figure, axes = _axes("frame", "pixels above\nthe threshold, %")
    frames = sorted(anomalous_share)
    share = [100 * anomalous_share[f] for f in frames]
    axes.fill_between([f + 1 for f in frames], share, color="#e07b00", alpha=0.6, linewidth=0)
    axes.set_ylim(bottom=0)
    return svg_uri(figure)
