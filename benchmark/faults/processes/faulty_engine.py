"""`perception_node`, the product's own, on an engine that fails as the link `FAULTY_ENGINE` says (one of `MODES`)."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.inference.engine import EngineError, EngineOutput, InferenceEngine
from ros_ood_perception.inference.opening import open_engine
from ros_ood_perception.node import configured, perception_node

VARIABLE = "FAULTY_ENGINE"
MODES = (
    *("raises", "raises_another_error", "raises_no_exception", "out_of_memory", "does_not_open", "does_not_close"),
    *("not_a_number", "infinite", "negative", "above_one", "unknown_class"),
    *("half_size", "transposed", "one_row", "no_pixels", "no_frames", "extra_dimension", "float64", "wide_ids"),
    "slow",
)
HANGS = ("hangs", "hangs_with_pythons_lock", "hangs_when_opened", "hangs_when_closed")
LAGS = "lags"
"""Returns the result of the frame before."""
SLOW_S = 0.6
FOR_EVER_S = 10**6


def mode() -> str:
    """The current mode; "" for none."""
    try:
        # Reading a link needs no descriptor, of which the node may have run out.
        return os.readlink(os.environ[VARIABLE])
    except FileNotFoundError:
        return ""


def ask_for(link: Path, wanted: str) -> None:
    """Set the mode of the engines that read the link; "" for a good engine."""
    if not wanted:
        link.unlink(missing_ok=True)
        return
    new = link.with_suffix(".new")
    new.symlink_to(wanted)
    new.replace(link)


class FaultyEngine:
    """An `InferenceEngine` around a good one."""

    def __init__(self, engine: InferenceEngine) -> None:
        self._engine = engine
        self.name = engine.name
        self._last: EngineOutput | None = None

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """See `InferenceEngine.run`."""
        asked = mode()
        if asked in ("raises", "does_not_close", "does_not_open"):
            raise EngineError("as asked for")
        if asked == "raises_another_error":
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if asked == "raises_no_exception":
            raise SystemExit("as asked for")
        if asked == "out_of_memory":
            raise MemoryError
        if asked in HANGS:
            self._hang_or_fail(asked)
        if asked == "slow":
            time.sleep(SLOW_S)
        good = self._engine.run(images)
        last, self._last = self._last, good
        return last if asked == LAGS and last is not None else spoiled(good, asked)

    def _hang_or_fail(self, asked: str) -> None:
        if asked == "hangs":
            time.sleep(FOR_EVER_S)
        if asked == "hangs_with_pythons_lock":
            # Like a driver's call that keeps Python's lock: no other Python thread runs meanwhile.
            ctypes.PyDLL(None).sleep(FOR_EVER_S)
        # An engine that is closed and opened again has failed before.
        raise EngineError("as asked for")

    def close(self) -> None:
        """See `InferenceEngine.close`."""
        if mode() == "hangs_when_closed":
            time.sleep(FOR_EVER_S)
        self._engine.close()
        if mode() == "does_not_close":
            raise RuntimeError("CUDA error: an illegal memory access was encountered")


def spoiled(good: EngineOutput, asked: str) -> EngineOutput:
    """A result that no engine may return, or the good one."""
    ids, score = good.semantic, good.anomaly_score.copy()
    values = {"not_a_number": np.nan, "infinite": np.inf, "negative": -0.01, "above_one": 1.01}
    if asked in values:
        score[0, -1, -1] = values[asked]
    elif asked == "unknown_class":
        ids = ids.copy()
        ids[0, 0, 0] = 200
    elif asked == "half_size":
        ids, score = ids[:, ::2, ::2], score[:, ::2, ::2]
    elif asked == "transposed":
        ids, score = ids.swapaxes(1, 2), score.swapaxes(1, 2)
    elif asked == "one_row":
        ids, score = ids[:, :1], score[:, :1]
    elif asked == "no_pixels":
        ids, score = ids[:, :0], score[:, :0]
    elif asked == "no_frames":
        ids, score = ids[:0], score[:0]
    elif asked == "extra_dimension":
        ids, score = ids[..., None].repeat(2, -1), score[..., None].repeat(2, -1)
    elif asked == "float64":
        score = score.astype(np.float64)  # type: ignore[assignment]
    elif asked == "wide_ids":
        ids = ids.astype(np.int64)  # type: ignore[assignment]
    return EngineOutput(semantic=ids, anomaly_score=score)


def open_faulty(*arguments: Any) -> InferenceEngine:
    """Replaces `open_engine`."""
    if mode() == "does_not_open":
        raise RuntimeError("CUDA error: no device")
    if mode() == "hangs_when_opened":
        time.sleep(FOR_EVER_S)
    return FaultyEngine(open_engine(*arguments))


if __name__ == "__main__":
    configured.open_engine = open_faulty  # type: ignore[assignment, attr-defined]
    sys.exit(perception_node.main())
