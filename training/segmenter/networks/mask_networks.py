"""Networks of `transformers` that predict masks: MaskFormer, Mask2Former, OneFormer and EoMT, as `mask_sums`.

Weights and results stay. EoMT sees an image through square windows; they are cut and put together inside the network.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.segmenter.mask_scores import mask_sums
from training.segmenter.networks.per_pixel_networks import Family
from training.segmenter.networks.refusal import NetworkRefusedError

_VIT = ("embeddings.", "layers.", "layernorm.", "rope_embeddings.", "norm.")

MASK_FAMILIES = {
    "maskformer": Family(encoder=("model.pixel_level_module.encoder.",)),
    "mask2former": Family(encoder=("model.pixel_level_module.encoder.",)),
    "oneformer": Family(encoder=("model.pixel_level_module.encoder.",)),
    "eomt": Family(windows=True, encoder=_VIT),
    "eomt_dinov3": Family(windows=True, encoder=_VIT),
}
"""By `model_type`."""


class MaskSums(nn.Module):
    """(N, 3, h, w) float32 -> `mask_sums` (N, K + 1, h/4, w/4) float32, at the resolution of the masks.

    The reference up-samples the masks first, which takes Q times as much memory as one class (`dense`). An import
    records what that changes.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        found = self._found(pixels)
        return mask_sums(found.class_queries_logits, found.masks_queries_logits)

    def dense(self, pixels: Tensor) -> Tensor:
        """(N, 3, h, w) -> (N, K + 1, h, w), with the masks up-sampled first."""
        found = self._found(pixels)
        size = (int(pixels.shape[2]), int(pixels.shape[3]))
        masks = functional.interpolate(found.masks_queries_logits, size=size, mode="bilinear", align_corners=False)
        return mask_sums(found.class_queries_logits, masks)

    def _found(self, pixels: Tensor) -> Any:
        return self.model(pixel_values=pixels)


class TaskMaskSums(MaskSums):
    """`MaskSums` of OneFormer, which is told its task.

    Args:
        task: the tokens of "the task is semantic", (1, length) int64.
    """

    task: Tensor

    def __init__(self, model: Any, task: Tensor) -> None:
        super().__init__(model)
        self.register_buffer("task", task)

    def _found(self, pixels: Tensor) -> Any:
        return self.model(pixel_values=pixels, task_inputs=self.task.expand(pixels.shape[0], -1))


class WindowedMaskSums(nn.Module):
    """EoMT's semantic inference: square windows along the longer side, the mean where they overlap.

    (N, 3, h, w) float32, one side `side` -> `mask_sums` (N, K + 1, h, w) float32. In each window the masks are
    up-sampled to the window before the sums are taken, as in Kerssies et al. (arXiv 2503.19108).

    Args:
        side: of a window, pixels: the configuration's `image_size`.
    """

    def __init__(self, model: Any, side: int) -> None:
        super().__init__()
        self.model, self.side = model, side

    def forward(self, pixels: Tensor) -> Tensor:
        height, width = int(pixels.shape[2]), int(pixels.shape[3])
        axis, length = (3, width) if width >= height else (2, height)
        starts = window_starts(length, self.side)
        crops = [pixels.narrow(axis, start, self.side) for start in starts]
        found = self.model(pixel_values=torch.cat(crops))
        size = (self.side, self.side)
        masks = functional.interpolate(found.masks_queries_logits, size=size, mode="bilinear", align_corners=False)
        sums = mask_sums(found.class_queries_logits, masks)
        if len(starts) == 1:
            return sums
        windows = sums.view(len(starts), -1, int(sums.shape[1]), *size)
        together = [_padded(windows[index], start, length, axis) for index, start in enumerate(starts)]
        total = together[0]
        for part in together[1:]:
            total = total + part
        return total * _inverse_counts(starts, self.side, length, axis).to(total)


def _padded(window: Tensor, start: int, length: int, axis: int) -> Tensor:
    after = length - start - int(window.shape[axis])
    return functional.pad(window, (start, after) if axis == 3 else (0, 0, start, after))


