"""A frame of any aspect in a network's input: scaled without distortion, the rest filled with its mirror image.

What it gains and costs is measured in docs/operations.md. Grey bars would be an object that the network does not know;
a mirrored frame has no edge there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)

MULTIPLE = 8
"""Sides of the part that shows the frame are multiples of this, in pixels of the input. So maps of logits at a quarter
of its resolution are cut between pixels. The frame is stretched by at most half of that."""


@dataclass(frozen=True)
class Letterbox:
    """Where a frame lies in the input.

    >>> box = Letterbox((720, 1280), (480, 640))
    >>> box.size, box.corner, box.share
    ((360, 640), (60, 0), 0.75)

    Attributes:
        frame_size: height and width of the frame, pixels, at least 1.
        input_size: height and width of the network's input, pixels.
    """

    frame_size: tuple[int, int]
    input_size: tuple[int, int]

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width of the part that shows the frame, pixels of the input. One of them is the input's."""
        factor = min(whole / side for whole, side in zip(self.input_size, self.frame_size, strict=True))
        height, width = (
            min(whole, max(MULTIPLE, round(side * factor / MULTIPLE) * MULTIPLE))
            for whole, side in zip(self.input_size, self.frame_size, strict=True)
        )
        return height, width

    @cached_property
    def corner(self) -> tuple[int, int]:
        """Row and column of its first pixel: in the middle, at a multiple of half of `MULTIPLE`."""
        step = MULTIPLE // 2
        top, left = ((whole - part) // 2 // step * step for whole, part in zip(self.input_size, self.size, strict=True))
        return top, left

    @property
    def share(self) -> float:
        """Share of the input that shows the frame, in (0, 1]."""
        return self.size[0] * self.size[1] / (self.input_size[0] * self.input_size[1])

    def fill(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8, the frame -> (h, w, 3) uint8, the input.

        Scaled bilinearly without smoothing, as the graphs of bundles scale.
        """
        (height, width), (top, left) = self.size, self.corner
        scaled = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        bottom, right = self.input_size[0] - top - height, self.input_size[1] - left - width
        filled = cv2.copyMakeBorder(scaled, top, bottom, left, right, cv2.BORDER_REFLECT_101)
        return np.asarray(filled, np.uint8)

    def cut(self, plane: NDArray[Scalar]) -> NDArray[Scalar]:
        """The part of a plane (..., h / k, w / k) that shows the frame, contiguous; k is 1, 2 or 4.

        >>> Letterbox((720, 1280), (480, 640)).cut(np.zeros((11, 120, 160), np.float32)).shape
        (11, 90, 160)
        """
        rows, columns = plane.shape[-2:]
        (height, width), (top, left), (all_rows, all_columns) = self.size, self.corner, self.input_size
        first_row, first_column = top * rows // all_rows, left * columns // all_columns
        last_row, last_column = -(-(top + height) * rows // all_rows), -(-(left + width) * columns // all_columns)
        return np.ascontiguousarray(plane[..., first_row:last_row, first_column:last_column])
