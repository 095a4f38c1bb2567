"""Prints what differs between two runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

UNKNOWN_FROM_DIGESTS = (
    "which frames differ, where and by how much is unknown; for that, give the folder or the bag of the other run"
)


def print_comparison(comparison: dict[str, Any], say: Callable[..., None]) -> int:
    """Print the differences; returns the exit code: 1 where a limit is broken, or something could not be compared."""
    say(f"compared with {comparison['other']}:")
    if "different_topics" in comparison:
        different = comparison["different_topics"]
        say(f"  topics that differ: {', '.join(different) or 'none: the results are equal bit for bit'}")
        for where, name in (("this", "topics_only_here"), ("the other", "topics_only_there")):
            if comparison[name]:
                say(f"  only in {where} run: {', '.join(comparison[name])}")
        if different:
            say(f"  a summary holds only digests: {UNKNOWN_FROM_DIGESTS}")
    else:
        for name in ("frames", "frames_missing", "class_agreement", "anomaly_iou", "score_difference"):
            value = comparison[name]
            say(f"  {name.replace('_', ' ')}: {'unknown' if value is None else f'{value:.6g}'}")
        _print_obstacles(comparison, say)
        _print_classes(comparison, say)
        for name, iou in sorted(comparison["iou_by_class"].items(), key=lambda item: item[1]):
            say(f"  IoU of {name}: {iou:.4f}")
        for frame in comparison["worst_frames"]:
            say(
                f"  {frame['changed']:.2%} of the pixels of {frame['camera']} changed at "
                f"{frame['stamp_ns'] / 1e9:.3f} s: {frame['picture']}"
                f"{'' if frame['camera_image'] else ' (its image is not found in the input)'}"
            )
    _print_settings(comparison["settings"], say)
    for text in comparison["damage"]:
        say(f"damaged: {text}", style="red")
    for text in comparison["limits_broken"]:
        say(f"limit: {text}", style="red")
    return 1 if comparison["limits_broken"] or comparison["damage"] else 0


def _print_obstacles(comparison: dict[str, Any], say: Callable[..., None]) -> None:
    say(f"  obstacles gained {comparison['obstacles_gained']}, lost {comparison['obstacles_lost']}")
    by_camera = comparison["obstacles_by_camera"]
    for camera, counts in by_camera.items() if len(by_camera) > 1 else ():
        say(f"    {camera}: gained {counts['gained']} of {counts['here']}, lost {counts['lost']} of {counts['there']}")


def _print_classes(comparison: dict[str, Any], say: Callable[..., None]) -> None:
    for where, name in (("this", "classes_only_here"), ("the other", "classes_only_there")):
        if comparison[name]:
            say(f"  classes only in {where} run: {', '.join(comparison[name])}")


def _print_settings(settings: list[dict[str, Any]] | None, say: Callable[..., None]) -> None:
    if settings is None:
        say("  bundles, engines and parameters are not compared: a run has no summary.json")
    elif not settings:
        say("  bundle, engine and parameters are the same")
    for difference in settings or ():
        say(f"  {difference['setting']}: {difference['this']} here, {difference['other']} there")
