"""Tells near copies of a scene, so that a list of frames shows each scene once."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SECONDS_APART = 2.0
"""Frames of one camera that are nearer in time show one scene."""
LEAST_DIFFERENCE = 12.0
"""Two frames of a camera also show one scene if their thumbnails differ by less: mean of absolute grey values."""
_THUMBNAIL = (16, 9)


def thumbnail(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A picture (H, W, 3) uint8 as 16x9 grey values."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    small: NDArray[np.float32] = cv2.resize(grey, _THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
    return small


class Scenes:
    """The scenes seen so far."""

    def __init__(self) -> None:
        self._seen: list[tuple[str, int, NDArray[np.float32] | None]] = []

    def is_near(self, camera: str, time_ns: int) -> bool:
        """Whether a frame of the camera has been added that is less than `SECONDS_APART` away."""
        return any(c == camera and abs(t - time_ns) < SECONDS_APART * 1e9 for c, t, _ in self._seen)

    def add(self, camera: str, time_ns: int, picture: NDArray[np.uint8] | None = None) -> bool:
        """Add a frame, unless its scene is there already; returns whether it was added.

        Args:
            time_ns: in the recording, nanoseconds.
            picture: (H, W, 3) uint8; None: only the time tells scenes apart.
        """
        if self.is_near(camera, time_ns):
            return False
        small = None if picture is None else thumbnail(picture)
        for other_camera, _, other in self._seen:
            if other_camera != camera or small is None or other is None:
                continue
            if float(np.abs(small - other).mean()) < LEAST_DIFFERENCE:
                return False
        self._seen.append((camera, time_ns, small))
        return True
