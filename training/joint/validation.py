"""How well the anomaly score finds negatives: a figure to choose a network by without recorded anomalies."""

from __future__ import annotations

from typing import Any

import cv2
import torch
from lightning_fabric import Fabric
from torch import Tensor

from training.data.label_set import IGNORE
from training.data.labelled_frames import LabelledFrame, LabelledFrames
from training.joint.negative_config import NegativeConfig
from training.joint.placement import Placement, place
from training.metrics.pixel_exact import ExactPixelMetrics
from training.segmenter.deployed_segmenter import DeployedSegmenter

NEGATIVE_SEED = 2112
PASTED = NegativeConfig(source="crops", shape="blob", sides=(64, 320))


@torch.no_grad()
def average_precision_on_negatives(model: DeployedSegmenter, frames: LabelledFrames, fabric: Fabric) -> float:
    """AP of the anomaly score on frames into which crops of other frames are pasted, in smooth outlines.

    The pastes are the same each time. The frames are divided among the processes.

    Args:
        model: the model, in evaluation mode.
    """
    metric = ExactPixelMetrics()
    for index in range(fabric.global_rank, len(frames), fabric.world_size):
        frame, other = frames[index], frames[(index + len(frames) // 2) % len(frames)]
        pasted, mask = _pasted(frame, other, torch.Generator().manual_seed(NEGATIVE_SEED + index))
        with fabric.autocast():
            _, score = model(fabric.to_device(pasted.to(torch.uint8).permute(0, 2, 3, 1).contiguous()))
        size = (frame.image.shape[0], frame.image.shape[1])
        dense = torch.nn.functional.interpolate(score[:, None].float(), size=size, mode="bilinear")[0, 0]
        anomaly = torch.where(mask, 1, 0).to(torch.uint8).numpy()
        anomaly[(frame.labels == IGNORE) & (anomaly == 0)] = IGNORE
        metric.update(dense.cpu().numpy(), anomaly)
    if fabric.world_size > 1:
        parts: list[Any] = [None] * fabric.world_size
        torch.distributed.all_gather_object(parts, metric)
        metric = ExactPixelMetrics()
        for part in parts:
            metric.merge(part)
    return metric.compute().ap


def _pasted(frame: LabelledFrame, other: LabelledFrame, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The frame (1, 3, H, W) float, 0..255, with a crop of the other one, and where that is, (H, W) bool."""
    size = (frame.image.shape[0], frame.image.shape[1])
    here, there = place(1, size, PASTED, generator), place(1, size, PASTED, generator)
    image = other.image
    if image.shape[:2] != size:
        image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    taken = Placement(
        here.height,
        here.width,
        there.top.clamp(max=size[0] - here.height),
        there.left.clamp(max=size[1] - here.width),
        here.inside,
    ).take(torch.from_numpy(image).permute(2, 0, 1)[None])
    # With other colours: a car of another frame is still a car.
    taken = taken[:, [2, 0, 1]].float()
    pasted = here.paste(torch.from_numpy(frame.image).permute(2, 0, 1)[None].float(), taken)
    return pasted, here.mask(size)[0]
