"""Anomalies from any training set: classes are held out in training and are anomalies in the test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.label_set import IGNORE
from training.data.labelled_frames import ANOMALY, LabelledFrames


class HeldOutPart(LabelledFrames):
    """Some frames of a set, with its classes without the held-out ones, numbered anew in the same order.

    Pixels of held-out classes have the label 255. They are anomalies or void.
    """

    def __init__(
        self, frames: LabelledFrames, held_out: frozenset[int], chosen: Sequence[int], suffix: str, anomalies: bool
    ) -> None:
        kept = [class_id for class_id in range(len(frames.classes)) if class_id not in held_out]
        new_id = {old: new for new, old in enumerate(kept)}
        raw_held_out = {raw for raw, class_id in frames.label_map.items() if class_id in held_out}
        self._of = frames
        self.title = f"{frames.title} {suffix}"
        self.terms = frames.terms
        self.source = frames.source
        self.classes = tuple(frames.classes[class_id] for class_id in kept)
        self.label_map = {raw: new_id.get(class_id, IGNORE) for raw, class_id in frames.label_map.items()}
        inherited = {raw: value for raw, value in frames.anomaly_map.items() if raw not in raw_held_out}
        self.anomaly_map = inherited | dict.fromkeys(raw_held_out, ANOMALY if anomalies else IGNORE)
        super().__init__(frames.folder, [frames.files[index] for index in chosen])

    def raw_labels(self, path: Path) -> NDArray[np.uint8]:
        """As the whole set reads them."""
        return self._of.raw_labels(path)

    def shown_values(self, raw: Sequence[int]) -> str:
        """As the whole set shows them."""
        return self._of.shown_values(raw)

    @property
    def remedy(self) -> str:
        """That of the whole set."""
        return self._of.remedy


class HeldOut:
    """The two parts of a set: frames without and with held-out classes, as in BDD-Anomaly.

    BDD-Anomaly is BDD100K without motorcycles, bicycles and trains (Hendrycks et al., "Scaling Out-of-Distribution
    Detection for Real-World Settings", ICML 2022). The constructor reads all label files once.

    Args:
        frames: a set with classes.
        names: the classes to hold out.
        progress: called with (files read, number of files) after each label file.

    Raises:
        ValueError: the set has no such class, or no class would be left.
        BrokenFrameError: a label file cannot be decoded, so the part of its frame is unknown.
    """

    def __init__(
        self, frames: LabelledFrames, names: Sequence[str], progress: Callable[[int, int], None] | None = None
    ) -> None:
        known = [known.name for known in frames.classes]
        unknown = [name for name in names if name not in known]
        if unknown:
            there = ", ".join(known) or "no classes"
            raise ValueError(f"{frames.title} has no class {', '.join(unknown)}; it has {there}")
        if not names or len(set(names)) == len(known):
            raise ValueError(
                f"{len(set(names))} of {len(known)} classes of {frames.title} held out; hold out some, not all"
            )
        self.frames = frames
        self.names = tuple(names)
        self._ids = frozenset(known.index(name) for name in names)
        raw = [value for value, class_id in frames.label_map.items() if class_id in self._ids]
        self._shows = []
        for index, paths in enumerate(frames.files):
            self._shows.append(bool(np.isin(frames.raw_labels(paths.labels), raw).any()))
            if progress is not None:
                progress(index + 1, len(frames.files))

    @property
    def training(self) -> HeldOutPart:
        """The frames without a pixel of a held-out class.

        Raises:
            ValueError: there are none.
        """
        return self._part([not there for there in self._shows], "every", f"without {self._listed}", False)

    @property
    def test(self) -> HeldOutPart:
        """The frames with at least one pixel of a held-out class. Those pixels are anomalies.

        Raises:
            ValueError: there are none.
        """
        return self._part(self._shows, "no", f"with {self._listed}", True)

    @property
    def validation(self) -> HeldOutPart:
        """The frames of `training`. If there are none: all frames, with the pixels of held-out classes void.

        Nothing is learnt from validation frames, and all frames of a small split may show the class: every validation
        frame of CamVid shows a bicyclist. Otherwise they are kept apart from those of `test`, because many sets have
        no third split to measure on.
        """
        if not all(self._shows):
            return self.training
        return self._part(self._shows, "no", f"with {self._listed} void", False)

    @property
    def _listed(self) -> str:
        return ", ".join(known.name for index, known in enumerate(self.frames.classes) if index in self._ids)

    def _part(self, wanted: Sequence[bool], none: str, suffix: str, anomalies: bool) -> HeldOutPart:
        chosen = [index for index, there in enumerate(wanted) if there]
        if not chosen:
            raise ValueError(
                f"{self.frames.folder}: {none} frame of {self.frames.title} shows {' or '.join(self.names)}"
            )
        return HeldOutPart(self.frames, self._ids, chosen, suffix, anomalies)
