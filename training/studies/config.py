"""What a study compares."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from training.bundles.runner import LogitScore

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


@dataclass(frozen=True)
class StudyConfig:
    """Variants of joint training, each from the same pre-trained networks, on the same frames, for several seeds.

    Attributes:
        name: of the study; its runs go below `runs/study_NAME`.
        segmenter: configuration that each seed's segmenter is pre-trained with, or the folder of a bundle that every
            seed starts from.
        flow: configuration that each seed's flow is pre-trained with; one flow, of the first seed, for all of them
            where they share a bundle's segmenter.
        joint: configuration of joint training that the variants change.
        seeds: of pre-training and joint training alike.
        variants: by name: fields of `joint` that are other in it.
        sets: what every variant is measured on, NAME:PATH[@SPLIT] as `training.evaluate` takes it, with paths
            relative to `--data`.
        scores: beside the bundle's own score: NAME or NAME@T.
        held_out: classes to hold out. Where there are any, everything is trained without them, and measured on the
            frames of `held_out_set` that show them instead of on `sets`.
        held_out_set: NAME:PATH[@SPLIT] of a training set.
        held_out_variants: the variants that this is done for.
        held_out_segmenter: where `segmenter` is a bundle, which has learnt all classes: configuration that one
            segmenter for all seeds is pre-trained with, without the held-out ones.
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
            raise ValueError(f"seeds is {self.seeds}; one is there twice")
        for text in self.scores:
            LogitScore.parse(text)
        if bool(self.held_out) != bool(self.held_out_set):
            raise ValueError("held_out and held_out_set must be given together")
        unknown = sorted(set(self.held_out_variants) - set(self.variants))
        if unknown:
            raise ValueError(f"held_out_variants has {', '.join(unknown)}, which is no variant")
