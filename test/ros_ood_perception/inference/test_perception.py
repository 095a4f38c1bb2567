from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ros_ood_perception.bundle.description import InputDescription
from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.inference.engine import EngineError, EngineOutput
from ros_ood_perception.inference.opening import open_engine
from ros_ood_perception.inference.perception import Perception


class FixedEngine:
    """Gives the same output whatever the image: what `Perception` does with it is then known."""

    name = "fixed"

    def __init__(self, semantic: NDArray[np.uint8], score: NDArray[np.float32]) -> None:
        self.output = EngineOutput(semantic[None], score[None])

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        return self.output

    def close(self) -> None:
        pass


def test_outputs_have_the_frames_size_and_ids_are_never_mixed() -> None:
    ids = np.array([[0, 10], [3, 7]], np.uint8)
    result = Perception(FixedEngine(ids, np.zeros((2, 2), np.float32)), 0.5, 11)(np.zeros((6, 10, 3), np.uint8))
    assert result.semantic.shape == result.anomaly_score.shape == result.anomaly_mask.shape == (6, 10)
    np.testing.assert_array_equal(result.semantic, np.kron(ids, np.ones((3, 5), np.uint8)))


def test_ids_are_not_shifted_when_the_size_changes() -> None:
    # 512 columns to 480: nearest by centres, not by left edges, which would shift thin poles by half a pixel.
    columns = np.tile((np.arange(512) // 2).astype(np.uint8), (384, 1))
    result = Perception(FixedEngine(columns, np.zeros((384, 512), np.float32)), 0.5, 256)(
        np.zeros((360, 480, 3), np.uint8)
    )
    centres = (np.arange(480) + 0.5) * 512 / 480 - 0.5
    assert abs(float((result.semantic[0] * 2.0 + 0.5 - centres).mean())) < 0.1


class Brightness(FixedEngine):
    """Score: the image's brightness. Class: 1 in the dark, 0 elsewhere. Keeps the last image."""

    def __init__(self) -> None:
        super().__init__(np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.float32))

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        self.image = images[0]
        score = images.max(axis=3).astype(np.float32) / 255
        return EngineOutput((score < 0.5).astype(np.uint8), score)


@pytest.mark.parametrize("size", [(720, 1280), (1080, 1920), (360, 480), (1280, 720), (500, 500), (97, 1531), (1, 9)])
def test_a_letterbox_shows_the_whole_frame_undistorted_and_its_results_lie_on_it(size: tuple[int, int]) -> None:
    height, width = size
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    # A quarter of the frame is bright: its edges tell where the results lie.
    frame = np.where((rows < height / 2) & (columns < width / 2), 255, 0).astype(np.uint8)[..., None].repeat(3, axis=2)
    engine = Brightness()
    letterboxed = InputDescription(96, 128, fit="letterbox")
    result = Perception(engine, 0.5, 2, letterboxed)(frame)
    assert engine.image.shape == (96, 128, 3)
    assert result.semantic.shape == result.anomaly_score.shape == size
    part = result.engine_semantic.shape
    assert part[0] == 96 or part[1] == 128
    # Undistorted to half of a multiple of 8 pixels, on sides of the input that do not end in one.
    if min(part) > 8:
        factors = part[0] / height, part[1] / width
        assert abs(factors[0] / factors[1] - 1) <= 4 / min(part)
    edge = max(height / part[0], width / part[1], 1.0)  # one pixel of the input
    wrong = (result.semantic == 1) != (frame[..., 0] == 0)
    far = (abs(rows - height / 2) > edge) & (abs(columns - width / 2) > edge)
    assert not (wrong & far).any()
    # Outside of the frame there is its mirror image: no value that the frame does not have, and no dark bar.
    assert (engine.image == 255).mean() > 0.15


def test_a_frame_of_the_inputs_aspect_fills_the_letterbox() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    engine = Brightness()
    Perception(engine, 0.5, 2, InputDescription(48, 64, fit="letterbox"))(frame)
    np.testing.assert_array_equal(engine.image, frame)


@pytest.mark.parametrize("size", [(36, 64), (720, 1280)])
def test_a_letterbox_scales_as_the_graphs_do(size: tuple[int, int]) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    engine = Brightness()
    Perception(engine, 0.5, 2, InputDescription(96, 128, fit="letterbox"))(frame)
    pixels = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
    wanted = torch.nn.functional.interpolate(pixels, (72, 128), mode="bilinear", align_corners=False)[0]
    assert np.abs(engine.image[12:84] - wanted.permute(1, 2, 0).numpy()).max() <= 1


def test_a_pixel_at_the_threshold_is_anomalous() -> None:
    score = np.array([[0.25, 0.5, 0.75]], np.float32)
    result = Perception(FixedEngine(np.zeros((1, 3), np.uint8), score), 0.5, 11)(np.zeros((1, 3, 3), np.uint8))
    assert result.anomaly_mask.tolist() == [[False, True, True]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1, 1.01])
