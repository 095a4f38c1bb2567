from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from ros_ood_perception.camera.plausibility import FROZEN_AFTER, FramePlausibility

MODEL = (360, 480)


def noise(seed: int, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    return np.random.default_rng(seed).integers(30, 220, (*size, 3), np.uint8)


def of_model(size: tuple[int, int] = MODEL, letterboxed: bool = False) -> FramePlausibility:
    return FramePlausibility(lambda _: size, letterboxed)


def kinds(image: np.ndarray) -> set[str]:
    return set(of_model().problems(image, 0.0))


def test_a_sharp_frame_of_the_models_aspect_is_plausible() -> None:
    assert kinds(noise(0)) == set()


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (np.zeros((120, 160, 3), np.uint8), "black"),
        (np.full((120, 160, 3), 255, np.uint8), "blown_out"),
        (np.full((120, 160, 3), 128, np.uint8), "blurred"),
        (cv2.GaussianBlur(noise(0), (0, 0), 8), "blurred"),
        (noise(0, (100, 200)), "wrong_size"),
        (noise(0, (1, 1)), "wrong_size"),
    ],
)
def test_what_no_working_camera_sees_is_named(image: np.ndarray, kind: str) -> None:
    if image.shape[0] == 1:
        assert of_model((360, 480)).problems(image, 0.0)
    else:
        assert kind in kinds(image)


def test_equal_frames_are_frozen_and_a_changed_pixel_thaws_them() -> None:
    plausibility = of_model()
    found = [set(plausibility.problems(noise(1), t)) for t in range(FROZEN_AFTER + 2)]
    assert found == [set()] * FROZEN_AFTER + [{"frozen"}] * 2
    assert plausibility.problems(noise(2), 99.0) == {}


def test_another_size_than_the_first_frames_is_named() -> None:
    plausibility = of_model()
    plausibility.problems(noise(0), 0.0)
    assert "the first frame had 160x120" in plausibility.problems(noise(1, (240, 320)), 1.0)["wrong_size"]


@pytest.mark.parametrize(
    ("size", "stretch", "crop", "export"),
    [
        ((1080, 1920), "25 % narrower", "1440x1080", "320x544"),
        ((2048, 2448), "10 % flatter", "2448x1836", "384x448"),
        ((1, 5000), "100 % narrower", "1x1", "32x29408"),
    ],
)
def test_a_frame_of_another_aspect_comes_with_both_remedies_and_their_sizes(
    size: tuple[int, int], stretch: str, crop: str, export: str
) -> None:
    said = of_model().problems(noise(0, size), 0.0)["wrong_size"]
    assert f"{size[1]}x{size[0]} is stretched to the model's 480x360: the model sees everything {stretch} than" in said
    assert f"crop to {crop} with its camera_info" in said
    assert f"--size {export})" in said


@pytest.mark.parametrize("size", [(1080, 1920), (2048, 2448), (360, 480), (800, 1880)])
def test_frames_of_cameras_fit_a_letterbox(size: tuple[int, int]) -> None:
    assert "wrong_size" not in of_model(letterboxed=True).problems(noise(0, size), 0.0)


@pytest.mark.parametrize(
    ("size", "share", "export"), [((1920, 1080), "42%", "544x320"), ((500, 5000), "13%", "128x1312")]
)
def test_a_frame_that_fills_little_of_a_letterbox_comes_with_the_remedy(
    size: tuple[int, int], share: str, export: str
) -> None:
    said = of_model(letterboxed=True).problems(noise(0, size), 0.0)["wrong_size"]
    assert f"{size[1]}x{size[0]} fills only {share} of the model's 480x360" in said
    assert f"--size {export})" in said


def test_sharpness_is_looked_at_again_after_a_while() -> None:
    plausibility = of_model()
    assert plausibility.problems(cv2.GaussianBlur(noise(0), (0, 0), 8), 0.0)
    assert "blurred" in plausibility.problems(noise(1), 0.1)
    assert plausibility.problems(noise(2), 0.6) == {}


@pytest.mark.parametrize("name", ["camvid/val/images", "smiyc_anomaly_val/images", "smiyc_obstacle_val/images"])
def test_real_road_frames_are_plausible_and_the_same_out_of_focus_are_not(
    name: str, real_frames: Callable[[str], Path]
) -> None:
    files = sorted(real_frames(name).iterdir())[::7]
    for file in files:
        image = cv2.imread(str(file))
        model = (image.shape[0], image.shape[1])
        assert of_model(model).problems(image, 0.0) == {}, file
        blurred = cv2.GaussianBlur(image, (0, 0), image.shape[1] / 320)
        assert "blurred" in of_model(model).problems(blurred, 0.0), file


def lossy(image: np.ndarray, lost_at: float, lost: float) -> np.ndarray:
    """Decoded after a share of its JPEG was lost on the way, from another share on."""
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    begin, end = int(lost_at * len(data)), int((lost_at + lost) * len(data))
    found = cv2.imdecode(np.frombuffer(data[:begin] + data[end:], np.uint8), cv2.IMREAD_COLOR)
    assert found is not None
    return found


@pytest.mark.parametrize(("lost_at", "lost"), [(0.2, 0.1), (0.5, 0.1), (0.4, 0.5)])
def test_a_frame_that_its_decoder_filled_up_is_named_each_time(lost_at: float, lost: float) -> None:
    plausibility = of_model((360, 480))
    for second in range(3):
        whole = cv2.GaussianBlur(noise(second, (360, 480)), (0, 0), 1)
        assert plausibility.problems(lossy(whole, 0.5, 0.0), 2.0 * second) == {}
        assert "filled_up" in plausibility.problems(lossy(whole, lost_at, lost), 2.0 * second + 1)


def test_frames_that_lose_data_one_after_the_other_are_all_named() -> None:
    plausibility = of_model((360, 480))
    plausibility.problems(noise(9, (360, 480)), 0.0)
    for second, lost_at in enumerate((0.2, 0.5, 0.3, 0.7)):
        whole = cv2.GaussianBlur(noise(second, (360, 480)), (0, 0), 1)
        assert "filled_up" in plausibility.problems(lossy(whole, lost_at, 0.1 + 0.06 * second), 1.0 + second)


def test_a_bar_that_every_frame_has_is_not_taken_for_a_fault() -> None:
    plausibility = of_model((360, 480))
    found = []
    for second in range(4):
        image = noise(second, (360, 480))
        image[-40:] = 128
        found.append("filled_up" in plausibility.problems(image, float(second)))
        resumed = of_model((360, 480))
        resumed.restore(json.loads(json.dumps(plausibility.state())))
        plausibility = resumed
    assert found == [False] * 4
    image[-50:] = 90
    assert "filled_up" not in plausibility.problems(image, 9.0)
