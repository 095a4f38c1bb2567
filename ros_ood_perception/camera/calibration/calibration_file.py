"""A calibration from a file, as `cameracalibrator` and `camera_info_manager` write it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ros_ood_perception.camera.calibration.camera_info import CameraError, PlainCameraInfo
from ros_ood_perception.files.strict_yaml import SchemaError, read_yaml


@dataclass(frozen=True)
class _Matrix:
    rows: int
    cols: int
    data: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.data) != self.rows * self.cols:
            raise ValueError(f"data has {len(self.data)} numbers; rows and cols say {self.rows} x {self.cols}")


_NOT_THERE = _Matrix(0, 0, ())


@dataclass(frozen=True)
class _File:
    image_width: int
    image_height: int
    camera_matrix: _Matrix
    distortion_model: str
    distortion_coefficients: _Matrix
    rectification_matrix: _Matrix = _NOT_THERE
    projection_matrix: _Matrix = _NOT_THERE
    camera_name: str = field(default="", repr=False)


def read_calibration_file(path: Path) -> PlainCameraInfo:
    """The calibration in a file. Its numbers are finite; whether they are a camera's is not checked.

    Raises:
        CameraError: not a readable file of this kind. The message names the file and the field.
        OSError: it cannot be read.
    """
    try:
        found = read_yaml(path, _File)
    except SchemaError as error:
        raise CameraError(f"{error}; it must be a calibration as cameracalibrator writes it (ost.yaml)") from error
    return PlainCameraInfo(
        height=found.image_height,
        width=found.image_width,
        distortion_model=found.distortion_model,
        d=found.distortion_coefficients.data,
        k=found.camera_matrix.data,
        r=found.rectification_matrix.data,
        p=found.projection_matrix.data,
    )
