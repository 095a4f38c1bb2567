"""The summary of a demo run: its figures, the problems in them, and how they are printed."""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path
from typing import Any

import onnxruntime
from rich.console import Console

from demo.demo_input import DemoInput
from demo.every_camera import CAMERAS_REPORT
from demo.live.node_parameters import node_parameters
from demo.live.topics import IMAGE_TOPICS
from demo.played_frames import RATE_HZ
from demo.recorded_run import RecordedRun, end_to_end_ms
from ros_ood_perception.bundle.model_bundle import Bundle
from ros_ood_perception.pipeline.fates import SENT_FATES
from ros_ood_perception.shown_text import printable

ACCOUNTING_FIELDS = ("sent", *SENT_FATES, "in_progress")
"""The counts of the node's diagnostics: `sent` is the sum of the others."""


def summarise(
    options: argparse.Namespace,
    played: DemoInput,
    bundle: Bundle,
    facts: dict[str, str],
    node_exit_code: int,
    run: RecordedRun,
    equality: dict[str, int],
) -> dict[str, Any]:
    """What `summary.json` holds.

    Args:
        facts: the node's last diagnostics.
        equality: of the outputs with those of the engine, or of a replay of a sample drive.
    """
    accounting = {name: int(facts[name]) for name in ACCOUNTING_FIELDS}
    description = bundle.description
    frames, sent = played.frames, run.sent
    return {
        "input": {
            "path": str(played.path),
            "kind": frames.kind,
            "frames": len(sent),
            "unreadable": frames.unreadable,
            "topic": frames.topic,
            "other_cameras": list(frames.other_cameras),
            "rate_hz": options.rate or (RATE_HZ if frames.topic is None else None),
            "paced": options.paced,
            "played_s": (sent[-1].sent_at_ns - sent[0].sent_at_ns) / 1e9 if sent else 0.0,
        },
        "bundle": {
            "name": description.name,
            "path": str(bundle.folder),
            "model_sha256": description.model_sha256,
            "weights_licence": description.weights_licence,
        },
        "engine": facts["engine"],
        "anomaly_threshold": float(facts["anomaly_threshold"]),
        "parameters": node_parameters(options.threshold, played, description),
        "accounting": accounting,
        "unaccounted": len(sent) - accounting["sent"],
        "recorded": {name: len(run.messages[name]) for name in IMAGE_TOPICS},
        "equal_to_replay" if played.truth else "equal_to_engine": equality,
        "latency_ms": {
            "end_to_end": end_to_end_ms(run, "semantic_mask"),
            "node": {key: float(value) for key, value in sorted(facts.items()) if "_ms_p" in key},
        },
        "node_exit_code": node_exit_code,
        "machine": {
            "cpus": len(os.sched_getaffinity(0)),
            "python": platform.python_version(),
            "onnxruntime": onnxruntime.__version__,
            "ros_distro": os.environ.get("ROS_DISTRO", "from PyPI"),
        },
    }


BUSY = "; the machine was too busy: end other work, or give --paced or a smaller --rate"
LOOK = "; logs/node.log says why"
REMEDIES = {
    "lost_in_transport": f"{BUSY}. If it was not, shared memory may be full (df /dev/shm)",
    "too_old": BUSY,
    "malformed": LOOK,
    "failed": LOOK,
    "in_progress": LOOK,
}
"""What to do about frames that ended so."""


def problems(summary: dict[str, Any]) -> list[str]:
    """What a user must know before trusting the run; empty where there is nothing."""
    other = "replay" if "equal_to_replay" in summary else "engine"
    accounting, equality = summary["accounting"], summary[f"equal_to_{other}"]
    found = []
    if not accounting["published"]:
        found.append("no frame was published")
    for name in ("lost_in_transport", "too_old", "malformed", "failed", "in_progress"):
        if accounting[name]:
            found.append(f"{accounting[name]} frames: {name.replace('_', ' ')}{REMEDIES.get(name, '')}")
    if summary["unaccounted"]:
        found.append(f"{summary['unaccounted']} frames sent are not in the node's accounting")
    if sum(accounting[name] for name in ACCOUNTING_FIELDS[1:]) != accounting["sent"]:
        found.append("the accounting does not add up")
    for name, count in summary["recorded"].items():
        if count != accounting["published"]:
            found.append(f"{count} messages recorded of {name}, {accounting['published']} frames published")
    if equality["compared"] < accounting["published"]:
        missing = accounting["published"] - equality["compared"]
        found.append(f"{missing} frames published could not be compared with the {other}'s")
    for name in equality.keys() - {"compared"}:
        # A frame that the node has not seen changes which obstacles persist, so they may differ.
        expected = name != "obstacles" or accounting["published"] == accounting["sent"]
        if expected and equality[name] != equality["compared"]:
            different = equality["compared"] - equality[name]
            # Some names are plurals already.
            many = f"{name.rstrip('s')}s"
            found.append(f"{different} of {equality['compared']} recorded {many} differ from the {other}'s")
    if summary["node_exit_code"]:
        found.append(f"the node ended with code {summary['node_exit_code']}")
    if summary["input"]["unreadable"]:
        found.append(f"{len(summary['input']['unreadable'])} files could not be decoded and were left out")
    return found


def print_summary(summary: dict[str, Any], out: Path, console: Console) -> None:
    """Print the figures and problems."""

    def say(text: str, style: str | None = None) -> None:
        console.print(printable(text), markup=False, soft_wrap=True, style=style)

    accounting = summary["accounting"]
    say("  ".join(f"{name} {accounting[name]}" for name in ACCOUNTING_FIELDS))
    other = "replay" if "equal_to_replay" in summary else "engine"
    equality = summary[f"equal_to_{other}"]
    same = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in equality.items() if name != "compared")
    say(f"equal to the {other}'s, of {equality['compared']} frames: {same}")
    if "metrics" in summary:
        exact = summary["metrics"]["exact"]
        figures = {"AP": exact["AP"], "FPR95": exact["FPR95"], "mIoU": summary["metrics"]["semantic"]["mIoU"]}
        shown = (f"{name} {'undefined' if v is None else f'{100 * v:.1f} %'}" for name, v in figures.items())
        say(f"pixels against the truth: {', '.join(shown)}")
    if "unknown_objects" in summary:
        found = summary["unknown_objects"]
        share = found["share_of_frames_found"]
        in_frames = "" if share is None else f", in {100 * share:.0f} % of the frames in view"
        say(f"unknown objects found: {found['found']} of {found['objects']}{in_frames}")
        for row in found["each"]:
            first = "missed" if row["first_found_m"] is None else f"first found {row['first_found_m']:.1f} m ahead"
            frames = f"found in {row['frames_found']} of {row['frames_in_view']} frames in view"
            say(f"  {row['kind']} {row['id']}: {first}, in view from {row['first_in_view_m']:.1f} m on; {frames}")
        rate = found["false_obstacles_per_minute"]
        say(f"false obstacles: {found['false_obstacles']}{'' if rate is None else f', {rate:.1f} a minute'}")
    say(f"seconds: {', '.join(f'{name} {seconds}' for name, seconds in summary['stages_s'].items())}")
    say(f"report: {out / 'report.html'}")
    if summary["input"]["other_cameras"]:
        say(f"report of all cameras: {out / CAMERAS_REPORT}")
    for problem in summary["problems"]:
        say(f"problem: {problem}", style="red")
