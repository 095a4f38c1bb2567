"""The folder that is labelled: written before, and completed with what was labelled, until it is a training set."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from fleet.labelling.cvat import ANNOTATIONS, CvatWriter, LabelledMask, cvat_labels
from fleet.labelling.label_studio import label_studio_config, label_studio_task
from fleet.labelling.prelabels import Labels, Prelabel
from ros_ood_perception.bundle.description import UNLABELLED_ID
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.json_files import JsonFileError, json_text, read_json
from ros_ood_perception.files.output_folder import OutputFolder
from ros_ood_perception.shown_text import printable
from training.data.label_set_file import LABEL_SET_FILE

PROGRAM = "fleet.select"
SELECTION_FILE = "selection.json"
IMAGES, PREDICTED, MASKS, ANOMALIES = "images", "predicted", "masks", "labels_masks"
CVAT_LABELS, LABEL_STUDIO = "cvat_labels.json", "label_studio"
ENDING = ".png"
SPLITS = ("train", "val")
VALIDATION_SHARE = 5
"""One frame of so many is for validation."""
TASKS_IN_A_FILE = 100
"""Label Studio takes files of up to some 200 MB; a frame has about 100 kB."""
LONGEST_STEM = 60


class LabellingError(PerceptionError, ValueError):
    """The folder and what was labelled do not fit. The message names the file and the remedy."""


@dataclass(frozen=True)
class SelectedFrame:
    """A frame that was chosen.

    Attributes:
        name: of its files.
        facts: plain values for `selection.json`, with `recording`.
    """

    name: str
    facts: Mapping[str, Any]


def frame_name(recording: str, camera: str, time_ns: int) -> str:
    """The name of a frame's files, which is unique: part of the recording's path, camera, and time.

    >>> frame_name("/bags/monday drive/bag", "front", 12)
    'monday_drive_bag-eb041aa9-front-12'
    """
    path = PurePath(recording)
    stem = "_".join(part for part in (path.parent.name, path.name) if part)
    digest = sha256(recording.encode()).hexdigest()[:8]
    parts = [_plain(stem)[-LONGEST_STEM:], digest, *([_plain(camera)] if camera else []), str(time_ns)]
    return "-".join(parts)


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "_", text).strip("_.")


class LabellingFolder:
    """Writes the frames for CVAT and Label Studio.

    Args:
        output: empty.
        served: where Label Studio finds the images; the start of a URL or path.
        model: name of the bundle.
    """

    def __init__(self, output: OutputFolder, labels: Labels, served: str, model: str) -> None:
        self._output, self._labels, self._served, self._model = output, labels, served, model
        self._cvat = CvatWriter(labels, output.path.name)
        self._tasks: list[dict[str, Any]] = []
        self._task_files = 0

    def add(self, frame: Prelabel, image: NDArray[np.uint8]) -> None:
        """Write a frame.

        Args:
            image: (H, W, 3) uint8 RGB.

        Raises:
            OSError: with the path.
        """
        self._output.write(f"{IMAGES}/{frame.name}{ENDING}", _png(cv2.cvtColor(image, cv2.COLOR_RGB2BGR)))
        self._output.write(f"{PREDICTED}/{frame.name}{ENDING}", _png(frame.ids))
        self._cvat.add(frame, ENDING)
        self._tasks.append(label_studio_task(frame, self._labels, self._served, self._model))
        if len(self._tasks) == TASKS_IN_A_FILE:
            self._write_tasks()

    def finish(self, frames: Sequence[SelectedFrame], licence: str, facts: Mapping[str, Any]) -> None:
        """Write what there is once: the class lists, the annotations, and which frames were chosen.

        Args:
            frames: those that were added.
            licence: of the frames.
            facts: further plain values for `selection.json`.

        Raises:
            OSError: with the path.
        """
        self._write_tasks()
        # Beside the images, as in what CVAT imports and exports.
        self._output.write(ANNOTATIONS, self._cvat.text())
        self._output.write(CVAT_LABELS, cvat_labels(self._labels))
        self._output.write(f"{LABEL_STUDIO}/config.xml", label_studio_config(self._labels))
        chosen = _splits(frames)
        self._output.write(LABEL_SET_FILE, _label_set(self._output.path.resolve().name, licence, self._labels, chosen))
        for split, names in chosen.items():
            self._output.write(f"{split}.txt", "".join(f"{name}\n" for name in names))
        labels = {name: number for name, (number, _) in self._labels.masks.items()}
        listed = [{"name": frame.name, **frame.facts} for frame in frames]
        self._output.write(SELECTION_FILE, json_text({**facts, "labels": labels, "frames": listed}))

    def _write_tasks(self) -> None:
        if self._tasks:
            self._task_files += 1
            text = json.dumps(self._tasks, separators=(",", ":")) + "\n"
            self._output.write(f"{LABEL_STUDIO}/tasks_{self._task_files:03d}.json", text)
            self._tasks = []


def check_unlabelled(folder: Path) -> None:
    """Refuse to write frames into a folder whose frames were labelled: that would delete a person's work.

    Raises:
        LabellingError: it holds masks.
    """
    if (folder / MASKS).is_dir() and any((folder / MASKS).iterdir()):
        raise LabellingError(f"--out {folder}: holds labels ({MASKS}/), which would be deleted; give another --out")


def read_selection(folder: Path) -> tuple[dict[str, int], list[SelectedFrame]]:
    """The labels of pixels with their ids, and the frames of a labelling folder.

    Raises:
        LabellingError: the folder is none.
    """
    path = folder / SELECTION_FILE
    try:
        data = read_json(path)
        labels = {str(name): int(number) for name, number in data["labels"].items()}
        frames = [SelectedFrame(str(facts["name"]), facts) for facts in data["frames"]]
        if not all(0 <= number <= UNLABELLED_ID for number in labels.values()):
            raise ValueError("an id is not from 0 to 255")
    except FileNotFoundError as error:
        raise LabellingError(f"{path}: no such file; give a folder that {PROGRAM} wrote") from error
    except (JsonFileError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise LabellingError(f"{path}: is not what {PROGRAM} wrote ({error!r}); select again") from error
    return labels, frames


@dataclass(frozen=True)
class ReadBack:
    """What came back.

    Attributes:
        frames: names of the frames that are labelled now.
        missing: names of those that no export has.
        unlabelled: name of a frame to the share of its pixels without a label, of those with any. They are ignored.
    """

    frames: tuple[str, ...]
    missing: tuple[str, ...]
    unlabelled: Mapping[str, float]


def complete(folder: Path, read: Callable[[], Iterable[LabelledMask]]) -> ReadBack:
    """Write the masks of what was labelled, and the lists of the splits, so that the folder is a training set.

    Frames that were not labelled are left out of the splits. Pixels without a label, and those of unknown objects, are
    ignored in training. The masks for measuring have 1 on unknown objects and 255 where there is no label.

    Args:
        read: gives the labelled frames. It is called twice: before anything is written, all are checked.

    Raises:
        LabellingError: a frame is not of this folder, is there twice, or has another size; too few are labelled.
            Nothing was written.
        OSError: with the path.
    """
    _, frames = read_selection(folder)
    output = OutputFolder.reopen(folder, PROGRAM, "the folder")
    done = _checked(folder, frames, read())
    splits = _splits([frame for frame in frames if frame.name in done])
    if not all(splits.values()):
        raise LabellingError(
            f"{folder}: the exports hold {len(done)} labelled frames; training and validation need one each. Submit "
            "the labels before you export"
        )
    for mask in read():
        anomalies = np.where(mask.labelled, (mask.ids == UNLABELLED_ID).astype(np.uint8), np.uint8(UNLABELLED_ID))
        output.write(f"{MASKS}/{mask.name}{ENDING}", _png(mask.ids))
        output.write(f"{ANOMALIES}/{mask.name}{ENDING}", _png(anomalies))
    for split, names in splits.items():
        output.write(f"{split}.txt", "".join(f"{name}\n" for name in names))
    missing = tuple(frame.name for frame in frames if frame.name not in done)
    return ReadBack(tuple(done), missing, {name: share for name, share in done.items() if share > 0})


def _checked(folder: Path, frames: Sequence[SelectedFrame], found: Iterable[LabelledMask]) -> dict[str, float]:
    """Name of each labelled frame to the share of its pixels without a label."""
    known = {frame.name: frame for frame in frames}
    done: dict[str, float] = {}
    for mask in found:
        if mask.name not in known:
            name = printable(mask.name, 200)
            raise LabellingError(f"{folder}: has no frame '{name}'; the export is of another selection")
        if mask.name in done:
            raise LabellingError(f"{folder}: the frame {mask.name} was exported twice; give one export of it")
        size = tuple(known[mask.name].facts.get("size", mask.ids.shape))
        if mask.ids.shape != size:
            raise LabellingError(
                f"{folder}: the labels of {mask.name} are {mask.ids.shape}, its image is {size} (height, width); label "
                "the image of this folder"
            )
        done[mask.name] = float(1 - mask.labelled.mean())
    return done


def _splits(frames: Sequence[SelectedFrame]) -> dict[str, list[str]]:
    """Names of the frames of each split.

    A recording is in one split, unless there is only one: its frames are alike, so frames in between would measure what
    was learnt by heart. The smallest recordings, or the last frames of the only one, are for validation.
    """
    by_recording: dict[str, list[str]] = {}
    for frame in sorted(frames, key=lambda frame: (frame.facts["recording"], frame.facts["time_ns"])):
        by_recording.setdefault(str(frame.facts["recording"]), []).append(frame.name)
    groups = sorted(by_recording.values(), key=len, reverse=True)
    if len(groups) == 1:
        groups = [[name] for name in groups[0]]
    wanted, cut = max(len(frames) // VALIDATION_SHARE, 1), len(groups)
    while cut > 1 and sum(map(len, groups[cut:])) < wanted:
        cut -= 1
    parts = zip(SPLITS, (groups[:cut], groups[cut:]), strict=True)
    return {split: sorted(name for group in part for name in group) for split, part in parts}


def _label_set(name: str, licence: str, labels: Labels, splits: Mapping[str, Sequence[str]]) -> str:
    content = {
        "name": name,
        "licence": licence,
        "splits": {
            split: {"images": IMAGES, "masks": MASKS, "frames": f"{split}.txt"}
            for split, names in splits.items()
            if names
        },
        "classes": [
            {
                "name": known.name,
                "ids": list(known.ids),
                "colour": list(known.colour),
                **({"drivable": True} if known.drivable else {}),
            }
            for known in labels.classes
        ],
        "image_ending": ENDING,
        "ignored_ids": [UNLABELLED_ID],
    }
    head = "# The classes of the bundle. Unknown objects, and what has no label, are ignored in training.\n"
    return head + yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    data: bytes = cv2.imencode(ENDING, pixels, [cv2.IMWRITE_PNG_COMPRESSION, 6])[1].tobytes()
    return data
