from __future__ import annotations

import pickle

import numpy as np
import pytest

from ros_ood_perception.camera.raw_image import CHANNELS, MalformedImageError, PlainImage, to_colour


@pytest.mark.parametrize("encoding", sorted(CHANNELS))
def test_every_encoding_is_converted_to_both_colour_orders(encoding: str) -> None:
    """A forgotten conversion would return the message's own array, the same for both orders."""
    height, width, channels = 5, 7, CHANNELS[encoding]
    data = np.random.default_rng(0).integers(0, 256, height * width * channels, np.uint8)
    message = PlainImage(None, height, width, encoding, width * channels, data)
    rgb, bgr = to_colour(message, "rgb"), to_colour(message, "bgr")
    assert rgb.shape == bgr.shape == (height, width, 3)
    np.testing.assert_array_equal(rgb, bgr[..., ::-1])


def test_the_error_passes_through_pickle() -> None:
    again = pickle.loads(pickle.dumps(MalformedImageError("size", "height is 0")))
    assert (type(again), again.kind, str(again)) == (MalformedImageError, "size", "height is 0")
