"""CamVid in the 480x360, 11-class layout: `SPLIT/images/*.jpg|png` and `SPLIT/labels/*.png` with ids, 11 = void."""

from __future__ import annotations

from pathlib import Path

from ros_ood_perception.camera.image_file import images_in
from training.data.label_set import CAMVID, IGNORE
from training.data.labelled_frames import FramePaths, LabelledFrames, inliers

VOID_ID = 11


class CamVid(LabelledFrames):
    """A split of CamVid. `folder` is the folder of the split, or with `split` the one that holds the splits."""

    title = "CamVid"
    terms = "CC BY-NC 4.0"
    source = "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/ (11 classes: the layout of SegNet's tutorial)"
    classes = CAMVID
    splits = ("val", "train", "test")
    label_map = {i: i for i in range(VOID_ID)} | {VOID_ID: IGNORE, IGNORE: IGNORE}
    anomaly_map = inliers(label_map)

    def __init__(self, folder: Path | str, split: str | None = None) -> None:
        root = Path(folder) if split is None else Path(folder) / split
        images, labels = (self.existing(root / part) for part in ("images", "labels"))
        super().__init__(root, (FramePaths(path.stem, path, labels / f"{path.stem}.png") for path in images_in(images)))
