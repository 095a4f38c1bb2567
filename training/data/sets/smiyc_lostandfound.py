"""Lost and Found as SegmentMeIfYouCan evaluates it: obstacles against free road; other pixels are ignored."""

from __future__ import annotations

from pathlib import Path

from training.data.label_set import IGNORE
from training.data.labelled_frames import ANOMALY, INLIER, LabelledFrames
from training.data.sets.cityscapes import frames_by_city

ROAD_VALUE = 1
OBSTACLE_VALUES = range(2, 201)

FRAMES = {"train": 1036, "test": 1203}
"""Number of frames in each split of Lost and Found. The benchmark leaves frames out by their number."""

WITHOUT_LABELS = {
    "train": frozenset((44, 67, 88, 109, 131, 614)),
    "test": frozenset((17, 37, 55, 72, 91, 110, 129, 153, 174, 197, 218, 353, 490, 618, 686, 792, 793)),
}
"""Numbers, in the order of names from 0, of frames whose label files are entirely void."""

CHILDREN = "15_Rechbergstr_Deckenpfronn"
"""The test sequence whose obstacles are children, which are a known class."""


class SmiycLostAndFound(LabelledFrames):
    """`leftImg8bit/SPLIT/SCENE/*_leftImg8bit.png` and `gtCoarse/SPLIT/SCENE/*_gtCoarse_labelIds.png`.

    The splits are those of `datasets/tracks.py` in https://github.com/SegmentMeIfYouCan/road-anomaly-benchmark.
    `testNoKnown` (1,043 frames) is the split of the benchmark's tables. `testValid` (1,186) and `trainValid` (1,030)
    leave out the frames without labels. `test` and `train` hold all frames. Splits that leave frames out need the
    complete set.
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
                    f"{images}: {len(files)} frames; the split {split} leaves out frames by their number among all "
                    f"{FRAMES[part]}, which are available from {self.source}"
                )
            files = [paths for place, paths in enumerate(files) if place not in WITHOUT_LABELS[part]]
        if split == "testNoKnown":
            files = [paths for paths in files if not paths.name.startswith(CHILDREN)]
        super().__init__(images, files)
