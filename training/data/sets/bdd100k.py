"""The 10,000 segmented frames of BDD100K, in the official layout and in that of the first release."""

from __future__ import annotations

from pathlib import Path

from ros_ood_perception.camera.image_file import images_in
from training.data.label_set import CITYSCAPES, IGNORE
from training.data.labelled_frames import FramePaths, LabelledFrames, inliers


class Bdd100k(LabelledFrames):
    """A split of BDD100K's semantic segmentation. Its ids are the train ids of Cityscapes.

    `folder` is `bdd100k` or the folder that holds it.

    Official layout (https://doc.bdd100k.com/download.html): `images/10k/SPLIT/*.jpg` and
    `labels/sem_seg/masks/SPLIT/*.png`. First release: `seg/images/SPLIT/*.jpg` and `seg/labels/SPLIT/*_train_id.png`.
    """

    title = "BDD100K"
    terms = "BDD100K licence: education, research and not-for-profit purposes"
    source = "http://bdd-data.berkeley.edu/ (10K Images, Semantic Segmentation)"
    classes = CITYSCAPES
    splits = ("val", "train")
    label_map = {class_id: class_id for class_id in range(len(CITYSCAPES))} | {IGNORE: IGNORE}
    anomaly_map = inliers(label_map)

    def __init__(self, folder: Path | str, split: str | None = None) -> None:
        split = self.split_or_default(split)
        root = self.existing(Path(folder) / "bdd100k", Path(folder))
        if (root / "seg").is_dir():
            images, labels, ending = root / "seg" / "images" / split, root / "seg" / "labels" / split, "_train_id.png"
        else:
            images, labels = root / "images" / "10k" / split, root / "labels" / "sem_seg" / "masks" / split
            ending = ".png"
        super().__init__(
            root,
            (
                FramePaths(path.stem, path, self.existing(labels) / f"{path.stem}{ending}")
                for path in images_in(self.existing(images))
            ),
        )
