"""How well the anomaly score finds negatives: a figure to choose a network by without recorded anomalies."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from training.data.label_set import IGNORE
from training.data.labelled_frames import ANOMALY, LabelledFrame, LabelledFrames
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
        image, anomaly = with_pasted_crop(frames, index)
        with fabric.autocast():
            _, score = model(fabric.to_device(torch.from_numpy(image)[None]))
        size = (image.shape[0], image.shape[1])
        dense = torch.nn.functional.interpolate(score[:, None].float(), size=size, mode="bilinear")[0, 0]
        metric.update(dense.cpu().numpy(), anomaly)
    if fabric.world_size > 1:
        parts: list[Any] = [None] * fabric.world_size
        torch.distributed.all_gather_object(parts, metric)
        metric = ExactPixelMetrics()
        for part in parts:
            metric.merge(part)
    return metric.compute().ap


def with_pasted_crop(
    frames: LabelledFrames, index: int, config: NegativeConfig = PASTED
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A frame with a crop of another frame pasted into it. The same each time.

    Args:
        config: sides and outline of the crop.

    Returns:
        image: (H, W, 3) uint8 RGB.
        anomaly: (H, W) uint8, 1 in the crop, 0 on known pixels, 255 on void ones.

    Raises:
        BrokenFrameError: one of the two frames cannot be read.
    """
    frame, other = frames[index], frames[(index + len(frames) // 2) % len(frames)]
    pasted, mask = _pasted(frame, other, config, torch.Generator().manual_seed(NEGATIVE_SEED + index))
    anomaly = mask.to(torch.uint8).numpy() * np.uint8(ANOMALY)
    anomaly[(frame.labels == IGNORE) & (anomaly == 0)] = IGNORE
    return pasted[0].to(torch.uint8).permute(1, 2, 0).contiguous().numpy(), anomaly


def _pasted(
    frame: LabelledFrame, other: LabelledFrame, config: NegativeConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The frame (1, 3, H, W) float, 0..255, with a crop of the other one, and where that is, (H, W) bool."""
    size = (frame.image.shape[0], frame.image.shape[1])
    here, there = place(1, size, config, generator), place(1, size, config, generator)
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
