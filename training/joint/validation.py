"""How well the anomaly score finds negatives: a figure to choose a network by without recorded anomalies."""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric import Fabric

from training.data.labelled_frames import LabelledFrames
from training.joint.pasted_crops import with_pasted_crop
from training.metrics.pixel_exact import ExactPixelMetrics
from training.segmenter.deployed_segmenter import DeployedSegmenter


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
