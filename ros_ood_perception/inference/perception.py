"""Frame in, perception out: what the node, the replay and the tools all call. Knows no ROS and no file format."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.inference.engine import EngineError, EngineOutput, InferenceEngine

if TYPE_CHECKING:
    # They in turn are made of this module's results.
    from ros_ood_perception.obstacles.ground import GroundProjection
    from ros_ood_perception.obstacles.tracks import Obstacle, ObstacleDetector


@dataclass(frozen=True)
class FramePerception:
    """What one frame holds. Fields at the frame's size are computed when first read, so an unread one costs nothing.

    Attributes:
        frame_size: height and width of the frame, pixels.
        engine_semantic: (h, w) uint8 class ids at the bundle's input size.
        engine_anomaly_score: (h, w) float32 in [0, 1] at the bundle's input size.
        anomaly_threshold: in [0, 1].
        obstacles: the largest first; empty where no detector looks for them.
    """

    frame_size: tuple[int, int]
    engine_semantic: NDArray[np.uint8]
    engine_anomaly_score: NDArray[np.float32]
    anomaly_threshold: float
    obstacles: tuple[Obstacle, ...] = ()

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


class Perception:
    """An engine with a threshold and, if wanted, a detector of obstacles that remembers the frames before: one for each
    camera. The same frames with the same stamps and geometry give the same results, in the node and in a replay.

    Args:
        engine: opened; stays the caller's to close.
        anomaly_threshold: in [0, 1]; a pixel is anomalous where its score is at least this.
        num_classes: of the bundle.
        detector: of this camera's obstacles; None looks for none.
        output_size: (h, w) that the engine's outputs must have, the bundle's input size; None takes any.
    """

    def __init__(
        self,
        engine: InferenceEngine,
        anomaly_threshold: float,
        num_classes: int,
        detector: ObstacleDetector | None = None,
        output_size: tuple[int, int] | None = None,
    ) -> None:
        if not 0 <= anomaly_threshold <= 1:
            raise ValueError(f"anomaly_threshold is {anomaly_threshold}; it must be in [0, 1]")
        self.engine = engine
        self.anomaly_threshold = anomaly_threshold
        self.num_classes = num_classes
        self.detector = detector
        self.output_size = output_size

    def __call__(
        self, image: NDArray[np.uint8], stamp_ns: int = 0, ground: GroundProjection | None = None
    ) -> FramePerception:
        """(H, W, 3) uint8 in the bundle's colour order, H and W at least 1.

        Args:
            image: see above.
            stamp_ns: of the frame, nanoseconds; only a detector needs it.
            ground: the camera's geometry, where obstacles are to be placed.

        Raises:
            EngineError: the engine failed, or gave another size or type than the graph's outputs have, scores outside
                [0, 1], or ids that no class has.
        """
        output = self.engine.run(image[None])
        self._check_layout(output)
        semantic, score = output.semantic[0], output.anomaly_score[0]
        # Written so that NaN fails too: it compares false, and would be published as "nothing unusual here".
        if not (score.min() >= 0 and score.max() <= 1):
            raise EngineError(f"the engine '{self.engine.name}' gave anomaly scores that are not in [0, 1]")
        if semantic.max() >= self.num_classes:
            raise EngineError(f"the engine '{self.engine.name}' gave the id {semantic.max()}, which no class has")
        result = FramePerception(
            frame_size=(image.shape[0], image.shape[1]),
            engine_semantic=semantic,
            engine_anomaly_score=score,
            anomaly_threshold=self.anomaly_threshold,
        )
        if self.detector is None:
            return result
        return replace(result, obstacles=self.detector(result, stamp_ns, ground))

    def _check_layout(self, output: EngineOutput) -> None:
        """Resized to the frame, a plane of another size would be a mask that looks right."""
        semantic, score = output.semantic, output.anomaly_score
        size = semantic.shape[1:] if self.output_size is None else self.output_size
        expected = (1, *size)
        if (
            semantic.shape != expected
            or score.shape != expected
            or len(expected) != 3
            or 0 in expected
            or semantic.dtype != np.uint8
            or score.dtype != np.float32
        ):
            wanted = "(1, h, w)" if self.output_size is None else str(expected)
            raise EngineError(
                f"the engine '{self.engine.name}' gave semantic {semantic.shape} {semantic.dtype} and anomaly "
                f"{score.shape} {score.dtype}; they must be {wanted} uint8 and float32"
            )
