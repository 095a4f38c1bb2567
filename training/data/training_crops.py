"""The stream of training crops: the same for the same seed, also after a run is resumed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from training.data.augmentation import AugmentationConfig, class_mixed, random_crop
from training.data.labelled_frames import LabelledFrame


class TrainingCrops(Dataset[tuple[Tensor, Tensor]]):
    """Random crops of a labelled set, addressed by (epoch, position).

    The randomness of a crop is seeded by (seed, epoch, position), not by the history of a process. So a resumed run
    gets the crops of an uninterrupted one.

    Items: image (3, h, w) uint8 and labels (h, w) uint8.
    """

    def __init__(
        self, frames: Sequence[LabelledFrame], config: AugmentationConfig, seed: int, passes: int, keep_in_memory: bool
    ) -> None:
        self.frames = frames
        self.config = config
        self.seed = seed
        self.passes = passes
        self.memory: list[LabelledFrame] | None = [frames[i] for i in range(len(frames))] if keep_in_memory else None

    def __len__(self) -> int:
        return len(self.frames) * self.passes

    def __getitem__(self, address: tuple[int, int]) -> tuple[Tensor, Tensor]:
        epoch, position = address
        generator = np.random.default_rng((self.seed, epoch, position))
        image, labels = self._crop(position % len(self.frames), generator)
        if generator.random() < self.config.class_mix:
            other = self._crop(int(generator.integers(len(self.frames))), generator)
            image, labels = class_mixed(image, labels, *other, generator)
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(labels)

    def _crop(self, index: int, generator: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        frame = self.memory[index] if self.memory is not None else self.frames[index]
        return random_crop(frame.image, frame.labels, self.config, generator)


class AddressSampler(DistributedSampler[Any]):
    """torch's distributed sampler, also for one process, with (epoch, position) instead of position."""

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((self.epoch, position) for position in super().__iter__())
