from __future__ import annotations

import hashlib

import numpy as np
import pytest

from ros_ood_perception.inference.engine import EngineError, EngineOutput
from ros_ood_perception.inference.parity import LIMITS, Parity, ParityMeter, fixed_frames, require_parity


def output(labels: list[int], scores: list[float]) -> EngineOutput:
    return EngineOutput(np.array([[labels]], np.uint8), np.array([[scores]], np.float32))


def test_agreement_and_differences_are_over_all_frames() -> None:
    meter = ParityMeter()
    meter.add(output([1, 2, 3, 4], [0.0, 0.5, 1.0, 0.25]), output([1, 2, 3, 4], [0.0, 0.5, 1.0, 0.25]))
    meter.add(output([1, 2, 3, 4], [0.0, 0.5, 1.0, 0.25]), output([1, 2, 0, 4], [0.0, 0.5, 0.75, 0.25]))
    assert meter.parity() == Parity(2, 7 / 8, 0.25, 0.25 / 8)


def test_outputs_of_another_size_are_an_error() -> None:
    with pytest.raises(EngineError, match=r"one engine gives outputs \(1, 1, 2\)"):
        ParityMeter().add(output([1], [0.0]), output([1, 2], [0.0, 0.0]))


@pytest.mark.parametrize("precision", LIMITS)
def test_each_limit_holds_by_itself(precision: str) -> None:
    limits = LIMITS[precision]
    good = Parity(2, limits.label_agreement + 1e-6, limits.score_difference, limits.mean_score_difference)
    require_parity(good, precision, "the engine")
    nan = float("nan")
    for bad in (
        Parity(0, 1.0, 0.0, 0.0),
        Parity(2, limits.label_agreement, 0.0, 0.0),
        Parity(2, 1.0, limits.score_difference + 1e-6, 0.0),
        Parity(2, 1.0, 0.0, limits.mean_score_difference + 1e-6),
        Parity(2, 1.0, nan, 0.0),
        Parity(2, 1.0, 0.0, nan),
        Parity(2, nan, 0.0, 0.0),
    ):
        with pytest.raises(EngineError, match="the engine is not used"):
            require_parity(bad, precision, "the engine")


def test_a_score_that_is_no_number_is_seen_whatever_comes_after_it() -> None:
    meter = ParityMeter()
    meter.add(output([1], [0.5]), output([1], [float("nan")]))
    meter.add(output([1], [0.5]), output([1], [0.5]))
    with pytest.raises(EngineError, match="is not used"):
        require_parity(meter.parity(), "int8", "the engine")


def test_half_precision_is_stricter_than_8_bits_and_laxer_than_float32() -> None:
    labels = [LIMITS[precision].label_agreement for precision in ("int8", "fp16", "fp32")]
    means = [LIMITS[precision].mean_score_difference for precision in ("fp32", "fp16", "int8")]
    assert labels == sorted(labels) == [0.95, 0.995, 0.999]
    assert means == sorted(means)


def test_the_fixed_frames_are_fixed_and_differ_from_each_other() -> None:
    first, second = fixed_frames(120, 160)
    again = fixed_frames(120, 160)
    assert hashlib.sha256(first.tobytes()).digest() == hashlib.sha256(again[0].tobytes()).digest()
    assert (first.shape, first.dtype) == ((120, 160, 3), np.uint8)
    assert np.abs(first.astype(int) - second).mean() > 10
    assert fixed_frames(33, 50, 1)[0].shape == (33, 50, 3)
