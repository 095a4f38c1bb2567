"""The configuration of a training run of the flow alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from training.data.augmentation import AugmentationConfig
from training.data.data_config import DataConfig
from training.flow.image_flow import STRIDE, FlowConfig
from training.runs.training_run import ScheduleConfig


@dataclass(frozen=True)
class FlowTrainingConfig:
    """A maximum-likelihood run of the flow.

    Attributes:
        name: name of the model, and of its folder below `runs/`.
        epochs, passes_per_epoch: an epoch takes `passes_per_epoch` crops of every training frame, then validates.
        batch_size: crops per step, over all processes.
        accumulation_steps: micro-batches that each process divides its part of a batch into. It saves memory; the
            gradient stays that of the whole batch.
        precision: `32-true` only. In half precision a flow's inverse is not exact.
        validation_crops: number of fixed crops of the validation frames, for bits per dimension.
        sample_sizes: heights and widths of the samples in TensorBoard, pixels.
        augmentation: scale and size of the crops; colours are unchanged.
        optimiser: schedule of Adamax.
        gradient_clip_norm: largest norm of the gradient.
    """

    name: str
    seed: int = 0
    epochs: int = 30
    passes_per_epoch: int = 8
    batch_size: int = 32
    accumulation_steps: int = 1
    precision: str = "32-true"
    validation_crops: int = 256
    sample_sizes: tuple[tuple[int, int], ...] = ((32, 32), (64, 64), (96, 160))
    data: DataConfig = field(default_factory=DataConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    augmentation: AugmentationConfig = field(default_factory=lambda: AugmentationConfig(crop=(64, 64)))
    optimiser: ScheduleConfig = field(default_factory=ScheduleConfig)
    gradient_clip_norm: float = 50.0

    def __post_init__(self) -> None:
        for name in ("epochs", "passes_per_epoch", "batch_size", "accumulation_steps", "validation_crops"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.precision != "32-true":
            raise ValueError(f"precision is {self.precision}; a flow is trained in 32-true")
        for size in self.sample_sizes:
            if any(side < STRIDE or side % STRIDE for side in size):
                raise ValueError(f"sample_sizes has {size}; height and width must be positive multiples of {STRIDE}")
        if not self.gradient_clip_norm > 0:
            raise ValueError(f"gradient_clip_norm is {self.gradient_clip_norm}; it must be positive")
