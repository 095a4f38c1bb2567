"""Tells near copies of a scene, so that a list of frames shows each scene once."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SECONDS_APART = 2.0
"""Frames of one camera that are nearer in time show one scene, unless they are images of a folder."""
ALIKE_CORRELATION = 0.95
"""Two frames of a camera also show one scene if the grey values of their thumbnails correlate by more. In a CamVid
sequence at 1 Hz neighbouring frames have 0.98, frames 10 s apart 0.9, other streets less than 0.85."""
ALIKE_DIFFERENCE = 5.0
"""The same for thumbnails with a smaller mean difference of grey values: even ones have no correlation."""
_THUMBNAIL = (16, 9)


def thumbnail(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A picture (H, W, 3) uint8 as 16x9 grey values."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    small: NDArray[np.float32] = cv2.resize(grey, _THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
    return small


class Scenes:
    """The scenes seen so far.

    Args:
        by_time: frames that are near in time show one scene. False for a folder of images, whose times are made up.
    """

    def __init__(self, by_time: bool = True) -> None:
        self._by_time = by_time
        self._seen: list[tuple[str, int, NDArray[np.float32] | None]] = []

    def add(self, camera: str, time_ns: int, picture: NDArray[np.uint8] | None = None) -> bool:
        """Add a frame, unless its scene is there already; returns whether it was added.

        Args:
            time_ns: in the recording, nanoseconds.
            picture: (H, W, 3) uint8; None: only the time tells scenes apart.
        """
        small = None if picture is None else thumbnail(picture)
        for other_camera, other_ns, other in self._seen:
            if other_camera != camera:
                continue
            if self._by_time and abs(other_ns - time_ns) < SECONDS_APART * 1e9:
                return False
            if small is not None and other is not None and _are_alike(small, other):
                return False
        self._seen.append((camera, time_ns, small))
        return True


def _are_alike(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    if float(np.abs(a - b).mean()) < ALIKE_DIFFERENCE:
        return True
    x, y = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return norm > 0 and float((x * y).sum()) / norm > ALIKE_CORRELATION
