"""Comparisons of bags with results, frame by frame: nothing that both have is left out, whatever one of them lacks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded_drive import IMAGE, header, image, write_bag

from ros_ood_perception.bundle import BundleDescription, read_bundle
from ros_ood_perception.output_folder import OutputFolder
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


def masks(numbers: Sequence[int], lost: Collection[int] = ()) -> list[Any]:
    """Small masks with the stamps of these frames, None in place of those that were lost."""
    pixels = np.zeros(4, np.uint8)
    return [
        None
        if number in lost
        else message_types()(IMAGE, header=header(number), height=2, width=2, encoding="mono8", step=2, data=pixels)
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
    found = compare(OutputFolder(folder / "out", "replay"), other, source, "/perception_node", description, Limits())
    return found["frames"], found["only_here"], found["only_there"]


def test_a_frame_without_its_semantic_mask_counts_as_missing_where_it_lacks_it(
    tmp_path: Path, source: Input, description: BundleDescription
) -> None:
    anomaly = masks(range(8))
    ours = {MASK: masks(range(8), lost=[6, 7]), ANOMALY_MASK: anomaly}
    theirs = {MASK: masks(range(8), lost=[3, 5, 7]), ANOMALY_MASK: anomaly}
    assert compared(ours, theirs, tmp_path, source, description) == (4, 2, 1)


@pytest.mark.parametrize(
    ("ours", "theirs", "pairs"),
    [
        pytest.param(range(1000), range(0, 1000, 2), 500, id="a live node that replaced frames unread"),
        pytest.param(range(1000), range(100, 1000), 900, id="a recorder that was started late"),
        pytest.param(range(70, 170), range(1000), 100, id="a replay of a part"),
        pytest.param([0, *range(100, 400)], [*range(1, 400)], 300, id="a gap after a frame that only one has"),
        pytest.param([*range(300), 9999, *range(300, 600)], range(600), 600, id="a stamp far in the future in one"),
        pytest.param([*range(400, 700), *range(300)], [*range(400, 700, 2), *range(300)], 450, id="a clock set back"),
    ],
)
def test_every_frame_that_both_have_is_compared_whatever_either_lacks(
    ours: Sequence[int],
    theirs: Sequence[int],
    pairs: int,
    tmp_path: Path,
    source: Input,
    description: BundleDescription,
) -> None:
    found = compared({MASK: masks(ours)}, {MASK: masks(theirs)}, tmp_path, source, description)
    assert found == (pairs, len(ours) - pairs, len(theirs) - pairs)


def test_several_cameras_with_equal_and_late_stamps_are_compared_frame_by_frame(
    tmp_path: Path, source: Input, description: BundleDescription
) -> None:
    front, rear, late = (f"/perception_node/{name}/output/semantic/mask" for name in ("front", "rear", "late"))
    ours = {front: masks(range(20, 320)), rear: masks(range(20, 320)), late: masks(range(300))}
    theirs = {
        late: masks(range(300), lost=range(0, 300, 2)),
        front: masks(range(20, 320), lost=range(20, 220)),
        rear: masks(range(20, 320)),
    }
    assert compared(ours, theirs, tmp_path, source, description) == (150 + 100 + 300, 150 + 200, 0)


def test_frames_of_which_a_recorder_lost_another_output_are_compared(
    tmp_path: Path, source: Input, description: BundleDescription
) -> None:
    # They are given out late, when it is clear that the output does not come.
    ours = {MASK: masks(range(900)), ANOMALY_MASK: masks(range(900))}
    theirs = {MASK: masks(range(900)), ANOMALY_MASK: masks(range(900), lost=range(0, 900, 3))}
    assert compared(ours, theirs, tmp_path, source, description) == (900, 0, 0)


def test_frames_that_come_in_another_order_are_given_up_and_the_others_are_compared(
    tmp_path: Path, source: Input, description: BundleDescription
) -> None:
    # Played twice: what was dropped in the first round has its first occurrence in the second.
    ours = {MASK: masks([*range(300), *range(300)])}
    theirs = {MASK: masks([*range(0, 300, 2), *range(300)])}
    frames, only_here, only_there = compared(ours, theirs, tmp_path, source, description)
    assert frames >= 300
    assert (frames + only_here, frames + only_there) == (600, 450)
