"""Pictures to look at: class colours, anomaly heat map, and the frame with both."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
ANOMALY_COLOUR = (255, 140, 0)
"""RGB: orange."""


def semantic_picture(ids: NDArray[np.uint8], colours: Sequence[tuple[int, int, int]]) -> Picture:
    """Class ids (H, W) uint8 in their colours: (H, W, 3) uint8 RGB; ids without a colour are black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(colours)] = colours
    return table[ids]


def score_picture(score: NDArray[np.float32]) -> Picture:
    """Anomaly score (H, W) in [0, 1] as a heat map (H, W, 3) uint8 RGB: dark is known, bright is unknown."""
    grey = np.clip(score * 255, 0, 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def overlay_picture(
    image: Picture,
    ids: NDArray[np.uint8],
    anomaly_mask: NDArray[np.bool_],
    colours: Sequence[tuple[int, int, int]],
) -> Picture:
    """The frame tinted with the colours of its classes. Anomalous pixels are tinted and outlined in orange.

    Args:
        image: (H, W, 3) uint8 RGB.
        ids: (H, W) uint8.
        anomaly_mask: (H, W) bool.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    tint = semantic_picture(ids, colours)
    tint[anomaly_mask] = ANOMALY_COLOUR
    blended = cv2.addWeighted(image, 0.6, tint, 0.4, 0)
    outlines, _ = cv2.findContours(anomaly_mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(blended, outlines, -1, ANOMALY_COLOUR, 2)
    return blended
