"""Writes the report of a demo run: one HTML file that plays the run and needs no other file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ros_ood_perception.bundle.model_bundle import BundleDescription
from ros_ood_perception.messages.overlay import score_picture
from ros_ood_perception.pipeline.fates import (
    FAILED,
    LOST_IN_TRANSPORT,
    MALFORMED,
    PUBLISHED,
    REPLACED_UNREAD,
    TOO_OLD,
)
from training.evaluation.report_page import data_uri, write_page

TEMPLATE = Path(__file__).with_name("report.html.jinja")

FATES = {
    PUBLISHED: ("Published", "#2a9d6f"),
    REPLACED_UNREAD: ("Replaced by a newer frame before inference was free", "#d9a441"),
    TOO_OLD: ("Too old when their turn came", "#b9770e"),
    MALFORMED: ("Malformed", "#c0392b"),
    FAILED: ("Inference or publishing failed", "#7b241c"),
    LOST_IN_TRANSPORT: ("Lost in transport", "#6c3483"),
    "in_progress": ("Still in progress", "#7f8c8d"),
}
"""Text and colour of each count."""


def write_report(out: Path, summary: dict[str, Any], description: BundleDescription, player: dict[str, Any]) -> None:
    """Write `report.html` into the folder of a run.

    Args:
        summary: what `summary.json` holds.
        player: see `Player.data`.
    """
    accounting = summary["accounting"]
    sent = max(accounting["sent"], 1)
    other = "replay" if "equal_to_replay" in summary else "engine"
    write_page(
        out / "report.html",
        TEMPLATE,
        summary=summary,
        other=other,
        equality=summary[f"equal_to_{other}"],
        classes=description.classes,
        fates=[
            {"name": name, "text": text, "colour": colour, "count": accounting[name], "share": accounting[name] / sent}
            for name, (text, colour) in FATES.items()
        ],
        stages=_stages(summary["latency_ms"]["node"]),
        heat_bar=data_uri(score_picture(np.linspace(0, 1, 256, dtype=np.float32)[None].repeat(8, 0)), ".png"),
        player=player,
    )


def _stages(percentiles: Mapping[str, float]) -> list[dict[str, Any]]:
    names = {
        "wait": "waiting for the engine",
        "conversion": "message to image",
        "inference": "inference and checks",
        "publish": "conversion to messages, publishing",
        "receive_to_publish": "received to published",
    }
    return [
        {"text": text, **{f"p{p}": percentiles.get(f"{stage}_ms_p{p}") for p in (50, 95, 99)}}
        for stage, text in names.items()
    ]
