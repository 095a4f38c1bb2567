"""WildDash 2: `images/*.jpg` and `labels/*.png` with the label ids of Cityscapes and further ones."""

from __future__ import annotations

from pathlib import Path

from ros_ood_perception.camera.image_file import images_in
from training.data.label_set import CITYSCAPES, IGNORE
from training.data.labelled_frames import FramePaths, LabelledFrames, inliers
from training.data.sets.cityscapes import LABEL_MAP

MORE_IDS = {
    "road": (38, 41, 43, 61, 64, 70, 74, 75, 76, 79),  # markings, manhole, pothole, tram track, bike lane, ...
    "sidewalk": (52, 65, 77, 80),  # curb, bike lane and manhole on the sidewalk, curb cut
    "wall": (56,),  # other barriers
    "pole": (45, 46),  # sign frame, utility pole
    "terrain": (78,),  # curb of terrain
    "rider": (47, 48, 49),  # motorcyclist, bicyclist, other
    "car": (35,),  # van
    "truck": (34,),  # pickup
    "motorcycle": (58,),  # autorickshaw
}
LAST_ID = 80


class WildDash2(LabelledFrames):
    """The public frames of WildDash 2. `folder` is `wd_public_02` or the folder that holds it.

    Ids up to 38 are those of the release `wd_public_02`, and ids up to 80 those of its successor. They become classes
    of Cityscapes as the authors define it (`wd2_unified_label_policy.json` of
    https://github.com/ozendelait/wilddash_scripts; Zendel et al., "Unifying Panoptic Segmentation for Autonomous
    Driving", CVPR 2022). The successor `wd_public_v2p0` has panoptic labels only; `pano2sem.py` of the same repository
    makes `labels/*_labelIds.png` of them.

    Unverified: label files of `wd_public_02` have the names of their images according to public readers of the set; the
    archive was not seen.
    """

    title = "WildDash 2"
    terms = "non-commercial (https://wilddash.cc/download)"
    source = "https://wilddash.cc/ (wd_public_02.zip, or wd_public_v2p0.zip after pano2sem.py of wilddash_scripts)"
    classes = CITYSCAPES
    splits = ("public",)
    label_map = (
        dict.fromkeys(range(LAST_ID + 1), IGNORE)
        | LABEL_MAP
        | {raw: class_id for class_id, known in enumerate(CITYSCAPES) for raw in MORE_IDS.get(known.name, ())}
    )
    anomaly_map = inliers(label_map)

    def __init__(self, folder: Path | str, split: str | None = None) -> None:
        self.split_or_default(split)
        root = self.existing(Path(folder) / "wd_public_02", Path(folder))
        images, labels = (self.existing(root / part) for part in ("images", "labels"))
        ending = "_labelIds.png" if any(labels.glob("*_labelIds.png")) else ".png"
        super().__init__(
            root, (FramePaths(path.stem, path, labels / f"{path.stem}{ending}") for path in images_in(images))
        )
