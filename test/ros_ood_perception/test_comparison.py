"""Comparisons of bags with results, frame by frame: nothing that both have is left out, whatever one of them lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded_drive import IMAGE, header, image, write_bag

from ros_ood_perception.bundle import BundleDescription, read_bundle
from ros_ood_perception.recordings.message_types import message_types
from ros_ood_perception.replay.comparison import Limits, compare
from ros_ood_perception.replay.inputs import Input, open_input

MASK = "/perception_node/output/semantic/mask"
ANOMALY_MASK = "/perception_node/output/anomaly/mask"


@pytest.fixture(scope="module")
def description(shipped_bundle: Path) -> BundleDescription:
    return read_bundle(shipped_bundle).description


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Input:
    return open_input(write_bag(tmp_path_factory.mktemp("drive") / "drive", {"/front/image_raw": [image(0)]}), (), 10.0)


def masks(numbers: Sequence[int]) -> list[Any]:
    """Small masks with the stamps of these frames."""
    return [
        message_types()(
            IMAGE, header=header(number), height=2, width=2, encoding="mono8", step=2, data=np.zeros(4, np.uint8)
        )
        for number in numbers
    ]


def compared(
    ours: Mapping[str, Sequence[Any]],
    theirs: Mapping[str, Sequence[Any]],
    folder: Path,
    source: Input,
    description: BundleDescription,
) -> tuple[int, int, int]:
    """How many frames were compared, are only here, and only there."""
    write_bag(folder / "out" / "bag", ours)
    other = write_bag(folder / "other", theirs)
    found = compare(folder / "out", other, source, "/perception_node", description, Limits())
    return found["frames"], found["only_here"], found["only_there"]


def test_a_frame_without_its_semantic_mask_counts_as_missing_where_it_lacks_it(
    tmp_path: Path, source: Input, description: BundleDescription
) -> None:
    anomaly = masks(range(8))
    ours = {MASK: masks([0, 1, 2, 3, 4, 5]), ANOMALY_MASK: anomaly}
    theirs = {MASK: masks([0, 1, 2, 4, 6]), ANOMALY_MASK: anomaly}
    # 3 and 5 have their mask only here, 6 only there, 7 nowhere.
    assert compared(ours, theirs, tmp_path, source, description) == (4, 2, 1)
