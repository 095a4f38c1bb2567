"""Validation frames with synthetic anomalies: crops of other frames, pasted in smooth outlines, in other colours.

No source of negatives that ships trains on the same pastes, so they tell something about unknown things.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.label_set import IGNORE
from training.data.labelled_frames import ANOMALY, LabelledFrame, LabelledFrames
from training.joint.negative_config import NegativeConfig
from training.joint.placement import Placement, place

NEGATIVE_SEED = 2112
PASTED = NegativeConfig(source="crops", shape="blob", sides=(64, 320))


def with_pasted_crop(frames: LabelledFrames, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A frame with a crop of another frame pasted into it. The same each time.

    Returns:
        image: (H, W, 3) uint8 RGB.
        anomaly: (H, W) uint8, 1 in the crop, 0 on known pixels, 255 on void ones.

    Raises:
        BrokenFrameError: one of the two frames cannot be read.
    """
    frame, other = frames[index], frames[(index + len(frames) // 2) % len(frames)]
    pasted, mask = _pasted(frame, other, torch.Generator().manual_seed(NEGATIVE_SEED + index))
    anomaly = mask.to(torch.uint8).numpy() * np.uint8(ANOMALY)
    anomaly[(frame.labels == IGNORE) & (anomaly == 0)] = IGNORE
    return pasted[0].to(torch.uint8).permute(1, 2, 0).contiguous().numpy(), anomaly


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
