"""The cost of the inference deadline for a frame: an engine that does nothing, with and without the watchdog.

python -m benchmark.watch_cost
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from ros_ood_perception.inference.engine import EngineOutput
from ros_ood_perception.inference.failure_policy import FailurePolicy
from ros_ood_perception.node.engine_supervisor import EngineSupervisor
from ros_ood_perception.node.frames.received import FrameClaim

FRAMES = 20_000
ROUNDS = 5
IMAGES = np.zeros((1, 2, 2, 3), np.uint8)
OUTPUT = EngineOutput(IMAGES[..., 0], IMAGES[..., 0].astype(np.float32))


class Nothing:
    """An engine that takes no time."""

    name = "nothing"

    def run(self, images: object) -> EngineOutput:
        """The same result every time."""
        return OUTPUT

    def close(self) -> None:
        """Nothing to release."""


def bare() -> float:
    """Seconds a frame of the call alone."""
    engine = Nothing()
    began = time.perf_counter()
    for _ in range(FRAMES):
        engine.run(IMAGES)
    return (time.perf_counter() - began) / FRAMES


def watched() -> float:
    """Seconds a frame with everything that the deadline needs."""
    supervisor = EngineSupervisor(lambda name: Nothing(), "nothing", ("nothing",), FailurePolicy(), print)
    supervisor.open()
    began = time.perf_counter()
    for _ in range(FRAMES):
        claim = FrameClaim()
        with supervisor.watch.at("a frame", supervisor.deadline_s, claim):
            supervisor.run(IMAGES)
            claim.claim("inference")
            claim.claim("inference")
    return (time.perf_counter() - began) / FRAMES


def main() -> None:
    """Print the medians of alternating rounds."""
    costs = [watched() - bare() for _ in range(ROUNDS)]
    print(f"the watch costs a frame {statistics.median(costs) * 1e6:.1f} us ({min(costs) * 1e6:.1f} to ", end="")
    print(f"{max(costs) * 1e6:.1f} in {ROUNDS} rounds of {FRAMES} frames)")


if __name__ == "__main__":
    main()
