"""Raw images against `cv_bridge`, where that is installed. The package of PyPI reads these encodings alone."""

from __future__ import annotations

import array

import numpy as np
import pytest
from raw_scenes import message
from sensor_msgs.msg import Image

from ros_ood_perception.camera.raw_image import to_colour

cv_bridge = pytest.importorskip("cv_bridge", reason="cv_bridge is not installed")

ENCODINGS = ("mono8", "bgr8", "rgb8", "bgra8", "rgba8", "bayer_rggb8", "bayer_bggr8", "bayer_gbrg8")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_same_pixels_as_cv_bridge(encoding: str) -> None:
    plain = message(encoding)
    full = Image(
        height=plain.height,
        width=plain.width,
        step=plain.step,
        encoding=encoding,
        data=array.array("B", bytes(plain.data)),
    )
    expected = cv_bridge.CvBridge().imgmsg_to_cv2(full, "bgr8")
    np.testing.assert_array_equal(to_colour(full, "bgr"), expected)
