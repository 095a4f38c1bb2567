"""Validation of a segmenter during training: mIoU of the deployed model, and pictures for the log."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import cv2
import numpy as np
import torch
from lightning_fabric import Fabric
from torch.utils.tensorboard import SummaryWriter

from ros_ood_perception.messages.overlay import score_picture, semantic_picture
from training.data.label_set import LabelClass
from training.data.labelled_frames import LabelledFrames
from training.metrics.semantic import ConfusionMatrix
from training.segmenter.deployed_segmenter import DeployedSegmenter


@torch.no_grad()
def validate_segmenter(
    model: DeployedSegmenter,
    frames: LabelledFrames,
    fabric: Fabric,
    writer: SummaryWriter | None,
    step: int,
    picture_frames: Collection[int],
) -> ConfusionMatrix:
    """Confusion matrix of the deployed model on the frames, at their own resolution, over all processes.

    Args:
        writer: takes pictures of `picture_frames` (positions in the set): image, labels, classes, anomaly score.
    """
    training = model.training
    model.eval()
    confusion = ConfusionMatrix(len(frames.classes))
    colours = [c.colour for c in frames.classes]
    for index in range(fabric.global_rank, len(frames), fabric.world_size):
        frame = frames[index]
        with fabric.autocast():
            semantic, anomaly = model(fabric.to_device(torch.from_numpy(frame.image)[None]))
        height, width = frame.labels.shape
        ids = cv2.resize(semantic[0].cpu().numpy(), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        confusion.update(ids, frame.labels)
        if writer is not None and index in picture_frames:
            score = cv2.resize(anomaly[0].float().cpu().numpy(), (width, height))
            panel = np.concatenate(
                [
                    frame.image,
                    semantic_picture(frame.labels, colours),
                    semantic_picture(ids, colours),
                    score_picture(score),
                ],
                axis=1,
            )
            title = f"validation/{frame.name}: image, labels, classes, anomaly score"
            writer.add_image(title, panel, step, dataformats="HWC")
    counts = torch.from_numpy(confusion.counts)
    confusion.counts = fabric.all_reduce(fabric.to_device(counts), reduce_op="sum").cpu().numpy()
    model.train(training)
    return confusion


def log_classes(
    writer: SummaryWriter | None, confusion: ConfusionMatrix, classes: Sequence[LabelClass], step: int
) -> None:
    """Write the IoU of each class."""
    if writer is not None:
        for label_class, iou in zip(classes, confusion.iou(), strict=True):
            writer.add_scalar(f"validation/IoU/{label_class.name}", iou, step)
