"""What is exported: from the camera's bytes to class ids and anomaly score, in one module.

Validation, export and the parity tests use this one module, so what is measured is what ships.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.segmenter import LOGIT_STRIDE, LadderSegmenter

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalise(image: Tensor) -> Tensor:
    """RGB 0..255 to what the encoder expects. (N, 3, H, W) float -> (N, 3, H, W) float."""
    mean = torch.tensor(IMAGENET_MEAN, device=image.device).view(1, 3, 1, 1) * 255.0
    std = torch.tensor(IMAGENET_STD, device=image.device).view(1, 3, 1, 1) * 255.0
    return (image - mean) / std


def largest_jensen_shannon_to_uniform(num_classes: int) -> float:
    """JSD(U, p) of a one-hot p in nats: the largest value there is for that many classes."""
    peak = (1 + 1 / num_classes) / 2
    rest = 1 / (2 * num_classes)
    entropy_of_mean = -peak * math.log(peak) - (num_classes - 1) * rest * math.log(rest)
    return entropy_of_mean - 0.5 * math.log(num_classes)


def jensen_shannon_anomaly(logits: Tensor, temperature: float) -> Tensor:
    """Anomaly score of each place: 1 where the classes are equally likely, 0 where one is certain.

    score = 1 - JSD(U, p) / JSD(U, one-hot), p = softmax(logits / T), with
    JSD(U, p) = H(m) - H(U)/2 - H(p)/2 and m = (U + p)/2 (Grcic et al., arXiv 2112.12833, score -JSD).

    Maximum, exponential and sum are written out, and logarithms taken of p and m only: in ONNX Runtime a
    `log_softmax` over the channels costs three times as much.

    Args:
        logits: (N, K, h, w) float.
        temperature: T > 0.

    Returns:
        (N, 1, h, w) float in [0, 1].
    """
    num_classes = int(logits.shape[1])
    scaled = logits / temperature
    # The maximum through max() has indices nobody needs; amax() would lift the graph to opset 18.
    shifted = scaled - scaled.max(dim=1, keepdim=True).values
    exponentials = torch.exp(shifted)
    total = exponentials.sum(dim=1, keepdim=True)
    probabilities = exponentials / total
    entropy = torch.log(total) - (probabilities * shifted).sum(dim=1, keepdim=True)
    mean = 0.5 * probabilities + 0.5 / num_classes
    entropy_of_mean = -(mean * torch.log(mean)).sum(dim=1, keepdim=True)
    divergence = entropy_of_mean - 0.5 * math.log(num_classes) - 0.5 * entropy
    score = 1.0 - divergence / largest_jensen_shannon_to_uniform(num_classes)
    return score.clamp(0.0, 1.0)


class DeployedSegmenter(nn.Module):
    """Camera bytes in, class ids and anomaly score out.

    image (N, H, W, 3) uint8 RGB, any H and W ->
    semantic (N, h, w) uint8 class ids, anomaly (N, h, w) float32 in [0, 1]; (h, w) is `input_size`.

    The score is computed at the logits' own resolution and up-sampled as one channel; the classes are the largest of
    the up-sampled logits.
    """

    def __init__(self, segmenter: LadderSegmenter, input_size: tuple[int, int], temperature: float) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.input_size = input_size
        self.temperature = temperature

    def logits(self, image: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 -> (N, K, h/4, w/4) float32."""
        # Cast first: TensorRT refuses a uint8 tensor between nodes.
        pixels = image.float().permute(0, 3, 1, 2)
        resized = functional.interpolate(pixels, size=self.input_size, mode="bilinear", align_corners=False)
        return self.segmenter(normalise(resized)).float()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.logits(image)
        factor = float(LOGIT_STRIDE)
        dense = functional.interpolate(logits, scale_factor=factor, mode="bilinear", align_corners=False)
        semantic = dense.argmax(dim=1).to(torch.float32).to(torch.uint8)
        score = jensen_shannon_anomaly(logits, self.temperature)
        anomaly = functional.interpolate(score, scale_factor=factor, mode="bilinear", align_corners=False)
        return semantic, anomaly[:, 0]
