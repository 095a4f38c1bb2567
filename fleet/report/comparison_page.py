"""The page of a comparison: what changed between two bundles, the worst first."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from ros_ood_perception.replay.report.page import Content, page, table, tag

MOST_ROWS = 30


def comparison_page(facts: Mapping[str, Any], folder: Path) -> str:
    """The page, HTML.

    Args:
        facts: what `comparison.json` holds.
        folder: with the pictures that it names.
    """
    fleet = facts["fleet"]
    body = [
        tag("h1", "Two bundles over a fleet"),
        tag("p", "Old: ", tag("code", facts["old"]), ". New: ", tag("code", facts["new"]), ".", class_="soft"),
        _tiles(fleet, facts),
        *_list("Limits that are not met", facts["limits_broken"]),
        *_list("Not compared", [*facts["recordings_missing"], *facts["problems"]]),
        *_groups(facts),
        *_classes(facts),
        *_pictures(facts["worst_frames"], folder),
        *_settings(facts),
    ]
    return page("Comparison of a fleet", body)


def _tiles(fleet: Mapping[str, Any], facts: Mapping[str, Any]) -> Element:
    def tile(title: str, value: str, note: str = "", kind: str | None = None) -> Element:
        small = tag("small", note) if note else None
        return tag("div", tag("span", title, class_="soft"), tag("b", value, class_=kind), small, class_="card tile")

    broken = len(facts["limits_broken"])
    return tag(
        "div",
        tile("Frames", f"{fleet['frames']:,}", f"{fleet['frames_with_pixels']:,} of them pixel by pixel"),
        tile("Same class", _share(fleet["class_agreement"]), "of the pixels"),
        tile("Anomaly masks", _number(fleet["anomaly_iou"]), "IoU of the two"),
        tile("Obstacles lost", f"{fleet['obstacles_lost'] or 0:,}", f"of {fleet['obstacles_old']:,}"),
        tile("Obstacles gained", f"{fleet['obstacles_gained'] or 0:,}", f"of {fleet['obstacles_new']:,}"),
        tile("Frames missing", f"{fleet['frames_missing']:,}"),
        tile("Limits", f"{broken} not met" if broken else "none broken", "", "bad" if broken else "good"),
        class_="tiles",
    )


def _list(title: str, texts: Sequence[str]) -> list[Element]:
    if not texts:
        return []
    shown = [tag("li", text) for text in texts[:MOST_ROWS]]
    if len(texts) > MOST_ROWS:
        shown.append(tag("li", f"{len(texts) - MOST_ROWS} more are in comparison.json"))
    return [tag("h2", title), tag("ul", *shown, class_="problems bad")]


def _groups(facts: Mapping[str, Any]) -> list[Element]:
    found: list[Element] = []
    heads: list[Content] = [
        "",
        "frames",
        "lost",
        "of",
        "gained",
        "of",
        "same class",
        "anomaly IoU",
        "anomalous, old",
        "new",
    ]
    for kind in ("recording", "place", "hour"):
        entries = facts["groups"].get(kind, [])
        without = facts["frames_in_no_group"][kind]
        note = f" {without:,} frames have none." if without else ""
        found.append(tag("h2", f"By {kind}"))
        if not entries:
            found.append(tag("p", f"No frame has a {kind}.", class_="soft"))
            continue
        shown = f"The {MOST_ROWS} worst of {len(entries)}." if len(entries) > MOST_ROWS else "The worst first."
        found.append(tag("p", f"{shown}{note} Grey: too few frames to be checked.", class_="soft"))
        rows = [_group_row(entry) for entry in entries[:MOST_ROWS]]
        found.append(tag("div", table(heads, rows, range(1, 10)), class_="card"))
    return found


def _group_row(entry: Mapping[str, Any]) -> list[Content]:
    kind = "bad" if entry["limits_broken"] else "soft" if entry["is_small"] else None
    return [
        tag("code", entry["name"], class_=kind, title="; ".join(entry["limits_broken"]) or None),
        f"{entry['frames']:,}",
        f"{entry['obstacles_lost'] or 0:,}",
        f"{entry['obstacles_old']:,}",
        f"{entry['obstacles_gained'] or 0:,}",
        f"{entry['obstacles_new']:,}",
        _share(entry["class_agreement"]),
        _number(entry["anomaly_iou"]),
        _share(entry["anomaly_share_old"]),
        _share(entry["anomaly_share_new"]),
    ]


def _classes(facts: Mapping[str, Any]) -> list[Element]:
    iou = facts["fleet"]["iou_by_class"]
    found = [tag("h2", "By class")]
    for where, name in (("old", "classes_only_there"), ("new", "classes_only_here")):
        if facts[name]:
            found.append(tag("p", f"Only the {where} bundle has: {', '.join(facts[name])}.", class_="bad"))
    if not iou:
        return [*found, tag("p", "Figures of pixels need --old-bundle and --new-bundle.", class_="soft")]
    rows: list[list[Content]] = [
        [name, f"{value:.4f}"] for name, value in sorted(iou.items(), key=lambda item: item[1])
    ]
    text = "IoU between the pixels of the class in both; 1: the same pixels. The worst first."
    return [*found, tag("p", text, class_="soft"), tag("div", table(["class", "IoU"], rows, [1]), class_="card")]


def _pictures(frames: Sequence[Mapping[str, Any]], folder: Path) -> list[Element]:
    if not frames:
        return []
    cards = []
    for frame in frames:
        data = base64.b64encode((folder / frame["picture"]).read_bytes()).decode()
        text = f"{frame['changed']:.2%} of the pixels changed: frame at {frame['stamp_ns'] / 1e9:.3f} s of "
        image = tag("img", alt=text, src=f"data:image/png;base64,{data}", style="width:100%")
        cards.append(
            tag("figure", image, tag("figcaption", text, tag("code", frame["recording"])), class_="card frame")
        )
    return [tag("h2", "Frames that changed most"), *cards]


def _settings(facts: Mapping[str, Any]) -> list[Element]:
    rows: list[list[Content]] = [
        [of["setting"], tag("code", of["old"]), tag("code", of["new"])] for of in facts["settings"]
    ]
    if not rows:
        return [tag("h2", "What ran"), tag("p", "Bundle, threshold and engine are the same.", class_="soft")]
    return [tag("h2", "What ran"), tag("div", table(["", "old", "new"], rows), class_="card")]


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2%}"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"
