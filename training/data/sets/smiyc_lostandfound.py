"""Lost and Found as SegmentMeIfYouCan evaluates it: obstacles against the free road, nothing else counts."""

from __future__ import annotations

from pathlib import Path

from training.data.label_set import IGNORE
from training.data.labelled_frames import ANOMALY, INLIER, LabelledFrames
from training.data.sets.cityscapes import frames_by_city

ROAD_VALUE = 1
OBSTACLE_VALUES = range(2, 201)

FRAMES = {"train": 1036, "test": 1203}
"""How many frames a split of Lost and Found has: the benchmark leaves frames out by their place among all."""

WITHOUT_LABELS = {
    "train": frozenset((44, 67, 88, 109, 131, 614)),
    "test": frozenset((17, 37, 55, 72, 91, 110, 129, 153, 174, 197, 218, 353, 490, 618, 686, 792, 793)),
}
"""Places, by name from 0, of the frames whose label files are void throughout."""

CHILDREN = "15_Rechbergstr_Deckenpfronn"
"""The test sequence whose obstacles are children: a class that training knows."""


class SmiycLostAndFound(LabelledFrames):
    """`leftImg8bit/SPLIT/SCENE/*_leftImg8bit.png` and `gtCoarse/SPLIT/SCENE/*_gtCoarse_labelIds.png`.

    Splits, as in `datasets/tracks.py` of https://github.com/SegmentMeIfYouCan/road-anomaly-benchmark: `testNoKnown`
    (1,043 frames) is the one of the benchmark's tables; `testValid` (1,186) and `trainValid` (1,030) leave out the
    frames without labels; `test` and `train` are all. Splits that leave frames out need all frames to be there.
    """

    title = "Lost and Found (SMIYC)"
    terms = "research use"
    source = "http://wwwlehre.dhbw-stuttgart.de/~sgehrig/lostAndFoundDataset/index.html (leftImg8bit.zip, gtCoarse.zip)"
    splits = ("testNoKnown", "testValid", "test", "trainValid", "train")
    anomaly_map = dict.fromkeys(range(256), IGNORE) | {ROAD_VALUE: INLIER} | dict.fromkeys(OBSTACLE_VALUES, ANOMALY)

    def __init__(self, folder: Path | str, split: str | None = None) -> None:
        split = self.split_or_default(split)
        part = "test" if split.startswith("test") else "train"
        images, labels = (self.existing(Path(folder) / kind / part) for kind in ("leftImg8bit", "gtCoarse"))
        files = frames_by_city(images, labels, "_gtCoarse_labelIds.png")
        if split != part and files:
            if len(files) != FRAMES[part]:
                raise FileNotFoundError(
                    f"{images}: {len(files)} frames; the split {split} leaves out frames by their place among all "
                    f"{FRAMES[part]}, which are to be had at {self.source}"
                )
            files = [paths for place, paths in enumerate(files) if place not in WITHOUT_LABELS[part]]
        if split == "testNoKnown":
            files = [paths for paths in files if not paths.name.startswith(CHILDREN)]
        super().__init__(images, files)
