"""Pyramid pooling: context of the whole frame for the coarsest map (Zhao et al., arXiv 1612.01105).

Where the map's sides are multiples of a grid, its cells are means of equal rectangles. Elsewhere they are those of
adaptive average pooling. Such a mean over rows and columns is a product with two fixed matrices, and so is bilinear
up-sampling. Products export without Shape nodes for every size.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional


def divides(bins: int, size: tuple[int, int]) -> bool:
    """Whether a map of this height and width has a grid of equal cells, of whole pixels."""
    return size[0] % bins == 0 and size[1] % bins == 0


@lru_cache(maxsize=256)
def pooling_matrix(bins: int, side: int) -> NDArray[np.float32]:
    """(bins, side) float32, not to be written to: cell i is the mean of floor(i s / b) to ceil((i + 1) s / b) - 1.

    As `adaptive_avg_pool1d` has it. Cells overlap by a pixel, where the side is not a multiple.

    >>> pooling_matrix(2, 3)
    array([[0.5, 0.5, 0. ],
           [0. , 0.5, 0.5]], dtype=float32)
    """
    matrix = np.zeros((bins, side), np.float32)
    for cell in range(bins):
        first, end = cell * side // bins, -(-(cell + 1) * side // bins)
        matrix[cell, first:end] = 1 / (end - first)
    return matrix


@lru_cache(maxsize=256)
def spreading_matrix(bins: int, side: int) -> NDArray[np.float32]:
    """(side, bins) float32, not to be written to: linear up-sampling with half-pixel centres, without its transpose.

    As `interpolate(mode="linear", align_corners=False)` has it.

    >>> spreading_matrix(2, 4)
    array([[1.  , 0.  ],
           [0.75, 0.25],
           [0.25, 0.75],
           [0.  , 1.  ]], dtype=float32)
    """
    matrix = np.zeros((side, bins), np.float32)
    for place in range(side):
        source = min(max((place + 0.5) * bins / side - 0.5, 0.0), bins - 1.0)
        lower = int(source)
        matrix[place, lower] += 1 - (source - lower)
        matrix[place, min(lower + 1, bins - 1)] += source - lower
    return matrix


def _product(rows: NDArray[np.float32], features: Tensor, columns: NDArray[np.float32]) -> Tensor:
    """rows (p, h), features (N, C, h, w), columns (q, w) -> (N, C, p, q)."""
    left, right = (torch.tensor(matrix, dtype=features.dtype, device=features.device) for matrix in (rows, columns))
    return torch.matmul(torch.matmul(left, features), right.T)


def convolution(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Convolution, batch normalisation and ReLU, at the same resolution."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class PyramidPooling(nn.Module):
    """Adds context of the whole frame to the coarsest map.

    (N, C, h, w) float -> (N, D, h, w) float.
    """

    def __init__(self, inputs: int, outputs: int, bins: tuple[int, ...]) -> None:
        super().__init__()
        self.bins = bins
        self.reduce = convolution(inputs, outputs, 1)
        branch = max(outputs // len(bins), 1)
        self.branches = nn.ModuleList(convolution(outputs, branch, 1) for _ in bins)
        self.fuse = convolution(outputs + branch * len(bins), outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        reduced = self.reduce(features)
        height, width = int(reduced.shape[2]), int(reduced.shape[3])
        maps = [reduced]
        for bins, branch in zip(self.bins, self.branches, strict=True):
            if divides(bins, (height, width)):
                # A fixed kernel and a fixed factor export without Shape nodes and without opset-18 reductions.
                pooled = branch(functional.avg_pool2d(reduced, (height // bins, width // bins)))
                factors = (float(height // bins), float(width // bins))
                maps.append(functional.interpolate(pooled, scale_factor=factors, mode="bilinear"))
            else:
                pooled = branch(_product(pooling_matrix(bins, height), reduced, pooling_matrix(bins, width)))
                maps.append(_product(spreading_matrix(bins, height), pooled, spreading_matrix(bins, width)))
        return self.fuse(torch.cat(maps, dim=1))