def _inverse_counts(starts: list[int], side: int, length: int, axis: int) -> Tensor:
    """One over the number of windows that see each pixel along the axis."""
    # In NumPy: as operators of PyTorch, every window would be traced into the graph.
    counts = np.zeros(length, np.float32)
    for start in starts:
        counts[start : start + side] += 1
    shape = [1, 1, 1, 1]
    shape[axis] = length
    return torch.from_numpy((1 / counts).reshape(shape))


def window_starts(length: int, side: int) -> list[int]:
    """First pixels of the windows of `side` pixels along `length`, as the image processor of EoMT cuts them.

    >>> window_starts(2048, 1024), window_starts(100, 64), window_starts(64, 64)
    ([0, 1024], [0, 36], [0])
    """
    count = math.ceil(length / side)
    overlap = (count * side - length) / (count - 1) if count > 1 else 0
    return [int(index * (side - overlap)) for index in range(count)]


def windowed_size(wanted: tuple[int, int] | None, side: int) -> tuple[int, int]:
    """The input's size for EoMT: the shorter side is that of a window, the aspect is the wanted one, or 1:2.

    >>> windowed_size((720, 1280), 1024), windowed_size(None, 64)
    ((1024, 1820), (64, 128))
    """
    height, width = wanted or (1, 2)
    if height <= width:
        return side, round(width * side / height)
    return round(height * side / width), side


def task_tokens(source: str, length: int) -> Tensor:
    """The tokens of OneFormer's task for classes: (1, length) int64.

    Raises:
        NetworkRefusedError: the source has no tokenizer.
    """
    from transformers import CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(source)
        found = tokenizer(["the task is semantic"], padding="max_length", max_length=length, truncation=True)
    except (OSError, ValueError, TypeError) as error:
        raise NetworkRefusedError(
            f"{source} has no tokenizer, and a OneFormer is told its task in words; copy vocab.json, merges.txt and "
            "tokenizer_config.json of its hub page into the folder"
        ) from error
    return torch.tensor(found["input_ids"], dtype=torch.int64)


def make_masks_exportable(model: Any) -> None:
    """Change a network of masks in place so that it can be exported."""
    for module in model.modules():
        if type(module).__name__ == "OneFormerTransformerDecoderLayer":
            module.forward = _decoder_layer.__get__(module)


def _decoder_layer(
    layer: Any,
    index: int,
    output: Tensor,
    multi_stage_features: list[Tensor],
    multi_stage_positional_embeddings: list[Tensor],
    attention_mask: Tensor,
    query_embeddings: Tensor | None = None,
    output_attentions: bool = False,
) -> tuple[Tensor]:
    """`OneFormerTransformerDecoderLayer.forward`, where a product opens the masks that hide everything.

    It indexes with the places of such masks, which becomes NonZero and ScatterND.
    """
    level = index % layer.num_feature_levels
    hides_all = attention_mask.to(output.dtype).sum(-1, keepdim=True) == attention_mask.shape[-1]
    output, _ = layer.cross_attn(
        output,
        multi_stage_features[level],
        memory_mask=attention_mask & ~hides_all,
        memory_key_padding_mask=None,
        pos=multi_stage_positional_embeddings[level],
        query_pos=query_embeddings,
    )
    output, _ = layer.self_attn(output, output_mask=None, output_key_padding_mask=None, query_pos=query_embeddings)
    return (layer.ffn(output),)


def check_mask_attention(source: str, model: Any) -> None:
    """Refuse an EoMT that still needs the mask attention with which it was trained.

    Raises:
        NetworkRefusedError: it was not annealed away.
    """
    probabilities = getattr(model, "attn_mask_probs", None)
    if probabilities is not None and bool((probabilities > 0).any()):
        raise NetworkRefusedError(
            f"{source} has attn_mask_probs {probabilities.tolist()}: its mask attention is not annealed to 0, so it "
            "computes masks in its middle and cannot be exported; train it to the end, or convert it again with a "
            "version of transformers that keeps attn_mask_probs"
        )
