"""An engine on one frame: its outputs checked, thresholded, and scaled to the frame's size. Knows no ROS."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle.description import InputDescription
from ros_ood_perception.camera.letterbox import Letterbox
from ros_ood_perception.inference.engine import EngineError, EngineOutput, InferenceEngine


def letterbox_of(image: NDArray[np.uint8], model_input: InputDescription) -> Letterbox | None:
    """Where a frame (H, W, 3) lies in a bundle's input; None if the graph takes the frame as it is."""
    if model_input.fit != "letterbox":
        return None
    frame_size = (image.shape[0], image.shape[1])
    return Letterbox(frame_size, model_input.size_for(frame_size))


@dataclass(frozen=True)
class FramePerception:
    """Classes and anomaly score of one frame. Fields at the frame's size are computed when they are first read.

    Attributes:
        frame_size: height and width of the frame, pixels.
        engine_semantic: (h, w) uint8 class ids, at the bundle's input size for such frames or the part of it that shows
            the frame.
        engine_anomaly_score: (h, w) float32 in [0, 1], at the same size.
        anomaly_threshold: in [0, 1].
    """

    frame_size: tuple[int, int]
    engine_semantic: NDArray[np.uint8]
    engine_anomaly_score: NDArray[np.float32]
    anomaly_threshold: float

    @cached_property
    def semantic(self) -> NDArray[np.uint8]:
        """(H, W) uint8 class ids."""
        height, width = self.frame_size
        return cv2.resize(self.engine_semantic, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)

    @cached_property
    def anomaly_score(self) -> NDArray[np.float32]:
        """(H, W) float32 in [0, 1], higher where more anomalous."""
        height, width = self.frame_size
        return cv2.resize(self.engine_anomaly_score, (width, height), interpolation=cv2.INTER_LINEAR)

    @cached_property
    def anomaly_mask(self) -> NDArray[np.bool_]:
        """(H, W) bool: score >= threshold, on the score as computed, before any rounding."""
        return self.anomaly_score >= np.float32(self.anomaly_threshold)


@dataclass(frozen=True)
class Perception:
    """An engine with a threshold. The same frame gives the same result: nothing is kept from one frame to the next.

    Attributes:
        engine: opened. The caller closes it.
        anomaly_threshold: in [0, 1]. A pixel is anomalous where its score is at least this.
        num_classes: of the bundle.
        model_input: the bundle's. The engine's outputs must have its size for the frame. None stretches frames and
            takes any size.

    Raises:
        ValueError: the threshold is outside [0, 1].
    """

    engine: InferenceEngine
    anomaly_threshold: float
    num_classes: int
    model_input: InputDescription | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.anomaly_threshold <= 1:
            raise ValueError(f"anomaly_threshold is {self.anomaly_threshold}; it must be in [0, 1]")

    def __call__(self, image: NDArray[np.uint8]) -> FramePerception:
        """Run the engine on a frame (H, W, 3) uint8 in the bundle's colour order, H and W at least 1.

        Raises:
            EngineError: the engine failed, or its outputs have another size or type than the graph's, scores outside
                [0, 1], or ids without a class.
        """
        box = None if self.model_input is None else letterbox_of(image, self.model_input)
        output = self.engine.run((image if box is None else box.fill(image))[None])
        self._check_layout(output, (image.shape[0], image.shape[1]))
        semantic, score = output.semantic[0], output.anomaly_score[0]
        # Written so that NaN fails too: it compares false, and would be published as "nothing unusual here".
        if not (score.min() >= 0 and score.max() <= 1):
            raise EngineError(f"the engine '{self.engine.name}' gave anomaly scores that are not in [0, 1]")
        if semantic.max() >= self.num_classes:
            raise EngineError(f"the engine '{self.engine.name}' gave the id {semantic.max()}, which no class has")
        if box is not None:
            semantic, score = box.cut(semantic), box.cut(score)
        return FramePerception((image.shape[0], image.shape[1]), semantic, score, self.anomaly_threshold)

    def _check_layout(self, output: EngineOutput, frame_size: tuple[int, int]) -> None:
        """Refuse planes of another size: resized to the frame, they would look like a right mask."""
        semantic, score = output.semantic, output.anomaly_score
        size = semantic.shape[1:] if self.model_input is None else self.model_input.size_for(frame_size)
        expected = (1, *size)
        if (
            semantic.shape != expected
            or score.shape != expected
            or len(expected) != 3
            or 0 in expected
            or semantic.dtype != np.uint8
            or score.dtype != np.float32
        ):
            wanted = "(1, h, w)" if self.model_input is None else str(expected)
            raise EngineError(
                f"the engine '{self.engine.name}' gave semantic {semantic.shape} {semantic.dtype} and anomaly "
                f"{score.shape} {score.dtype}; they must be {wanted} uint8 and float32"
            )
