"""`perception_node` whose engine hangs, where the environment variable HANGS says: as a driver's code would.

run          in the inference of a white frame, for ever, without Python's lock
run_holding  the same, with Python's lock
run_late     likewise, but for 1.1 s, and the result is a good one
open         when it is opened
reopen       when it is opened again
close        when it is closed
loop         nowhere; the thread that runs it ends by an error of the node's own
"""

import ctypes
import os
import sys
import time
from typing import Any

from ros_ood_perception.inference.engine import EngineOutput, InferenceEngine
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from ros_ood_perception.inference.opening import open_engine
from ros_ood_perception.node import configured, perception_node
from ros_ood_perception.node.engine_supervisor import EngineSupervisor

where = os.environ["HANGS"]
run, close = OnnxRuntimeEngine.run, OnnxRuntimeEngine.close
opened: list[InferenceEngine] = []


def hang_for_ever() -> None:
    time.sleep(1e6)


def run_and_hang(engine: OnnxRuntimeEngine, images: Any) -> EngineOutput:
    if images.min() == 255:
        if where == "run":
            hang_for_ever()
        if where == "run_holding":
            ctypes.PyDLL(None).sleep(10**6)
        if where == "run_late":
            time.sleep(1.1)
            images = images - 155
    return run(engine, images)


def close_and_hang(engine: OnnxRuntimeEngine) -> None:
    if where == "close":
        hang_for_ever()
    close(engine)


def open_and_hang(*arguments: Any) -> InferenceEngine:
    if where == "open" or (where == "reopen" and opened):
        hang_for_ever()
    opened.append(open_engine(*arguments))
    return opened[-1]


def break_the_loop(_supervisor: EngineSupervisor) -> None:
    raise LookupError("a fault of the node")


if where == "loop":
    EngineSupervisor.report_success = break_the_loop  # type: ignore[assignment, method-assign]
OnnxRuntimeEngine.run = run_and_hang  # type: ignore[assignment, method-assign]
OnnxRuntimeEngine.close = close_and_hang  # type: ignore[assignment, method-assign]
configured.open_engine = open_and_hang  # type: ignore[assignment, attr-defined]
sys.exit(perception_node.main())
