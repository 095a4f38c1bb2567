"""Finds the frames that two bags of results share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ros_ood_perception.recordings.bag import Bag
from ros_ood_perception.recordings.results import FrameKey, ResultFrame, result_frames

MAX_UNMATCHED = 64
"""Largest number of frames of one run that wait for those of the other. Beyond it the oldest is dropped."""


def frame_pairs(
    bags: tuple[Bag, Bag], keys: tuple[set[FrameKey], set[FrameKey]], damage: list[str]
) -> Iterator[tuple[ResultFrame, ResultFrame]]:
    """The frames that both bags hold, each as (this run's, the other's).

    The keys say which frames are shared. A frame of only one bag is skipped, so that neither bag gets ahead of the
    other. The order of the stamps is not used, because it can differ with several cameras or after a clock was set.

    Args:
        keys: for each bag, the keys of all its frames with a semantic mask.
        damage: see `result_frames`.
    """
    # With a single camera each, its name may differ.
    skipped = 1 if all(len({camera for camera, _, _ in found}) == 1 for found in keys) else 0
    shared = {key[skipped:] for key in keys[0]} & {key[skipped:] for key in keys[1]}
    frames = [
        (
            frame
            for frame in result_frames(bag, damage)
            if "semantic_mask" in frame.pictures and frame.key[skipped:] in shared
        )
        for bag in bags
    ]
    waiting: tuple[dict[Any, ResultFrame], dict[Any, ResultFrame]] = ({}, {})
    while True:
        # Read from the bag with fewer waiting frames.
        side = 0 if len(waiting[0]) <= len(waiting[1]) else 1
        frame = next(frames[side], None)
        if frame is None:
            side = 1 - side
            frame = next(frames[side], None)
        if frame is None:
            return
        key = frame.key[skipped:]
        partner = waiting[1 - side].pop(key, None)
        if partner is not None:
            yield (frame, partner) if side == 0 else (partner, frame)
            continue
        waiting[side][key] = frame
        if len(waiting[side]) > MAX_UNMATCHED:
            dropped = next(iter(waiting[side]))
            del waiting[side][dropped]
            shared.discard(dropped)
