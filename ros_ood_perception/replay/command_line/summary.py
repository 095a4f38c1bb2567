"""`summary.json` of a replay: its figures, and how they are printed."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ros_ood_perception.recordings.bag_files import BAG_FOLDER
from ros_ood_perception.replay.camera_replay import CameraReplay
from ros_ood_perception.replay.command_line.opening import Opened
from ros_ood_perception.replay.engine_pool import EnginePool
from ros_ood_perception.replay.problems import problems, warnings
from ros_ood_perception.replay.run import Replay

INTERRUPTED = 130
"""Exit code after SIGINT or SIGTERM."""


def summarise(
    options: argparse.Namespace, opened: Opened, run: Replay, pool: EnginePool, complete: bool, seconds: float
) -> dict[str, Any]:
    """What `summary.json` holds."""
    description, source = opened.bundle.description, opened.source
    digests = run.bag.digests.hex()
    return {
        "complete": complete,
        "input": {
            "path": str(options.input),
            "kind": source.kind,
            "damage": source.damage,
            "notes": source.notes,
            "not_cameras": source.left_out,
        },
        "bundle": {
            "name": description.name,
            "model_sha256": description.model_sha256,
            "weights_licence": description.weights_licence,
            "classes": [
                {"name": known.name, "colour": list(known.colour), "drivable": known.drivable}
                for known in description.classes
            ],
        },
        "engine": pool.name,
        "anomaly_threshold": run.cameras[0].threshold,
        "operating_point": opened.live.point(description).name,
        "settings": opened.live.in_force(description).as_plain(),
        "plan": opened.plan.identity,
        "cameras": [
            {
                "name": camera.topics.name,
                "image": camera.topics.image,
                "accounting": camera.accounting,
                "implausible": camera.warning_counts,
                "implausible_because": camera.warning_texts,
                "frames_too_far_apart": camera.too_far_apart,
                **_headers(camera),
                "ground": camera.ground,
                "pose_from": "tf" if camera.pose_by_frame_id else "mounting.*",
                "frames_without_ground": camera.no_place,
                "motion": camera.motion,
                "frames_without_motion": camera.no_motion,
                "rectified": camera.rectified_problem,
                "shared_frame_id": _shared_frame_id(camera, run.cameras),
                "problems": camera.problems,
                "topics": camera.output_topics,
            }
            for camera in run.cameras
        ],
        "topics": {topic: {"messages": run.bag.digests.counts[topic], "sha256": digests[topic]} for topic in digests},
        "this_run": {
            "jobs": options.jobs,
            "threads": pool.num_threads,
            "seconds": round(seconds, 3),
            "went_back": run.went_back,
        },
    }


def _headers(camera: CameraReplay) -> dict[str, Any]:
    headers, topic = camera.headers, camera.topics.image
    return {
        "zero_stamps": {"frames": headers.zero_stamps, "problem": headers.zero_stamp_problem(topic)},
        "unordered_stamps": {"frames": headers.unordered_stamps, "problem": headers.unordered_stamp_problem(topic)},
    }


def _shared_frame_id(camera: CameraReplay, cameras: Sequence[CameraReplay]) -> str:
    """Of which other camera the images have the same frame_id, and so the same pose; "" if of none.

    Topics with one calibration are images of one camera.
    """
    if not camera.pose_by_frame_id or camera.ground != "known":
        return ""
    for other in cameras:
        shared = [frame for frame in camera.headers.frame_ids if frame in other.headers.frame_ids]
        if shared and other is not camera and other.pose_by_frame_id and other.topics.info != camera.topics.info:
            return (
                f"its images have the frame_id '{shared[0][:60]}', as those of {other.topics.image}, so both are "
                "placed with the same pose; unless they are a stereo pair, give each driver its own frame_id, or set "
                "mounting.height_m for each camera"
            )
    return ""


def print_summary(summary: dict[str, Any], out: Path, say: Callable[..., None]) -> int:
    """Print the figures and problems; returns the exit code."""
    for camera in summary["cameras"]:
        _print_camera(camera, say)
    for topic, facts in summary["topics"].items():
        say(f"{facts['sha256'][:16]}  {facts['messages']:6d}  {topic}")
    this_run = summary["this_run"]
    say(f"results: {out / BAG_FOLDER} ({summary['engine']}, {this_run['seconds']:.1f} s)")
    for note in summary["input"].get("notes", ()):  # a summary of an earlier version has none
        say(f"note: {note}")
    found = problems(summary)
    for problem in found:
        say(f"problem: {problem}", style="red")
    if not summary["complete"]:
        say("interrupted: the bag is complete up to here; the same command with --resume continues", style="red")
        return INTERRUPTED
    return 1 if found else 0


def _print_camera(camera: dict[str, Any], say: Callable[..., None]) -> None:
    counts = "  ".join(f"{name} {count}" for name, count in camera["accounting"].items() if count or name == "frames")
    say(f"{camera['image']}: {counts}")
    for text in warnings(camera):
        say(f"  {text}")
