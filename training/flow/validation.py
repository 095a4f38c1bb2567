"""How good a flow is: bits per dimension on fixed crops, and samples to look at."""

from __future__ import annotations

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from training.data.augmentation import AugmentationConfig, random_crop
from training.data.labelled_frames import LabelledFrames
from training.flow.image_flow import ImageFlow

SHOWN_SAMPLES = 8
VALIDATION_BATCH = 32


def fixed_crops(frames: LabelledFrames, config: AugmentationConfig, count: int) -> Tensor:
    """The same crops of a set every time, spread over its frames: (count, 3, h, w) uint8."""
    crops = []
    for number in range(count):
        frame = frames[number * len(frames) // count]
        image, _ = random_crop(frame.image, frame.labels, config, np.random.default_rng((2112, number)))
        crops.append(torch.from_numpy(image).permute(2, 0, 1))
    return torch.stack(crops)


def flow_bits_per_dim(flow: ImageFlow, crops: Tensor, fabric: Fabric) -> float:
    """Mean bits per dimension of crops (N, 3, h, w) uint8, with the same noise every time."""
    generator = torch.Generator().manual_seed(2112)
    total = 0.0
    for part in crops.split(VALIDATION_BATCH):
        noise = torch.rand(part.shape, generator=generator)
        augmentation = flow.draw_augmentation(len(part), part.shape[2], part.shape[3], generator)
        own = [fabric.to_device(values) for values in (part, noise, *augmentation)]
        total += float(flow.bits_per_dim(own[0], own[1], own[2:]).sum())
    return total / len(crops)


def log_samples(
    writer: SummaryWriter, flow: ImageFlow, sizes: tuple[tuple[int, int], ...], step: int, seed: int
) -> None:
    """Samples of each size beside each other, of the same latents in every epoch."""
    device = next(flow.parameters()).device
    for height, width in sizes:
        generator = torch.Generator().manual_seed(seed)
        latents = [z.to(device) for z in flow.draw_latents(SHOWN_SAMPLES, height, width, generator)]
        patches = flow.inverse(latents).clamp(0, 255).to(torch.uint8).cpu()
        writer.add_image(f"samples/{height}x{width}", torch.cat(list(patches), dim=2), step)
