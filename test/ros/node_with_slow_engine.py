"""`perception_node` whose engine takes half a second for each frame."""

import sys
import time
from typing import Any

from ros_ood_perception.inference.engine import EngineOutput
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from ros_ood_perception.node.perception_node import main

run = OnnxRuntimeEngine.run


def run_slowly(engine: OnnxRuntimeEngine, images: Any) -> EngineOutput:
    time.sleep(0.5)
    return run(engine, images)


OnnxRuntimeEngine.run = run_slowly  # type: ignore[assignment, method-assign]
sys.exit(main())
