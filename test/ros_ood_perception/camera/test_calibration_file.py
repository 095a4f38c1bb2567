"""Calibrations from files, alone and by the node's parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calibration_files import FISHEYE, PERSPECTIVE

from ros_ood_perception.camera.calibration.calibration_file import read_calibration_file
from ros_ood_perception.camera.calibration.camera_info import CameraError
from ros_ood_perception.camera.camera_model import CameraModel
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.parameters.parameter_file import parameter_values
from ros_ood_perception.parameters.settings import FixedSettings, ParameterError, fixed_settings


def written(folder: Path, text: str) -> Path:
    path = folder / "front.yaml"
    path.write_text(text)
    return path


def settings(*changes: str) -> FixedSettings:
    return fixed_settings(parameter_values(None, ["bundle=b", *changes], "/perception_node"))


def test_a_file_of_cameracalibrator_is_the_camera_info_that_a_driver_publishes_from_it(tmp_path: Path) -> None:
    found = read_calibration_file(written(tmp_path, PERSPECTIVE))
    assert (found.height, found.width, found.distortion_model) == (480, 640, "plumb_bob")
    assert list(found.k) == [430.15433, 0, 311.71339, 0, 430.60920, 221.06824, 0, 0, 1]
    assert list(found.d) == [-0.337586, 0.111948, -0.000190, 1e-05, 0]
    assert list(found.r) == np.eye(3).ravel().tolist()
    assert list(found.p) == [348.46951, 0, 315.66354, 0, 0, 409.53354, 216.11041, 0, 0, 0, 1, 0]
    assert (found.binning_x, found.binning_y, found.roi.width, found.roi.do_rectify) == (0, 0, 0, False)
    camera = CameraModel.from_camera_info(found, (480, 640))
    assert camera.coefficients == (-0.337586, 0.111948, -0.000190, 1e-05)
    rectified = CameraModel.from_camera_info(found, (480, 640), rectified=True)
    assert rectified == CameraModel(480, 640, 348.46951, 409.53354, 315.66354, 216.11041)


def test_a_fisheye_file_has_its_skew(tmp_path: Path) -> None:
    camera = CameraModel.from_camera_info(read_calibration_file(written(tmp_path, FISHEYE)), (800, 848))
    assert (camera.distortion_model, camera.skew) == ("equidistant", -1.25)
    assert len(camera.coefficients) == 4


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "front.yaml: the file must be a mapping"),
        ("{", "front.yaml: not a readable YAML file"),
        ("[narrow_stereo]\n\nwidth\n640\n", "(?s)front.yaml: .*it must be a calibration as cameracalibrator writes it"),
        (PERSPECTIVE.replace("image_width: 640\n", ""), "the field 'image_width' is missing"),
        (PERSPECTIVE.replace("image_width: 640", "image_width: wide"), "the field 'image_width' is 'wide'"),
        (PERSPECTIVE.replace("cols: 5", "cols: 4"), "in 'distortion_coefficients': data has 5 numbers; .* 1 x 4"),
        (PERSPECTIVE.replace("430.15433", ".nan"), "is no finite number"),
        (PERSPECTIVE.replace("430.15433", "'.inf'"), "'camera_matrix.data.0.' is '.inf'; it must be .* finite"),
        (PERSPECTIVE + "binning_x: 2\n", "unknown key.s. binning_x"),
        (PERSPECTIVE + "a: &a [1]\nb: *a\n", "aliases"),
        (PERSPECTIVE + "#" * 70_000, "at most 65536 are read"),
    ],
)
def test_a_file_that_is_no_calibration_is_refused_with_its_name_and_field(
    text: str, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(CameraError, match=problem) as caught:
        read_calibration_file(written(tmp_path, text))
    assert str(tmp_path / "front.yaml") in str(caught.value)
    with pytest.raises(ParameterError, match=r"parameter 'calibration.file': .*front.yaml"):
        settings(f"calibration.file={tmp_path}/front.yaml")


@pytest.mark.parametrize(
    ("text", "changes", "problem"),
    [
        (PERSPECTIVE.replace("plumb_bob", "ucm"), (), "'ucm', and D is not zero"),
        (PERSPECTIVE.replace("430.15433", "0"), (), "the camera is not calibrated"),
        (PERSPECTIVE.replace("image_width: 640", "image_width: 0"), (), "must be positive"),
        (PERSPECTIVE.replace("image_width: 640", "image_width: -5"), (), "must be positive"),
        (PERSPECTIVE.replace("348.46951", "0"), ("ground.rectified_images=true",), "P of camera_info is"),
    ],
)
def test_numbers_that_are_no_cameras_fail_configure_with_the_file(
    text: str, changes: tuple[str, ...], problem: str, tmp_path: Path
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ParameterError, match=f"parameter 'calibration.file': {path}: .*{problem}"):
        settings(f"calibration.file={path}", *changes)


@pytest.mark.parametrize(
    ("name", "problem"),
    [("missing.yaml", "No such file"), (".", "is a folder"), ("~no-such-user/a", "'~no-such-user/a'")],
)
def test_a_path_without_a_file_is_named_with_its_parameter(
    name: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match=rf"parameter 'calibration.file'.*{problem}"):
        settings(f"calibration.file={name}")


def test_each_camera_has_its_own_topic_or_file(tmp_path: Path) -> None:
    path = written(tmp_path, PERSPECTIVE)
    found = settings(
        "cameras=[front, left, rear]",
        "calibration.camera_info_topic=[/lens/front, '', '']",
        f"calibration.file=['', {path}, '']",
    )
    assert found.camera_info_topics == ("/lens/front", None, "")
    assert [found.camera_setup(number).calibration for number in (0, 2)] == [None, None]
    assert found.camera_setup(1).calibration == read_calibration_file(path)
    assert settings().camera_info_topics == ("",)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (("calibration.camera_info_topic=camera_info",), "is 'camera_info'; it must be the full name of a topic"),
        (("calibration.camera_info_topic=~/camera_info",), "it must be the full name of a topic"),
        (("calibration.camera_info_topic=/a//b",), "it must be the full name of a topic"),
        (("calibration.camera_info_topic=/a/",), "it must be the full name of a topic"),
        (("calibration.camera_info_topic='/a b'",), "it must be the full name of a topic"),
        ((f"calibration.camera_info_topic=/{'a' * 999}",), "it must be the full name of a topic"),
        (("calibration.camera_info_topic=/a", "cameras=[front, rear]"), "gives '/a' to several cameras"),
        (("calibration.camera_info_topic=[/a, /b]",), "has 2 values; it must have one for each of the 1 cameras"),
    ],
)
def test_a_topic_that_cannot_be_one_cameras_is_refused(changes: tuple[str, ...], problem: str) -> None:
    with pytest.raises(ParameterError, match=f"parameter 'calibration.camera_info_topic' .*{problem}"):
        settings(*changes)


def test_a_topic_and_a_file_for_one_camera_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, PERSPECTIVE)
    with pytest.raises(ParameterError, match=r"'calibration.file' gives that camera a calibration as well; clear one"):
        settings("calibration.camera_info_topic=/a", f"calibration.file={path}")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("3", "must be a list of strings"),
        ("[1]", "must be a list of strings"),
        ("null", "the text of a null, which ROS 2 does not have; it must be a list of strings"),
        ("{a: 1}", "the value is a mapping"),
    ],
)
def test_values_of_another_type_are_refused(value: str, problem: str) -> None:
    changes: Any = ["bundle=b", f"calibration.file={value}"]
    with pytest.raises(PerceptionError, match=rf"calibration.file.*{problem}"):
        parameter_values(None, changes, "/perception_node")
