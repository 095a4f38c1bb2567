"""Calibration files in the form in which `cameracalibrator` writes them."""

from __future__ import annotations

from typing import Any

PERSPECTIVE = """image_width: 640
image_height: 480
camera_name: narrow_stereo
camera_matrix:
  rows: 3
  cols: 3
  data: [430.15433,   0.     , 311.71339,
           0.     , 430.6092 , 221.06824,
           0.     ,   0.     ,   1.     ]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [-0.337586, 0.111948, -0.000190, 1e-05, 0.000000]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1., 0., 0.,
         0., 1., 0.,
         0., 0., 1.]
projection_matrix:
  rows: 3
  cols: 4
  data: [348.46951,   0.     , 315.66354,   0.     ,
           0.     , 409.53354, 216.11041,   0.     ,
           0.     ,   0.     ,   1.     ,   0.     ]
"""

FISHEYE = """image_width: 848
image_height: 800
camera_name: fisheye
camera_matrix:
  rows: 3
  cols: 3
  data: [285.5, -1.25, 423.4, 0., 286.1, 399.2, 0., 0., 1.]
distortion_model: equidistant
distortion_coefficients:
  rows: 1
  cols: 4
  data: [-0.0076, 0.0434, -0.0407, 0.0074]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1., 0., 0., 0., 1., 0., 0., 0., 1.]
projection_matrix:
  rows: 3
  cols: 4
  data: [120.1, 0., 420.2, 0., 0., 121.5, 401.3, 0., 0., 0., 1., 0.]
"""


def calibration_text(info: Any) -> str:
    """A CameraInfo as such a file."""

    def matrix(values: Any, rows: int) -> str:
        return f"{{rows: {rows}, cols: {len(values) // rows}, data: {[float(value) for value in values]}}}"

    return (
        f"image_width: {info.width}\nimage_height: {info.height}\ncamera_matrix: {matrix(info.k, 3)}\n"
        f"distortion_model: {info.distortion_model}\ndistortion_coefficients: {matrix(info.d, 1)}\n"
        f"rectification_matrix: {matrix(info.r, 3)}\nprojection_matrix: {matrix(info.p, 3)}\n"
    )
