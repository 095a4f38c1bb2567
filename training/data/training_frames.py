"""The frames of a training run, from one set or from several with the same classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from training.data.data_config import DataConfig
from training.data.label_set import IGNORE, LabelClass
from training.data.labelled_frames import LabelledFrame, LabelledFrames
from training.data.registry import open_training_frames, open_validation_frames


class TrainingFrames(Sequence[LabelledFrame]):
    """Frames of several sets, one set after the other. Each frame is decoded when it is read.

    Attributes:
        parts: (title, split) of each set.
        title: the titles, joined.
        terms: the licences, each once.
        classes: of every set, in the order of their ids.

    Raises:
        ValueError: a set has other classes than the first.
    """

    def __init__(self, sets: Sequence[tuple[LabelledFrames, str]]) -> None:
        first = sets[0][0]
        for frames, _ in sets:
            if _names(frames.classes) != _names(first.classes):
                raise ValueError(
                    f"{frames.title} has the classes {_names(frames.classes)}; to be trained with {first.title}, it "
                    f"must have {_names(first.classes)}"
                )
        self.sets = [frames for frames, _ in sets]
        self.parts = [(frames.title, split) for frames, split in sets]
        self.title = " + ".join(frames.title for frames in self.sets)
        self.terms = "; ".join(dict.fromkeys(frames.terms for frames in self.sets))
        self.classes: tuple[LabelClass, ...] = first.classes

    def __len__(self) -> int:
        return sum(len(frames) for frames in self.sets)

    def __getitem__(self, index: int) -> LabelledFrame:  # type: ignore[override]
        left = index
        for frames in self.sets:
            if 0 <= left < len(frames):
                return frames[left]
            left -= len(frames)
        raise IndexError(f"frame {index} of {len(self)}")


def open_data(config: DataConfig, folders: Mapping[str, Path]) -> tuple[TrainingFrames, LabelledFrames]:
    """The frames for training and those for validation.

    Args:
        folders: of each set, from `config.folders`.

    Raises:
        ValueError: no such set, split or class, a set without classes, or sets of different classes.
        FileNotFoundError: a folder is not there.
    """
    wanted = [(config.set, config.train), *((further.set, further.train) for further in config.more)]
    sets = [(open_training_frames(name, folders[name], split, config.held_out), split) for name, split in wanted]
    return TrainingFrames(sets), open_validation_frames(
        config.set, folders[config.set], config.validation, config.held_out
    )


def require_labels(frames: Sequence[LabelledFrame], title: str) -> None:
    """Check that at least one pixel has a class. Most sets show one in their first frame, which is all that is read.

    Raises:
        ValueError: every pixel of every frame is void.
        BrokenFrameError: a frame before the first labelled one cannot be read.
    """
    if not any((frames[index].labels != IGNORE).any() for index in range(len(frames))):
        raise ValueError(
            f"{title}: no pixel of its {len(frames)} frame(s) has a class, all are void (255); nothing can be learnt "
            "on them. Check that the label files hold class ids"
        )


def _names(classes: Sequence[LabelClass]) -> str:
    return ", ".join(known.name for known in classes)
