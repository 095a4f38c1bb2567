"""Obstacles of single frames, each for itself: false ones a frame, and the share of labelled objects that are found.

    python benchmark/quality/obstacles_in_frames.py models/camvid_small --operating-point obstacles_0.1_per_frame \\
      --empty camvid:CAMVID/test --objects smiyc_obstacle_val:OBSTACLES [--json FILE]

In the frames of --empty nothing unknown lies: every obstacle is false. In those of --objects, each connected area of
anomaly pixels is an object. It is found if a fifth of its pixels is in the anomaly mask and an obstacle's region holds
one of them. No frame is remembered: `persistence` is 1 of 1. Other parameters are those of the operating point, and of
--set NAME=VALUE.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.files.json_files import write_json
from ros_ood_perception.inference.opening import open_engine
from ros_ood_perception.obstacles.tracks import PersistenceSettings
from ros_ood_perception.parameters.declarations import DECLARATIONS
from ros_ood_perception.parameters.settings import live_settings
from ros_ood_perception.pipeline.camera_pipeline import CameraPipeline, FrameResult
from ros_ood_perception.recordings.results import DetectedBox
from training.data.arguments import data_argument, open_frames
from training.data.labelled_frames import ANOMALY
from training.data.progress import tracked
from training.metrics.obstacles.judging import Rule
from training.metrics.obstacles.published import obstacle_regions

RULE = Rule()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--operating-point", default="")
    parser.add_argument("--empty", type=data_argument, metavar="NAME:PATH[@SPLIT]")
    parser.add_argument("--objects", type=data_argument, metavar="NAME:PATH[@SPLIT]")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the node")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    values: dict[str, Any] = {declaration.name: declaration.default_value for declaration in DECLARATIONS}
    values |= {"operating_point": options.operating_point}
    values |= {name: yaml.safe_load(value) for name, _, value in (text.partition("=") for text in options.set)}
    bundle = read_bundle(options.bundle).up_to(values["max_input_height"])
    settings = live_settings(values).pipeline_settings(bundle.description)
    settings = replace(settings, persistence=PersistenceSettings(1, 1))
    engine = open_engine(bundle, "auto")
    description = bundle.description
    pipeline = CameraPipeline(engine, len(description.classes), description.input, settings)
    found: dict[str, Any] = {"threshold": settings.anomaly_threshold}
    if options.empty is not None:
        found["empty"] = _empty(pipeline, open_frames(options.empty, ()))
    if options.objects is not None:
        found["objects"] = _objects(pipeline, open_frames(options.objects, ()))
    engine.close()
    print(yaml.safe_dump(found, sort_keys=False), end="")
    if options.json is not None:
        write_json(options.json, found)


def _empty(pipeline: CameraPipeline, frames: Any) -> dict[str, Any]:
    counts = [len(_result(pipeline, frames, index).obstacles) for index in tracked(range(len(frames)), "empty")]
    return {
        "frames": len(counts),
        "false_obstacles": sum(counts),
        "false_obstacles_a_frame": sum(counts) / len(counts),
        "frames_with_one": sum(count > 0 for count in counts),
    }


def _objects(pipeline: CameraPipeline, frames: Any) -> dict[str, Any]:
    objects = found = 0
    for index in tracked(range(len(frames)), "objects"):
        result = _result(pipeline, frames, index)
        mask = result.perception.anomaly_mask
        boxes = [o.region.box for o in result.obstacles]
        regions = obstacle_regions(mask, [DetectedBox(b.x, b.y, b.width, b.height, "") for b in boxes])
        count, areas, stats, _ = cv2.connectedComponentsWithStats(
            (frames[index].anomaly == ANOMALY).astype(np.uint8), connectivity=8
        )
        for number in range(1, count):
            if stats[number, cv2.CC_STAT_AREA] < RULE.min_pixels:
                continue
            area = areas == number
            objects += 1
            found += bool(mask[area].mean() >= RULE.min_marked and (regions[area] > 0).any())
    return {"frames": len(frames), "objects": objects, "found": found, "share_found": found / max(objects, 1)}


def _result(pipeline: CameraPipeline, frames: Any, index: int) -> FrameResult:
    # Far apart, so that a frame never remembers another one.
    return pipeline(frames[index].image, index * 10**12, "camera")


if __name__ == "__main__":
    main()
