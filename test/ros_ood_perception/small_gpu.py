"""A stand-in for a GPU with memory for so many engines, in a module that the processes of a pool can import."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle.model_bundle import Bundle
from ros_ood_perception.inference.engine import EngineError, EngineOutput, GpuOptions
from ros_ood_perception.replay import engine_pool


class NamedEngine:
    """Gives nothing but the name of what was opened."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        time.sleep(0.05)  # so that no process does the work of all
        score = np.full(images.shape[:3], self.name == "tensorrt", np.float32)
        return EngineOutput(np.zeros(images.shape[:3], np.uint8), score)

    def close(self) -> None:
        pass


def open_while_there_is_room(gpu: Path, room: int, deadly: bool, bundle: Bundle, name: str, *_: object) -> NamedEngine:
    """In place of `open_engine`. `gpu` is a folder with a file for each engine on it."""
    for number in range(room if name != "onnxruntime" else 0):
        try:
            (gpu / str(number)).touch(exist_ok=False)
        except FileExistsError:
            continue
        return NamedEngine("tensorrt")
    if name != "tensorrt":
        return NamedEngine("onnxruntime")
    if deadly:
        time.sleep(0.5)  # the others wait by then
        os._exit(1)
    raise EngineError("out of memory")


class SmallGpu(GpuOptions):
    """Options that change `open_engine` in the process that they come to. `deadly`: which dies where it cannot open."""

    def __init__(self, folder: Path, room: int, deadly: bool = False) -> None:
        super().__init__(image_size=(4, 4))
        object.__setattr__(self, "arguments", (folder, room, deadly))

    def __reduce__(self) -> tuple[Callable[..., GpuOptions], tuple[Any, ...]]:
        return _small_gpu, self.arguments  # type: ignore[attr-defined]


def _small_gpu(folder: Path, room: int, deadly: bool) -> GpuOptions:
    vars(engine_pool)["open_engine"] = partial(open_while_there_is_room, folder, room, deadly)
    return GpuOptions(image_size=(4, 4))
