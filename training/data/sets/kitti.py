"""The 200 frames of KITTI with semantic labels: `training/image_2/*.png` and `training/semantic/*.png`."""

from __future__ import annotations

from pathlib import Path

from ros_ood_perception.camera.image_file import images_in
from training.data.label_set import CITYSCAPES
from training.data.labelled_frames import FramePaths, LabelledFrames, inliers
from training.data.sets.cityscapes import LABEL_MAP


class Kitti(LabelledFrames):
    """The training frames of KITTI's semantic segmentation benchmark, with the label ids of Cityscapes.

    Archives of other KITTI benchmarks put further frames into the same `image_2`. So the frames are those with labels.
    """

    title = "KITTI semantics"
    terms = "CC BY-NC-SA 3.0"
    source = "https://www.cvlibs.net/datasets/kitti/eval_semseg.php (data_semantics.zip)"
    classes = CITYSCAPES
    splits = ("training",)
    label_map = LABEL_MAP
    anomaly_map = inliers(label_map)

    def __init__(self, folder: Path | str, split: str | None = None) -> None:
        root = Path(folder) / self.split_or_default(split)
        images, labels = (self.existing(root / part) for part in ("image_2", "semantic"))
        super().__init__(root, (FramePaths(path.stem, images / path.name, path) for path in images_in(labels)))
