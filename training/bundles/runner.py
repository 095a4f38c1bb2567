"""A bundle run over frames of a data set: the node's results, and other values of the logits."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle.model_bundle import Bundle
from ros_ood_perception.camera.letterbox import Letterbox
from ros_ood_perception.inference.engine import EngineError
from ros_ood_perception.inference.engine_of_sizes import EngineOfSizes
from ros_ood_perception.inference.opening import open_engine
from ros_ood_perception.inference.perception import FramePerception, Perception, letterbox_of
from training.bundles.graph import MASK_SUMS, GraphError, LogitsEngine, source_of_score
from training.segmenter.mask_scores import ALL_SCORES


@dataclass(frozen=True)
class LogitScore:
    """A score of logits at a temperature, written NAME or NAME@T.

    >>> LogitScore.parse("entropy@2")
    LogitScore(name='entropy', temperature=2.0)
    """

    name: str
    temperature: float

    def __str__(self) -> str:
        return self.name if self.temperature == 1 else f"{self.name}@{self.temperature:g}"

    @classmethod
    def parse(cls, text: str) -> LogitScore:
        """Read NAME or NAME@T.

        Raises:
            ValueError: there is no such score, or T is not positive.
        """
        name, at, temperature = text.partition("@")
        try:
            value = float(temperature) if at else 1.0
        except ValueError:
            value = float("nan")
        if name not in ALL_SCORES or not 0 < value < float("inf"):
            raise ValueError(f"'{text}' is not NAME or NAME@T with T > 0 and NAME one of {', '.join(ALL_SCORES)}")
        return cls(name, value)


class BundleRunner:
    """A bundle's engine for frames of a data set, with further scores.

    Args:
        scores: besides the bundle's own.

    Raises:
        EngineError: the engine cannot run here, or gives no logits for the scores.
        GraphError: the graph gives no logits for the scores, or a score does not suit its network.
    """

    def __init__(self, bundle: Bundle, engine_name: str, scores: Sequence[LogitScore] = ()) -> None:
        self.bundle = bundle
        self.scores = tuple(scores)
        self.engine = open_engine(bundle, engine_name)
        self._with_logits: Mapping[tuple[int, int], LogitsEngine] = {}
        self._why_no_logits = f"the engine '{self.engine.name}' gives no logits; {LogitsEngine.name} does"
        if self.engine.name == LogitsEngine.name:
            try:
                self._with_logits = {size: LogitsEngine(bundle.at(size)) for size in bundle.description.input.sizes}
            except GraphError as error:
                if scores:
                    raise
                self._why_no_logits = str(error)
                warnings.warn(f"no confidences, and so no calibration error: {error}", stacklevel=2)
        elif scores:
            raise EngineError(f"--score needs the engine {LogitsEngine.name}; '{self.engine.name}' gives no logits")
        if self._with_logits:
            self.engine.close()
            self.engine = EngineOfSizes(bundle.description.input, self._with_logits)
            of_masks = MASK_SUMS in self._with_logits[bundle.description.input.size].sources
            for score in scores:
                source_of_score(score.name, of_masks)
        self._frame_size = (1, 1)
        self._box: Letterbox | None = None
        self.perception = Perception(self.engine, 1.0, len(bundle.description.classes), bundle.description.input)

    def perceive(self, image: NDArray[np.uint8]) -> FramePerception:
        """(H, W, 3) uint8 RGB -> the node's result for this image."""
        self._frame_size = (image.shape[0], image.shape[1])
        self._box = letterbox_of(image, self.bundle.description.input)
        if self.bundle.description.input.colour_order == "bgr":
            image = np.ascontiguousarray(image[..., ::-1])
        return self.perception(image)

    @property
    def logits(self) -> NDArray[np.float32]:
        """Logits of the last frame of `perceive`: (K, h, w) float32, of the part of the input that shows it.

        Raises:
            EngineError: the engine or the bundle's graph gives no logits.
        """
        found = self._engine_of_logits().last_logits[0]
        return found if self._box is None else self._box.cut(found)

    def values(self, score: str) -> NDArray[np.float32]:
        """What a score of the last frame is computed from: (C, h, w) float32, of the part that shows the frame.

        Raises:
            EngineError: as `logits`.
            GraphError: the score does not suit the network.
        """
        found = self._engine_of_logits().last_values(score)[0]
        return found if self._box is None else self._box.cut(found)

    def _engine_of_logits(self) -> LogitsEngine:
        """Of the size that the last frame took."""
        if not self._with_logits:
            raise EngineError(self._why_no_logits)
        return self._with_logits[self.bundle.description.input.size_for(self._frame_size)]

    def confidence(self, frame_size: tuple[int, int]) -> NDArray[np.float32] | None:
        """The largest class probability of the last frame of `perceive`: (H, W) float32 in [0, 1].

        None if the engine gives no logits.
        """
        if not self._with_logits:
            return None
        confidence = self._engine_of_logits().confidence(self.bundle.description.score.temperature)
        return np.clip(self._of_frame(confidence[0], frame_size), 0, 1)

    def other_score(self, score: LogitScore, frame_size: tuple[int, int]) -> NDArray[np.float32]:
        """Another score of the last frame of `perceive`: (H, W) float32 in [0, 1]."""
        values = self._engine_of_logits().score(score.name, score.temperature)
        return np.clip(self._of_frame(values[0], frame_size), 0, 1)

    def _of_frame(self, plane: NDArray[np.float32], frame_size: tuple[int, int]) -> NDArray[np.float32]:
        """A plane at the input's size, cut and scaled to the frame as the node does it with the score."""
        cut = plane if self._box is None else self._box.cut(plane)
        return FramePerception(frame_size, np.zeros(cut.shape, np.uint8), cut, 1.0).anomaly_score

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()