def test_scores_outside_the_range_are_an_error_and_not_a_clean_mask(value: float) -> None:
    score = np.array([[0.0, value]], np.float32)
    perception = Perception(FixedEngine(np.zeros((1, 2), np.uint8), score), 0.5, 11)
    with pytest.raises(EngineError, match=r"not in \[0, 1\]"):
        perception(np.zeros((1, 2, 3), np.uint8))


@pytest.mark.parametrize(
    ("semantic", "score"),
    [
        (np.zeros((1, 2, 3), np.uint8), np.zeros((1, 2, 3), np.float32)),
        (np.zeros((1, 6, 4), np.uint8), np.zeros((1, 6, 4), np.float32)),
        (np.zeros((1, 1, 6), np.uint8), np.zeros((1, 4, 6), np.float32)),
        (np.zeros((1, 0, 6), np.uint8), np.zeros((1, 0, 6), np.float32)),
        (np.zeros((0, 4, 6), np.uint8), np.zeros((0, 4, 6), np.float32)),
        (np.zeros((1, 4, 6, 1), np.uint8), np.zeros((1, 4, 6, 1), np.float32)),
        (np.zeros((1, 4, 6), np.int64), np.zeros((1, 4, 6), np.float32)),
        (np.zeros((1, 4, 6), np.uint8), np.zeros((1, 4, 6), np.float64)),
    ],
)
def test_outputs_of_another_size_or_type_are_an_error_and_not_a_mask_that_was_stretched(
    semantic: NDArray[np.uint8], score: NDArray[np.float32]
) -> None:
    engine = FixedEngine(semantic[0] if len(semantic) else semantic, score[0] if len(score) else score)
    engine.output = EngineOutput(semantic, score)
    with pytest.raises(EngineError, match=r"gave semantic .* they must be"):
        Perception(engine, 0.5, 11, InputDescription(4, 6))(np.zeros((8, 12, 3), np.uint8))


def test_an_id_that_no_class_has_is_an_error() -> None:
    perception = Perception(FixedEngine(np.full((1, 1), 11, np.uint8), np.zeros((1, 1), np.float32)), 0.5, 11)
    with pytest.raises(EngineError, match="gave the id 11, which no class has"):
        perception(np.zeros((1, 1, 3), np.uint8))


def test_an_impossible_threshold_is_refused() -> None:
    with pytest.raises(ValueError, match=r"anomaly_threshold is 1\.5"):
        Perception(FixedEngine(np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.float32)), 1.5, 11)


@pytest.mark.parametrize("size", [(1, 1), (37, 53), (360, 480), (720, 1280), (1080, 1920)])
def test_the_shipped_engine_takes_any_frame_size_and_gives_the_bundles(
    shipped_bundle: Path, size: tuple[int, int]
) -> None:
    bundle = read_bundle(shipped_bundle)
    engine = open_engine(bundle, "auto")
    output = engine.run(np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8))
    expected = (2, *bundle.description.input.size_for(size))
    assert expected[1:] == {(720, 1280): (576, 1024), (1080, 1920): (768, 1344)}.get(size, (480, 640))
    assert output.semantic.shape == output.anomaly_score.shape == expected
    assert output.semantic.dtype == np.uint8
    assert int(output.semantic.max()) < len(bundle.description.classes)
    assert 0 <= float(output.anomaly_score.min()) <= float(output.anomaly_score.max()) <= 1


def test_the_engine_gives_the_same_bytes_for_the_same_frame(shipped_bundle: Path) -> None:
    bundle = read_bundle(shipped_bundle)
    image = np.random.default_rng(1).integers(0, 256, (1, 90, 120, 3), np.uint8)
    first, second = (open_engine(bundle, "onnxruntime").run(image) for _ in range(2))
    np.testing.assert_array_equal(first.semantic, second.semantic)
    np.testing.assert_array_equal(first.anomaly_score, second.anomaly_score)


def test_an_unknown_engine_is_refused_with_those_there_are(shipped_bundle: Path) -> None:
    with pytest.raises(
        EngineError, match="engine 'tensorflow' is unknown; there are auto, tensorrt, torch, onnxruntime"
    ):
        open_engine(read_bundle(shipped_bundle), "tensorflow")
