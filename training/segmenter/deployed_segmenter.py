"""The exported model: from the camera's bytes to class ids and anomaly score, in one module.

Validation, export and the parity tests all use this module, so the measured model is the deployed one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.segmenter.anomaly_scores import SCORES
from training.segmenter.ladder_segmenter import LOGIT_STRIDE, LadderSegmenter

DEFAULT_SCORE = "kullback_leibler_to_uniform_opened"


class DeployedSegmenter(nn.Module):
    """Camera bytes in, class ids and anomaly score out.

    image (N, H, W, 3) uint8 RGB, any H and W ->
    semantic (N, h, w) uint8 class ids, anomaly (N, h, w) float32 in [0, 1]; (h, w) is `input_size`.

    The score is computed at the resolution of the logits and then up-sampled, as one channel. The class is the argmax
    of the up-sampled logits.

    Args:
        temperature: T of the score, positive.
        score: one of `training.segmenter.anomaly_scores.SCORES`.
    """

    temperature: Tensor

    def __init__(
        self,
        segmenter: LadderSegmenter,
        input_size: tuple[int, int],
        temperature: float,
        score: str = DEFAULT_SCORE,
    ) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.input_size = input_size
        self.score = SCORES[score]
        # A buffer, so that it has a name in the graph, where calibration sets it.
        self.register_buffer("temperature", torch.tensor(float(temperature)))

    def logits(self, image: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 -> (N, K, h/4, w/4) float32."""
        # Cast first: TensorRT refuses a uint8 tensor between nodes.
        pixels = image.float().permute(0, 3, 1, 2)
        resized = functional.interpolate(pixels, size=self.input_size, mode="bilinear", align_corners=False)
        logits = self.segmenter(self.segmenter.normalise(resized))
        # A cast from float32 to float32 would become a node of the exported graph.
        return logits if logits.dtype == torch.float32 else logits.float()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.logits(image)
        factor = float(LOGIT_STRIDE)
        dense = functional.interpolate(logits, scale_factor=factor, mode="bilinear", align_corners=False)
        semantic = dense.argmax(dim=1).to(torch.float32).to(torch.uint8)
        score = self.score.in_unit_range(logits, self.temperature)
        anomaly = functional.interpolate(score, scale_factor=factor, mode="bilinear", align_corners=False)
        return semantic, anomaly[:, 0]
