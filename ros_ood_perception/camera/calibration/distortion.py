"""Distortions by the names and coefficients that drivers and calibration tools write, as the formulas that are known.

`plumb_bob`, `rational_polynomial` and OpenCV's models of 12 and 14 coefficients are one formula: the shorter ones are
the longer ones with zeros at the end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ros_ood_perception.camera.calibration.camera_info import CameraError

PERSPECTIVE_COEFFICIENTS = (4, 5, 8, 12, 14)
"""Numbers of coefficients in OpenCV's order k1, k2, p1, p2, k3, k4, k5, k6, s1 to s4, tx, ty."""
EQUIDISTANT_COEFFICIENTS = 4
"""k1 to k4 of Kannala and Brandt, as in OpenCV's fisheye model."""
DISTORTION_COEFFICIENTS = {
    "plumb_bob": PERSPECTIVE_COEFFICIENTS[:2],
    "rational_polynomial": PERSPECTIVE_COEFFICIENTS[2:],
    "equidistant": (EQUIDISTANT_COEFFICIENTS,),
}
"""The formulas, and their numbers of coefficients."""

_PERSPECTIVE_NAMES = frozenset({"", "plumb_bob", "radtan", "rational_polynomial"})
_FISHEYE_NAMES = frozenset({"equidistant", "fisheye"})
_EQUIDISTANT_NAMES = frozenset({*_FISHEYE_NAMES, "kannala_brandt", "kannala_brandt4"})
"""Beside ROS's name: OpenCV's, and those of tools with the same four coefficients."""


def read_distortion(name: str, d: Sequence[float]) -> tuple[str, tuple[float, ...]]:
    """The formula and its coefficients.

    Args:
        name: `distortion_model`; upper case, spaces and hyphens do not matter.
        d: the coefficients, with any number of zeros at the end.

    Returns:
        A key of `DISTORTION_COEFFICIENTS`, and as many coefficients as it has, or none for no distortion.

    Raises:
        CameraError: the name is unknown, or has no such number of coefficients.

    >>> read_distortion("Plumb Bob", [-0.2, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    ('plumb_bob', (-0.2, 0.1, 0.0, 0.0))
    """
    values = tuple(float(value) for value in d)
    plain = re.sub(r"[\s-]+", "_", name.strip().lower())
    used = max((index + 1 for index, value in enumerate(values) if value != 0), default=0)
    if not used:
        # Without distortion a perspective camera is the same under every name. A fisheye is not perspective.
        return ("equidistant" if plain in _FISHEYE_NAMES else "plumb_bob"), ()
    if plain in _EQUIDISTANT_NAMES:
        lengths: tuple[int, ...] = (EQUIDISTANT_COEFFICIENTS,)
    elif plain in _PERSPECTIVE_NAMES:
        lengths = PERSPECTIVE_COEFFICIENTS
    else:
        raise CameraError(
            f"distortion_model of camera_info is {name[:40]!r}, and D is not zero; read are "
            f"{', '.join(DISTORTION_COEFFICIENTS)}, radtan, fisheye and kannala_brandt. Calibrate the camera with one "
            "of these and give the file (parameter calibration.file), or rectify the images and set "
            "ground.rectified_images"
        )
    length = next((length for length in lengths if used <= length <= len(values)), None)
    if length is None:
        raise CameraError(
            f"D of camera_info has {len(values)} coefficients, the last of them that is not zero is number {used}; "
            f"{name[:40] or 'plumb_bob'} has {' or '.join(map(str, lengths))} in OpenCV's order, and zeros may follow; "
            "correct the calibration in the driver, or give its file (parameter calibration.file)"
        )
    formula = "equidistant" if plain in _EQUIDISTANT_NAMES else "plumb_bob" if length <= 5 else "rational_polynomial"
    return formula, values[:length]
