"""The configuration of a joint training run of segmenter and flow."""

from __future__ import annotations

from dataclasses import dataclass, field

from training.flow.image_flow import FlowConfig
from training.joint.negative_config import NegativeConfig
from training.joint.uniformity_loss import Divergence
from training.runs.training_run import ScheduleConfig
from training.segmenter.training_config import OptimiserConfig, SegmenterTrainingConfig


@dataclass(frozen=True)
class JointTrainingConfig(SegmenterTrainingConfig):
    """A joint run: L = L_cls + L_mle + beta L_jsd (Grcic et al., arXiv 2112.12833).

    Attributes:
        beta: weight of L_jsd; 0.03 in the authors' public code.
        divergence: the divergence in L_jsd; `kullback_leibler` is for comparison.
        frozen_batch_norm: keep the batch statistics of the pre-trained segmenter. The vehicle does not see pasted
            negatives, and a step does not depend on the number of processes that share it.
        flow: must equal that of the pre-trained flow.
        negatives: their source, and how they are pasted.
        flow_optimiser: schedule of Adamax, which trains the flow.
        flow_gradient_clip_norm: largest norm of the flow's gradient.
    """

    beta: float = 0.03
    divergence: Divergence = "jensen_shannon"
    frozen_batch_norm: bool = True
    flow: FlowConfig = field(default_factory=FlowConfig)
    negatives: NegativeConfig = field(default_factory=NegativeConfig)
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(learning_rate=1e-5))
    flow_optimiser: ScheduleConfig = field(default_factory=lambda: ScheduleConfig(learning_rate=1e-5))
    flow_gradient_clip_norm: float = 50.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta < 0:
            raise ValueError(f"beta is {self.beta}; it must be at least 0")
        if not self.flow_gradient_clip_norm > 0:
            raise ValueError(f"flow_gradient_clip_norm is {self.flow_gradient_clip_norm}; it must be positive")

    @property
    def flow_learns(self) -> bool:
        """Whether the flow is trained in this run."""
        return self.negatives.uses_flow and self.negatives.train_flow
