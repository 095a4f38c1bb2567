"""Draws the faults of each round from the seed and the number of the round."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmark.faults.frames import CAMERAS, TRANSPORTS
from benchmark.faults.hostile import INFOS, OF_TRANSPORT
from benchmark.faults.processes.faulty_engine import HANGS, LAGS, MODES

HANG = "engine_hangs"
FAULTS = (
    *("node_killed", "node_stopped", "camera_killed", "camera_stopped", "consumer_killed", "consumer_stopped"),
    *("recorder_disk_full", "node_disk_full", "node_memory", "node_descriptors"),
    *("hostile_camera", "hostile_stranger", "hostile_camera_info"),
    *("stamps_set_back", "clock_set_back", "parameters", "invalid_parameters"),
    *("engine", "engine_given_up", HANG, "lifecycle"),
)
SELF_CHECK = "results_of_another_frame"
"""An engine that returns valid results of the frame before: only the comparison with the replay can find it."""
ALONE = ("invalid_parameters", SELF_CHECK)
"""Never together with another fault. A value that is invalid for an active node may be valid after a clean-up."""
PAIRS = 0.15
"""Share of rounds with two faults at once."""
THRESHOLDS = (0.05, 0.2, 0.35, 0.5, 0.62)


@dataclass(frozen=True)
class PlannedFault:
    """One fault of a round and its drawn options."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Round:
    """One round.

    Attributes:
        number: from 1.
        before_s: from the round's beginning to the first fault.
        gap_s: from the first fault to the second.
        hold_s: how long the faults last.
    """

    number: int
    faults: tuple[PlannedFault, ...]
    before_s: float
    gap_s: float
    hold_s: float

    @property
    def title(self) -> str:
        """Names of the faults."""
        return " + ".join(fault.name for fault in self.faults)


def plan(seed: int, rounds: int, names: Sequence[str] = FAULTS, pairs: float = PAIRS) -> list[Round]:
    """The rounds. As the first fault of a round, each fault comes once before any comes twice.

    Args:
        pairs: the share of rounds with two faults, 0 to 1.
    """
    found = []
    order: list[str] = []
    for number in range(1, rounds + 1):
        generator = random.Random(f"{seed}/{number}")
        if not order:
            order = list(names)
            random.Random(f"{seed}/order/{number}").shuffle(order)
        chosen = [order.pop()]
        others = [name for name in names if name not in (chosen[0], *ALONE)]
        if generator.random() < pairs and others and chosen[0] not in ALONE:
            chosen.append(generator.choice(others))
        faults = tuple(PlannedFault(name, _options(name, generator)) for name in chosen)
        found.append(
            Round(number, faults, generator.uniform(0, 0.5), generator.uniform(0, 0.3), generator.uniform(0.5, 1.5))
        )
    return found


def _options(name: str, generator: random.Random) -> dict[str, Any]:
    camera = generator.choice(CAMERAS)
    if name in ("camera_killed", "camera_stopped"):
        return {"camera": camera}
    if name in ("hostile_camera", "hostile_stranger"):
        transport = generator.choice(TRANSPORTS)
        known = list(OF_TRANSPORT[transport])
        return {"camera": camera, "transport": transport, "messages": generator.sample(known, 6)}
    if name == "hostile_camera_info":
        return {"camera": camera, "messages": generator.sample(INFOS, 4)}
    if name == "stamps_set_back":
        return {"camera": camera, "seconds": generator.choice((0.5, 60.0, 86_400.0, 1_500_000_000.0))}
    if name == "clock_set_back":
        return {"seconds": generator.choice((5.0, 600.0, 86_400.0))}
    if name == "parameters":
        return {"changes": [_valid_change(generator) for _ in range(3)]}
    if name == "invalid_parameters":
        return {"changes": generator.sample(range(100), 4)}
    if name == "engine":
        return {"mode": generator.choice(MODES), "seconds": generator.choice((0.0, 0.5, 1.5))}
    if name == "node_memory":
        return {"left_bytes": generator.choice((0, 1 << 20, 1 << 24)), "engine": generator.choice(("", "raises"))}
    if name == "engine_given_up":
        return {"mode": generator.choice(("raises", "does_not_open", "not_a_number"))}
    if name == SELF_CHECK:
        return {"mode": LAGS, "seconds": 1.0}
    if name == HANG:
        return {"mode": generator.choice(HANGS)}
    if name == "lifecycle":
        steps = [generator.choice(("deactivate", "activate", "cleanup", "configure")) for _ in range(4)]
        transport = generator.choice(TRANSPORTS)
        return {"steps": [(step, generator.uniform(0, 0.3)) for step in steps], "transport": transport}
    return {}


def _valid_change(generator: random.Random) -> dict[str, Any]:
    """Live parameters that may be set together."""
    threshold = generator.choice(THRESHOLDS)
    others = (
        {"score_encoding": generator.choice(("mono8", "32FC1"))},
        {"max_frame_age_ms": generator.choice((0.0, 1.0, 5000.0))},
        {"max_rate_hz": generator.choice((0.0, 5.0, 30.0))},
        {"outputs": generator.sample(("semantic_mask", "anomaly_mask", "anomaly_score", "overlay", "obstacles"), 3)},
        {"region.hysteresis": generator.choice((0.2, 1.0)), "region.min_area": generator.choice((0.0, 0.01))},
        {"persistence.of_frames": 10, "persistence.seen_frames": 9},
        {"ground.max_range_m": generator.choice((0.5, 500.0))},
        {"stale_after_s": 60.0},
    )
    return {"anomaly_threshold": threshold, **generator.choice(others)}
