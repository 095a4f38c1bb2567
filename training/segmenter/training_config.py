"""The configuration of a supervised training run of the segmenter."""

from __future__ import annotations

from dataclasses import dataclass, field

from training.data.augmentation import AugmentationConfig
from training.data.data_config import DataConfig
from training.runs.training_run import ScheduleConfig
from training.segmenter.cross_entropy import ClassWeighting
from training.segmenter.ladder_segmenter import SegmenterConfig


@dataclass(frozen=True)
class OptimiserConfig(ScheduleConfig):
    """AdamW and its schedule.

    Attributes:
        encoder_factor: the encoder's learning rate relative to that of the decoder (1/4 suits pretrained encoders).
        weight_decay: decay of weights with more than one dimension; biases and norms are not decayed.
    """

    encoder_factor: float = 1.0
    weight_decay: float = 0.01
    gradient_clip_norm: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("encoder_factor", "gradient_clip_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")


@dataclass(frozen=True)
class SegmenterTrainingConfig:
    """A supervised training run.

    Attributes:
        name: name of the model, and of its folder below `runs/`.
        epochs, passes_per_epoch: an epoch visits every training frame `passes_per_epoch` times, then validates.
        batch_size: crops per step, over all processes.
        accumulation_steps: micro-batches that each process divides its part of a batch into. It saves memory; the
            gradient stays that of the whole batch.
        ema_decay: decay of the running average of the weights, which is validated and exported; 0 switches it off.
        input_size: height and width of the network's input in the exported graph and in validation.
        precision: `32-true` or `bf16-mixed`, as Lightning Fabric names them.
        picture_frames: positions of the validation frames shown in TensorBoard.
    """

    name: str
    seed: int = 0
    epochs: int = 100
    passes_per_epoch: int = 1
    batch_size: int = 8
    accumulation_steps: int = 1
    ema_decay: float = 0.0
    input_size: tuple[int, int] = (384, 512)
    precision: str = "32-true"
    class_weighting: ClassWeighting = "none"
    class_weighting_offset: float = 1.02
    picture_frames: tuple[int, ...] = (0, 33, 66)
    data: DataConfig = field(default_factory=DataConfig)
    segmenter: SegmenterConfig = field(default_factory=SegmenterConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)

    def __post_init__(self) -> None:
        for name in ("epochs", "passes_per_epoch", "batch_size", "accumulation_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}; it must be in [0, 1)")
        if self.precision not in ("32-true", "bf16-mixed"):
            # Not 16-mixed: scaled gradients cannot be clipped before a fused optimiser unscales them. And the two
            # optimisers of joint training would share one scale, which the step of the first changes before that of
            # the second. Weights in half precision are too coarse for the steps of these learning rates.
            raise ValueError(f"precision is {self.precision}; it must be 32-true or bf16-mixed")
        if self.class_weighting_offset <= 1:
            raise ValueError(f"class_weighting_offset is {self.class_weighting_offset}; it must be above 1")
        if any(side < 32 or side % 32 for side in self.input_size):
            raise ValueError(f"input_size is {self.input_size}; height and width must be positive multiples of 32")
