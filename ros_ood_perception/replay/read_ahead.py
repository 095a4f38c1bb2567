"""Reads and decodes the next frames in a thread while the engine computes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.camera.raw_image import MalformedImageError
from ros_ood_perception.inference.engine import EngineOutput
from ros_ood_perception.replay.camera_replay import colour_image
from ros_ood_perception.replay.cameras import CameraTopics
from ros_ood_perception.replay.engine_pool import EnginePool
from ros_ood_perception.replay.inputs import InputCopy, InputFrame, InputInfo


@dataclass(frozen=True)
class ReadyFrame:
    """A frame that was passed to the engine, or the reason why it was not.

    Attributes:
        image: (H, W, 3) uint8 in the bundle's colour order; None if it cannot be decoded or is left out.
        result: the engine's result; None if there is no image.
        problem: why there is no image; "" if the frame is left out.
        left_out: the frame is skipped because of `every`.
    """

    frame: InputFrame
    image: NDArray[np.uint8] | None = field(default=None, repr=False)
    result: Future[EngineOutput] | None = None
    problem: str = ""
    left_out: bool = False


Ready = ReadyFrame | InputInfo | InputCopy


class ReadAhead:
    """Iterates over ready items in the order of the input. A context manager: leaving it ends the thread.

    Args:
        items: the items of the input.
        every: the first and then every `every`-th frame of each camera is used.
        skip: number of items to drop, because they were used before the replay was resumed. Calibrations do not count.
    """

    def __init__(
        self,
        items: Iterator[InputFrame | InputInfo | InputCopy],
        cameras: Sequence[CameraTopics],
        pool: EnginePool,
        order: str,
        max_pixels: int,
        every: int,
        skip: int,
    ) -> None:
        self._items = items
        self._cameras = cameras
        self._pool = pool
        self._order, self._max_pixels, self._every, self._skip = order, max_pixels, every, skip
        # Copies are many and cheap; only the number of frames is limited.
        self._queue: queue.Queue[tuple[Ready, int] | BaseException | None] = queue.Queue(256)
        self._free = threading.Semaphore(pool.look_ahead + 1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="reader", daemon=True)

    def __enter__(self) -> ReadAhead:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._free.release()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                continue

    def __iter__(self) -> Iterator[tuple[Ready, int]]:
        """Items, each with the number of items of the input up to it."""
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
            if isinstance(item[0], ReadyFrame):
                self._free.release()

    def _read(self) -> None:
        try:
            for count, item in enumerate(self._items, 1):
                ready: Ready
                if isinstance(item, InputInfo):
                    ready = item
                elif count <= self._skip:
                    continue
                elif isinstance(item, InputFrame):
                    self._free.acquire()
                    ready = self._ready(item)
                else:
                    ready = item
                if self._stop.is_set():
                    return
                self._queue.put((ready, count))
            self._queue.put(None)
        except BaseException as error:  # raised again in the consumer's thread
            self._queue.put(error)

    def _ready(self, frame: InputFrame) -> ReadyFrame:
        if frame.number % self._every:
            return ReadyFrame(frame, left_out=True)
        if frame.message is None:
            return ReadyFrame(frame, problem=frame.problem)
        try:
            compressed = self._cameras[frame.camera].compressed
            image = colour_image(frame.message, compressed, self._order, self._max_pixels)
        except MalformedImageError as error:
            return ReadyFrame(frame, problem=f"{frame.name}: {error}")
        largest = self._pool.largest_size
        if largest is not None and (image.shape[0] > largest[0] or image.shape[1] > largest[1]):
            return ReadyFrame(
                frame,
                problem=f"{frame.name}: is {image.shape[1]}x{image.shape[0]}, and the engine '{self._pool.name}' was "
                f"opened for {largest[1]}x{largest[0]}; set engine_image_width and engine_image_height",
            )
        return ReadyFrame(frame, image, self._pool.submit(image))
