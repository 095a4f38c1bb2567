"""The CPU engine: ONNX Runtime."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ros_ood_perception.bundle.model_bundle import Bundle
from ros_ood_perception.inference.engine import EngineError, EngineOutput

INPUTS = {"image": "tensor(uint8)"}


class OnnxRuntimeEngine:
    """Runs the bundle's graph on the CPU.

    Args:
        num_threads: of one inference; 0: every CPU that this process may use.

    Raises:
        EngineError: ONNX Runtime cannot load the graph, or the graph has other inputs or outputs than a bundle's.
    """

    name = "onnxruntime"
    outputs: ClassVar[dict[str, str]] = {"semantic": "tensor(uint8)", "anomaly": "tensor(float)"}

    def __init__(self, bundle: Bundle, num_threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads = num_threads or len(os.sched_getaffinity(0))
        # Other processes share the cores, so a waiting worker must sleep and not spin.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Only the verified bytes are used. Weights in other files would be read from the working directory; in
        # /dev/null there are none. ONNX Runtime's own model format is refused, because the bundle's checks know ONNX
        # only.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
        options.add_session_config_entry("session.load_model_format", "ONNX")
        try:
            self._session = onnxruntime.InferenceSession(bundle.model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no common public base class
            raise EngineError(f"ONNX Runtime cannot load the model of {bundle.folder}: {error}") from error
        for kind, found, wanted in (
            ("inputs", {i.name: i.type for i in self._session.get_inputs()}, INPUTS),
            ("outputs", {o.name: o.type for o in self._session.get_outputs()}, self.outputs),
        ):
            if found != wanted:
                raise EngineError(f"the model of {bundle.folder} has the {kind} {found}; a bundle has {wanted}")
        self._run_options = onnxruntime.RunOptions()
        self._size = bundle.description.input.size

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """See `InferenceEngine.run`."""
        semantic, anomaly = self._run(images)
        return EngineOutput(semantic=semantic, anomaly_score=anomaly)

    def _run(self, images: NDArray[np.uint8]) -> list[NDArray[Any]]:
        """All of `outputs`, in that order."""
        try:
            feeds = {"image": np.ascontiguousarray(images)}
            found = self._session.run(list(self.outputs), feeds, self._run_options)
        except Exception as error:  # as above
            raise EngineError(f"ONNX Runtime failed on images {images.shape} {images.dtype}: {error}") from error
        semantic, anomaly = found[:2]
        expected = (len(images), *self._size)
        if semantic.shape != expected or anomaly.shape != expected:
            raise EngineError(
                f"the model gives semantic {semantic.shape} and anomaly {anomaly.shape}; "
                f"its bundle.yaml says {expected}"
            )
        return found

    def cancel(self) -> None:
        """See `CancellableEngine`. Takes effect between two nodes of the graph, also within a loop."""
        self._run_options.terminate = True

    def close(self) -> None:
        """Free the session and its memory arena."""
        del self._session
