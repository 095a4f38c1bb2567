"""The exported model: from the camera's bytes to class ids and anomaly score, in one module.

Validation, export and the parity tests all use this module, so the measured model is the deployed one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.segmenter.mask_scores import ALL_SCORES, MASK_SCORES, logits_of_sums
from training.segmenter.segmenter import ClassIds, Segmenter, UpSampledScore, is_whole_part, up_sampled

DEFAULT_SCORE = "kullback_leibler_to_uniform_opened"


class DeployedSegmenter(nn.Module):
    """Camera bytes in, class ids and anomaly score out.

    image (N, H, W, 3) uint8 RGB, any H and W ->
    semantic (N, h, w) uint8 class ids, anomaly (N, h, w) float32 in [0, 1]; (h, w) is `input_size`.

    The score is computed at the resolution of the logits and then up-sampled, as one channel. The class is the argmax
    of the up-sampled logits. Logits whose resolution is no whole part of the input's are up-sampled first.

    Args:
        temperature: T of the score, positive.
        score: one of `training.segmenter.anomaly_scores.SCORES`, or of `MASK_SCORES` for a network of masks.

    Raises:
        ValueError: the score does not suit the network.
    """

    temperature: Tensor

    def __init__(
        self,
        segmenter: Segmenter,
        input_size: tuple[int, int],
        temperature: float,
        score: str = DEFAULT_SCORE,
    ) -> None:
        super().__init__()
        if score in MASK_SCORES and not segmenter.of_masks:
            raise ValueError(f"the score '{score}' is for networks that predict masks")
        self.segmenter = segmenter
        self.input_size = input_size
        self.score = ALL_SCORES[score]
        self._of_sums = score in MASK_SCORES
        # A buffer, so that it has a name in the graph, where calibration sets it.
        self.register_buffer("temperature", torch.tensor(float(temperature)))

    def values(self, image: Tensor) -> Tensor:
        """Logits, or mask sums of a network of masks: (N, H, W, 3) uint8 -> (N, C, h/s, w/s) float32."""
        # Cast first: TensorRT refuses a uint8 tensor between nodes.
        pixels = image.float().permute(0, 3, 1, 2)
        resized = functional.interpolate(pixels, size=self.input_size, mode="bilinear", align_corners=False)
        values = self.segmenter(self.segmenter.normalise(resized))
        if not is_whole_part((int(values.shape[2]), int(values.shape[3])), self.input_size):
            values = up_sampled(values, self.input_size)
        # A cast from float32 to float32 would become a node of the exported graph.
        return values if values.dtype == torch.float32 else values.float()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.outputs(self.values(image))

    def outputs(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Class ids and score of `values`, as `forward` gives them."""
        semantic = ClassIds(self.input_size, self.segmenter.of_masks)(values)
        scored = logits_of_sums(values) if self.segmenter.of_masks and not self._of_sums else values
        score = self.score.in_unit_range(scored, self.temperature)
        return semantic, UpSampledScore(self.input_size)(score)
