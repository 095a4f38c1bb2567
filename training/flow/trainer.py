"""The maximum-likelihood training run: the flow alone, on crops of training frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from training.data.training_crops import TrainingCrops
from training.data.training_frames import open_data
from training.flow.image_flow import ImageFlow
from training.flow.training_config import FlowTrainingConfig
from training.flow.validation import fixed_crops, flow_bits_per_dim, log_samples
from training.runs.training_run import TrainingRun


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
    config_class = FlowTrainingConfig

    def __init__(
        self, config: FlowTrainingConfig, config_path: Path, folders: Mapping[str, Path], out: Path, fabric: Fabric
    ) -> None:
        super().__init__(config, config_path, out, fabric)
        self.frames, validation = open_data(config.data, folders)
        self.show_labels(self.frames)
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
