"""The configuration of a study."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from training.bundles.runner import LogitScore

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
OWN_SCORE = "jensen_shannon_to_uniform"
"""Score of every bundle of a study: the paper's, whatever the default of an export is. So studies can be compared."""


@dataclass(frozen=True)
class StudyConfig:
    """Variants of joint training, each from the same pre-trained networks, on the same frames, for several seeds.

    Attributes:
        name: of the study; its runs go below `runs/study_NAME`.
        segmenter: configuration for pre-training the segmenter of each seed, or the folder of a bundle from which all
            seeds start.
        flow: configuration for pre-training the flow of each seed. If the seeds share a bundle's segmenter, they share
            one flow, with the first seed.
        joint: configuration of joint training, which the variants change.
        seeds: of pre-training and joint training.
        variants: fields that differ from `joint`, by the name of the variant.
        sets: for measuring every variant, NAME:PATH[@SPLIT] as in `training.evaluate`, with paths relative to `--data`.
        scores: besides the bundle's own score: NAME or NAME@T.
        held_out: classes to hold out. With them, the chosen variants are also trained without these classes, and
            measured on the frames of `held_out_set` that show them.
        held_out_set: NAME:PATH[@SPLIT] of a training set.
        held_out_variants: the variants to train without the held-out classes.
        held_out_segmenter: if `segmenter` is a bundle, which was trained on all classes: configuration for pre-training
            one segmenter for all seeds without the held-out classes.
    """

    name: str
    segmenter: str
    flow: str
    joint: str
    seeds: tuple[int, ...]
    variants: dict[str, dict[str, Any]]
    sets: tuple[str, ...]
    scores: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    held_out_set: str = ""
    held_out_variants: tuple[str, ...] = field(default_factory=tuple)
    held_out_segmenter: str = ""

    def __post_init__(self) -> None:
        for name in (self.name, *self.variants):
            if not NAME.fullmatch(name):
                raise ValueError(f"the name '{name}' must be of lower-case letters, digits, '_', '-' and '.'")
        if not self.variants or not self.seeds or not self.sets:
            raise ValueError("variants, seeds and sets must not be empty")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds is {self.seeds}; each may be given once")
        for text in self.scores:
            LogitScore.parse(text)
        if bool(self.held_out) != bool(self.held_out_set):
            raise ValueError("held_out and held_out_set must be given together")
        unknown = sorted(set(self.held_out_variants) - set(self.variants))
        if unknown:
            raise ValueError(f"held_out_variants has {', '.join(unknown)}, which is no variant")
