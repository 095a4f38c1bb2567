"""What a user must know before trusting a replay, from its `summary.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def problems(summary: Mapping[str, Any]) -> list[str]:
    """A sentence for each problem; empty if there is none."""
    found = [f"damaged: {text}" for text in summary["input"]["damage"]]
    for camera in summary["cameras"]:
        name = f"camera '{camera['name']}': " if camera["name"] else ""
        for fate in ("malformed", "failed"):
            if camera["accounting"][fate]:
                found.append(f"{name}{camera['accounting'][fate]} frames {fate}")
        found += [f"{name}{text}" for text in camera["problems"]]
    if not any(camera["accounting"]["published"] for camera in summary["cameras"]):
        found.append("no frame was replayed")
    return found


def warnings(camera: Mapping[str, Any]) -> list[str]:
    """A sentence for each thing about a camera of the summary that may surprise and is no problem."""
    found = []
    if camera["ground"] != "known":
        found.append(f"obstacles have no place on the ground: {camera['ground']}")
    for kind, count in camera["implausible"].items():
        because = camera.get("implausible_because", {})  # a summary of an earlier version has none
        reason = f"; {because[kind]}" if kind in because else ""
        found.append(f"{count} frames are implausible: {kind.replace('_', ' ')}{reason}")
    apart = camera["frames_too_far_apart"]
    if apart["frames"]:
        found.append(f"after {apart['frames']} frames no obstacle can be found: {apart['problem']}")
    # A summary of an earlier version lacks some.
    missing = camera.get("frames_without_ground")
    if camera["ground"] == "known" and missing and missing["frames"]:
        found.append(
            f"in {missing['frames']} of {camera['accounting']['published']} frames obstacles have no place on the "
            f"ground: {missing['problem']}"
        )
    unmoved = camera.get("frames_without_motion")
    if unmoved and unmoved["frames"]:
        found.append(
            f"in {unmoved['frames']} of {camera['accounting']['published']} frames it is not known where the vehicle "
            f"was: {unmoved['problem']}"
        )
    found += [text for name in ("zero_stamps", "unordered_stamps") if (text := camera.get(name, {}).get("problem"))]
    found += [text for name in ("rectified", "shared_frame_id") if (text := camera.get(name))]
    return found
