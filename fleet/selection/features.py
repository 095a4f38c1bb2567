"""Embeddings of frames by the bundle's own network: its last features, pooled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray

from ros_ood_perception.bundle.model_bundle import Bundle
from ros_ood_perception.inference.engine import EngineError, EngineOutput
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from ros_ood_perception.inference.perception import FramePerception, Perception

CELLS = (3, 4)
"""Rows and columns of the grid over which features are pooled: what is where in the picture counts."""
SCORE_BINS = 8
CLASSIFIERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
IMAGE, SEMANTIC = "image", "semantic"


def last_features(graph: onnx.GraphProto) -> str | None:
    """Name of the last tensor with features in a bundle's graph: what the layer that gives the classes reads.

    The search goes back from the output `semantic` while an operator reads one tensor that depends on the image, or
    slices of one. It ends at the first layer that mixes channels, and gives what that layer reads. Where two such
    tensors meet first, as in a network that predicts masks, it gives what comes out there: the scores of the classes.

    Returns:
        The name; None if no tensor lies between the image and the classes.
    """
    producers = {name: node for node in graph.node for name in node.output}
    depends = {IMAGE}
    for node in graph.node:
        if depends.intersection(node.input):
            depends.update(node.output)
    name = SEMANTIC
    while (node := producers.get(name)) is not None:
        read = {_whole(tensor, producers) for tensor in node.input if tensor in depends}
        if len(read) != 1:
            return name if read else None
        [tensor] = read
        if node.op_type in CLASSIFIERS and not _by_channel(node):
            return None if tensor == IMAGE else tensor
        name = tensor
    return None


def _whole(tensor: str, producers: Mapping[str, onnx.NodeProto]) -> str:
    """The tensor of which this one is a slice, or itself. Up-sampling repeats the rows and columns at the edge so."""
    while (node := producers.get(tensor)) is not None and node.op_type == "Slice":
        tensor = node.input[0]
    return tensor


def _by_channel(node: onnx.NodeProto) -> bool:
    """Whether a convolution mixes no channels, as one that up-samples the scores of the classes."""
    return any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)


class FeatureEngine(OnnxRuntimeEngine):
    """The bundle's graph in ONNX Runtime, with its last features as a further output.

    Attributes:
        tensor: their name; None if the graph has none that can be read. Then there are only the outputs.
        last: the features of the last images, or None.

    Raises:
        EngineError: ONNX Runtime cannot load the graph.
    """

    def __init__(self, bundle: Bundle, num_threads: int = 0) -> None:
        graph = onnx.load_from_string(bundle.model)
        self.tensor = last_features(graph.graph)
        self.last: NDArray[np.float32] | None = None
        if self.tensor is not None and self.tensor not in (SEMANTIC, "anomaly"):
            graph.graph.output.append(onnx.helper.make_tensor_value_info(self.tensor, onnx.TensorProto.FLOAT, None))
            self.outputs = {**OnnxRuntimeEngine.outputs, self.tensor: "tensor(float)"}  # type: ignore[misc]
            try:
                super().__init__(replace(bundle, model=graph.SerializeToString()), num_threads)
                return
            except EngineError:
                # The tensor holds other numbers than float32.
                self.outputs = OnnxRuntimeEngine.outputs  # type: ignore[misc]
        self.tensor = None
        super().__init__(bundle, num_threads)

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """As `OnnxRuntimeEngine.run`. The features are then in `last`."""
        semantic, anomaly, *features = self._run(images)
        self.last = features[0] if features else None
        return EngineOutput(semantic=semantic, anomaly_score=anomaly)


class EmbeddingNetwork:
    """Runs a bundle on single frames, with an embedding of each.

    Args:
        threshold: of the anomaly score, 0 to 1.
        num_threads: of the CPU engine; 0: every CPU that this process may use.
    """

    def __init__(self, bundle: Bundle, threshold: float, num_threads: int = 0) -> None:
        self._bundle, self._threshold, self._num_threads = bundle, threshold, num_threads
        self._engines: dict[tuple[int, int], FeatureEngine] = {}

    def __call__(self, image: NDArray[np.uint8]) -> tuple[FramePerception, NDArray[np.float32]]:
        """Results and embedding of a frame (H, W, 3) uint8 in the bundle's colour order.

        Raises:
            EngineError: the engine failed on it.
        """
        description = self._bundle.description
        size = description.input.size_for((image.shape[0], image.shape[1]))
        if size not in self._engines:
            self._engines[size] = FeatureEngine(self._bundle.at(size), self._num_threads)
        engine = self._engines[size]
        perceive = Perception(engine, self._threshold, len(description.classes), description.input)
        found = perceive(image)
        features = None if engine.last is None else pooled(engine.last[0])
        return found, shares(found, len(description.classes)) if features is None else features

    def close(self) -> None:
        """Free the engines."""
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()


def pooled(features: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Features of one frame as a vector of length 1: means over a grid of `CELLS`, or over the tokens.

    Args:
        features: (C, h, w), or (tokens, C).

    Returns:
        (C * cells,) or (C,); None for features of another form, and where they are all 0 or not finite.
    """
    if features.ndim == 3:
        planes = np.ascontiguousarray(features.transpose(1, 2, 0))
        rows, columns = (min(cells, side) for cells, side in zip(CELLS, planes.shape[:2], strict=True))
        parts = [part for band in np.array_split(planes, rows) for part in np.array_split(band, columns, axis=1)]
        vector = np.concatenate([part.mean(axis=(0, 1)) for part in parts])
    elif features.ndim == 2:
        vector = features.mean(axis=0)
    else:
        return None
    return _unit(vector)


def shares(found: FramePerception, classes: int) -> NDArray[np.float32]:
    """The embedding of a network whose features cannot be read: in each cell of a grid of `CELLS`, the shares of the
    classes, and those of the pixels with a score in each of `SCORE_BINS` equal spans."""
    ids, score = found.engine_semantic, found.engine_anomaly_score
    bins = np.minimum((score * SCORE_BINS).astype(np.uint8), SCORE_BINS - 1)
    parts = []
    for plane, count in ((ids, classes), (bins, SCORE_BINS)):
        for number in range(count):
            share = cv2.resize((plane == number).astype(np.float32), CELLS[::-1], interpolation=cv2.INTER_AREA)
            parts.append(share.ravel())
    vector = _unit(np.concatenate(parts))
    assert vector is not None  # the shares of a cell sum to 1
    return vector


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float32] | None:
    norm = float(np.linalg.norm(vector))
    return (vector / norm).astype(np.float32) if np.isfinite(norm) and norm > 0 else None
