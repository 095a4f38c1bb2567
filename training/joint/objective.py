"""The three losses of joint training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.data.label_set import IGNORE
from training.flow.image_flow import ImageFlow
from training.joint.colouring import channels_shuffled
from training.joint.gradients import scaled_gradient, within_range
from training.joint.negative_draw import NegativeDraw
from training.joint.training_config import JointTrainingConfig
from training.joint.uniformity_loss import uniformity_loss
from training.runs.shared_batch import mean_over_processes
from training.segmenter.cross_entropy import dense_cross_entropy, weight_of_valid_pixels
from training.segmenter.segmenter import Segmenter


@dataclass(frozen=True)
class Denominators:
    """Divisors of the sums over pixels, () float each: those of the whole batch, divided by the number of processes.

    Attributes:
        classes: sum of the class weights of pixels that have a class and are not pasted over.
        unsure: number of pasted pixels.
    """

    classes: Tensor
    unsure: Tensor


class JointObjective(nn.Module):
    """Segmenter, flow and the three losses as one module, so that data parallelism covers the whole step.

    image (N, 3, H, W) uint8 RGB, labels (N, H, W) uint8 and a draw -> L_cls, L_mle, L_jsd, each () float32. For a
    part of a batch, pass the denominators of the whole batch: L_cls and L_jsd are then shares of the batch's losses.

    A network of masks gives each pixel the probabilities L_k / sum_j L_j (`training.segmenter.mask_scores`). L_cls and
    L_jsd are computed from them. That is ours: no publication trains masks so.
    """

    weights: Tensor

    def __init__(
        self,
        segmenter: Segmenter,
        flow: ImageFlow,
        weights: Tensor,
        config: JointTrainingConfig,
        initial_flow: ImageFlow | None = None,
    ) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.flow = flow
        self.initial_flow = initial_flow
        self.config = config
        self.register_buffer("weights", weights, persistent=False)

    def train(self, mode: bool = True) -> JointObjective:
        super().train(mode)
        if self.config.frozen_batch_norm:
            for module in self.segmenter.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(
        self, image: Tensor, labels: Tensor, draw: NegativeDraw, denominators: Denominators | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        placement = draw.placement
        pixels = image.float()
        likelihood = pixels.new_zeros(())
        # In half precision the inverse of a flow is not exact.
        with torch.autocast(image.device.type, enabled=False):
            patches = draw.faded(self.patches(draw), pixels)
            if self.config.flow_learns:
                # The replaced crop enters the flow as camera pixels, 0..255, and detached.
                crops = placement.take_reduced(image)
                likelihood = self.flow.bits_per_dim(crops, draw.noise, draw.augmentation).mean()
        pasted = self.segmenter.normalise(placement.paste(pixels, patches))
        mixed = pasted.contiguous(memory_format=torch.channels_last)
        dense = self.segmenter.dense_logits(mixed)
        mask = placement.mask((image.shape[2], image.shape[3]))
        of_classes, of_unsure = (None, None) if denominators is None else (denominators.classes, denominators.unsure)
        classes = dense_cross_entropy(dense, labels.masked_fill(mask, IGNORE), self.weights, of_classes)
        return classes, likelihood, uniformity_loss(dense, mask, self.config.divergence, of_unsure)

    def patches(self, draw: NegativeDraw) -> Tensor:
        """The negatives of a draw as they are pasted: (N, 3, height, width) float, 0..255."""
        if draw.patches is None:
            # For the flow, a grey level g is the interval g + [0, 1).
            samples = draw.placement.enlarge(within_range(self.samples(draw) - 0.5))
            patches = scaled_gradient(draw.colours(samples), self.config.negatives.push)
        else:
            patches = draw.patches
        return patches if draw.channels is None else channels_shuffled(patches, draw.channels)

    def samples(self, draw: NegativeDraw) -> Tensor:
        """(N, 3, h, w) float: samples of the flow, or of the flow from before joint training."""
        samples = self.flow.inverse(draw.latents)
        if self.initial_flow is None or draw.from_initial_flow is None:
            return samples
        return torch.where(
            draw.from_initial_flow[:, None, None, None], self.initial_flow.inverse(draw.latents), samples
        )

    def denominators(self, labels: Tensor, draw: NegativeDraw) -> Denominators:
        """Denominators of the whole batch; labels (N, H, W) uint8 and draw are those of this process's part."""
        mask = draw.placement.mask((labels.shape[1], labels.shape[2]))
        weight = weight_of_valid_pixels(labels.masked_fill(mask, IGNORE), self.weights)
        classes, unsure = mean_over_processes(torch.stack([weight, mask.sum().to(weight)]))
        return Denominators(classes, unsure)
