"""The report of a demo run: one HTML file with everything in it, which plays the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ros_ood_perception.bundle.model_bundle import Bundle
from ros_ood_perception.messages.overlay import score_picture
from training.evaluation.report_page import data_uri, write_page

TEMPLATE = Path(__file__).with_name("report.html.jinja")

FATES = {
    "published": ("Published", "#2a9d6f"),
    "replaced_unread": ("Replaced by a newer frame before inference was free", "#d9a441"),
    "too_old": ("Too old when their turn came", "#b9770e"),
    "malformed": ("Malformed", "#c0392b"),
    "failed": ("Inference or publishing failed", "#7b241c"),
    "lost_in_transport": ("Lost in transport", "#6c3483"),
    "in_progress": ("Still in progress", "#7f8c8d"),
}


def write_report(out: Path, summary: dict[str, Any], bundle: Bundle, player: dict[str, Any]) -> None:
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
        classes=bundle.description.classes,
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
        "publish": "to masks and published",
        "receive_to_publish": "received to published",
    }
    return [
        {"text": text, **{f"p{p}": percentiles.get(f"{stage}_ms_p{p}") for p in (50, 95, 99)}}
        for stage, text in names.items()
    ]
