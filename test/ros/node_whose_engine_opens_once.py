"""`perception_node` on a GPU that has a fault: its engine opens once, and then neither closes nor opens again."""

import sys
from typing import Any

from ros_ood_perception.inference.engine import EngineError, InferenceEngine
from ros_ood_perception.inference.opening import open_engine
from ros_ood_perception.node import configured, perception_node

opened: list[InferenceEngine] = []


def open_once(*arguments: Any) -> InferenceEngine:
    if opened:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    engine = open_engine(*arguments)

    def close() -> None:
        raise EngineError("the NVIDIA driver says 'an illegal memory access was encountered' (700) to cuCtxSetCurrent")

    engine.close = close  # type: ignore[method-assign]
    opened.append(engine)
    return engine


configured.open_engine = open_once  # type: ignore[assignment, attr-defined]
sys.exit(perception_node.main())
