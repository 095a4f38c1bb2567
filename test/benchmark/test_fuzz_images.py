"""The fuzzer of image bytes: a short run of it, and that it tells what it is there to find."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from benchmark.fuzzing.image_corpus import ImageMutator
from benchmark.fuzzing.images import MEMORY_BYTES, run
from ros_ood_perception.camera.image_bytes import FILE_KINDS


def test_thousands_of_mutated_images_are_images_or_refused_and_end_no_process(tmp_path: Path) -> None:
    campaign = run(6000, 7, tmp_path)
    assert campaign.found == []
    assert campaign.problems() == 0, campaign.counts
    assert campaign.executions == 6000
    assert campaign.peak_bytes < MEMORY_BYTES
    # A fuzzer whose images are all refused, or all read, would find nothing.
    assert all(campaign.counts[f"image: {kind}"] > 50 for kind in FILE_KINDS), campaign.counts
    assert campaign.counts["refused: corrupt data"] > 1000


@pytest.mark.skipif(cv2.__version__ != "4.11.0", reason="the version whose decoder is known to crash")
def test_the_fuzzer_finds_the_crash_of_a_decoder_that_gets_the_bytes_as_they_are(tmp_path: Path) -> None:
    campaign = run(200_000, 1, tmp_path, ("PNG",), raw=True)
    (found,) = campaign.found
    assert found["kind"].startswith("killed by SIG")
    # What is saved is what it crashed of.
    assert Path(found["file"]).read_bytes() == ImageMutator(1, ("PNG",))(found["execution"])


def test_the_same_seed_gives_the_same_bytes() -> None:
    first, second, other = ImageMutator(1, FILE_KINDS), ImageMutator(1, FILE_KINDS), ImageMutator(2, FILE_KINDS)
    assert [first(number) for number in range(50)] == [second(number) for number in range(50)]
    assert [first(number) for number in range(50)] != [other(number) for number in range(50)]
