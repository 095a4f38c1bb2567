"""Train the normalizing flow alone, by maximum likelihood on crops of training frames.

    python -m training.train_flow --config training/configs/flow_fast.yaml --data FOLDER

Checkpoints go to `runs/NAME/last.pt` (every epoch) and `best.pt` (fewest bits per dimension on validation crops),
TensorBoard files with samples of several sizes beside them (`tensorboard --logdir runs`). `--resume` goes on after the
last finished epoch. Under `torchrun`, or with `--devices`, several processes share each batch.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from training.data.augmentation import AugmentationConfig, random_crop
from training.data.labelled_frames import LabelledFrames
from training.data.training_crops import TrainingCrops
from training.data.training_frames import open_data
from training.flow.image_flow import ImageFlow
from training.flow.training_config import FlowTrainingConfig
from training.runs.command_line import command_line
from training.runs.training_run import TrainingRun

SHOWN_SAMPLES = 8
VALIDATION_BATCH = 32


class LikelihoodObjective(nn.Module):
    """Flow and loss as one module.

    crops (N, 3, h, w) uint8, noise (N, 3, h, w) in [0, 1), the flow's noise channels -> () float32, L_mle.
    """

    def __init__(self, flow: ImageFlow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, crops: Tensor, noise: Tensor, augmentation: list[Tensor]) -> Tensor:
        return self.flow.bits_per_dim(crops, noise, augmentation).mean()


class FlowTrainer(TrainingRun[FlowTrainingConfig]):
    """A maximum-likelihood run: the flow and its optimiser."""

    program = "training.train_flow"
    kind = "flow"
    quality = ("bits_per_dim", False)

    def __init__(
        self, config: FlowTrainingConfig, config_path: Path, folders: Mapping[str, Path], out: Path, fabric: Fabric
    ) -> None:
        super().__init__(config, config_path, out, fabric)
        self.frames, validation = open_data(config.data, folders)
        crops = TrainingCrops(
            self.frames, config.augmentation, config.seed, config.passes_per_epoch, config.data.keep_in_memory
        )
        self.share_out(crops, len(crops))
        self.validation_crops = fixed_crops(validation, config.augmentation, config.validation_crops)
        flow = ImageFlow(config.flow)
        optimiser = torch.optim.Adamax(flow.parameters(), lr=config.optimiser.learning_rate)
        self.objective, self.optimiser = fabric.setup(LikelihoodObjective(flow), optimiser)
        self.flow = flow

    def models(self) -> dict[str, Any]:
        return {"flow": self.flow, "optimiser": self.optimiser}

    def record(self) -> dict[str, Any]:
        return {"data_set": {"name": self.frames.title, "licence": self.frames.terms, "parts": self.frames.parts}}

    def step(self, batch: Any) -> dict[str, float]:
        crops, _ = batch
        config = self.config
        factor = config.optimiser.factor(self.progression.step, self.total_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = config.optimiser.learning_rate * factor
        self.objective.train()
        generator = self.step_generator()
        noise = torch.rand((config.batch_size, *crops.shape[1:]), generator=generator)
        height, width = crops.shape[2:]
        augmentation = self.flow.draw_augmentation(config.batch_size, height, width, generator)
        crops, noise, *augmentation = (
            self.fabric.to_device(values) for values in (crops, self.shared(noise), *map(self.shared, augmentation))
        )
        if self.progression.step == 0:
            # The whole batch sets the activation norms, not its first micro-batch.
            with torch.no_grad():
                self.flow.bits_per_dim(crops, noise, augmentation)

        def losses_of(part: slice) -> tuple[Tensor, dict[str, Tensor]]:
            bits = self.objective(crops[part], noise[part], [channels[part] for channels in augmentation])
            return bits / config.accumulation_steps, {"L_mle": bits / config.accumulation_steps}

        losses = self.accumulate(losses_of)
        self.clip_gradients(self.objective, self.optimiser, config.gradient_clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad()
        return losses

    @torch.no_grad()
    def validate(self, writer: SummaryWriter | None) -> dict[str, float]:
        self.flow.eval()
        bits = flow_bits_per_dim(self.flow, self.validation_crops, self.fabric)
        if writer is not None:
            log_samples(writer, self.flow, self.config.sample_sizes, self.progression.step, self.config.seed)
        self.flow.train()
        return {"bits_per_dim": bits}


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


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return command_line(FlowTrainer, FlowTrainingConfig, __doc__, arguments, initial={}, start=lambda run, paths: None)


if __name__ == "__main__":
    sys.exit(main())
