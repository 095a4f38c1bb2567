"""The settings that are tried beside each other: a small grid, and a ladder of thresholds for each of its settings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ros_ood_perception.bundle.description import BundleDescription, OperatingPoint
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.parameters.in_force import HELD, PARAMETER, in_force, is_default
from ros_ood_perception.parameters.parameter_file import parameter_values
from ros_ood_perception.parameters.settings import LiveSettings
from ros_ood_perception.pipeline.camera_pipeline import PipelineSettings

SEEN, OF, APPEARS = "persistence.seen_frames", "persistence.of_frames", "evidence.appears_at"
Settings = dict[str, Any]

MARKED: list[Settings] = [
    {"region.hysteresis": 0.7, "evidence.weak_sighting": 0.9, "evidence.strong_sighting": 1.2},
    {"region.hysteresis": 1.0, "evidence.weak_sighting": -1.2, "evidence.strong_sighting": 2.0},
]
"""Regions grow below the threshold; or the threshold is low, and low scores speak against an object."""
SIZES: list[Settings] = [
    {"region.min_area": area, "region.min_size_m": size_m}
    for area, size_m in ((0.0001, 0.2), (0.0001, 0.3), (0.0001, 0.4), (0.0002, 0.0), (0.0004, 0.0), (0.001, 0.0))
]
"""A smallest size on the ground, with a small share of the picture for what has no place there; or a share only."""
PERSISTENCE: list[Settings] = [
    {SEEN: seen, OF: of, APPEARS: evidence} for seen, of, evidence in ((2, 3, 2.0), (3, 5, 3.2), (5, 8, 5.0))
]
"""An obstacle appears after about two, three or five frames, with the vehicle's motion (evidence) and without it. Where
high scores give more evidence (`MARKED`), a strong one appears sooner."""
EACH_FRAME: Settings = {SEEN: 1, OF: 1}
"""Persistence of frames that stand for themselves."""

LOWEST, HIGHEST, STEP = -3.0, 9.0, 0.05
"""Log-odds of the thresholds. A step changes the share of known pixels above the threshold by less than a tenth."""
THRESHOLDS = tuple(
    1 / (1 + math.exp(-(LOWEST + STEP * number))) for number in range(round((HIGHEST - LOWEST) / STEP) + 1)
)
"""From the lowest to the highest, 0.05 to 0.9999."""
COARSE = 8
"""Every so many-th threshold is tried first, 0.4 in log-odds apart; then those just below the lowest that is good."""


class CandidateError(PerceptionError, ValueError):
    """Settings that cannot be tried. The message says what to give instead."""


@dataclass(frozen=True)
class Candidate:
    """One setting of regions and persistence, to be tried with some of `THRESHOLDS`.

    Attributes:
        tried: the settings that differ between candidates, by parameter name.
        settings: all that an operating point then holds, by parameter name.
    """

    tried: Settings
    settings: Settings

    def point(self, threshold: float, name: str = "candidate") -> OperatingPoint:
        """The candidate with a threshold as an operating point."""
        return OperatingPoint(name, threshold, "", "", settings=self.settings)

    def pipeline_settings(self, live: LiveSettings, known: BundleDescription, threshold: float) -> PipelineSettings:
        """What node and replay do with this point and the user's parameters.

        Raises:
            ParameterError: the settings cannot work with the parameters.
        """
        point = self.point(threshold)
        return replace(live, operating_point=point.name).pipeline_settings(replace(known, operating_points=(point,)))


def candidates(live: LiveSettings, tries: Sequence[str], weighs_objects: bool, each_frame: bool) -> list[Candidate]:
    """The grid.

    Settings that the user's parameters set are kept, because they would win over the operating point.

    Args:
        live: the user's parameters.
        tries: `NAME=VALUE,VALUE`; they replace the values of the grid.
        weighs_objects: the grid is tried. Without objects nothing would show what its settings cost, and only `tries`
            are.
        each_frame: persistence is 1 of 1.

    Raises:
        CandidateError: a name that cannot be tried, or nothing that can work.
    """
    own = in_force(live.given, OperatingPoint("none", 1.0, "", ""))
    fixed = {name for name, source in own.sources.items() if source == PARAMETER}
    axes = [MARKED, SIZES, *([] if each_frame else [PERSISTENCE])] if weighs_objects else []
    for text in tries:
        name, values = _tried(text)
        if name in fixed:
            raise CandidateError(f"--try {name}: the parameters set it to {own.values[name]}; remove it there")
        axes = [axis for axis in axes if name not in axis[0]] + [[{name: value} for value in values]]
    axes = [axis for axis in axes if not fixed & axis[0].keys()]
    # A list of texts at its default says what the bundle says; the point leaves that open.
    base = {n: v for n, v in own.values.items() if not (isinstance(v, (list, tuple)) and is_default(HELD[n], v))}
    base = {name: list(value) if isinstance(value, tuple) else value for name, value in base.items()}
    if each_frame:
        if (fixed | {name for axis in axes for name in axis[0]}) & {SEEN, OF}:
            raise CandidateError(
                f"frames that stand for themselves have {SEEN} 1 and {OF} 1; remove these from parameters and --try"
            )
        base |= EACH_FRAME
    found = []
    for parts in itertools.product(*axes):
        tried: Settings = dict(pair for part in parts for pair in part.items())
        settings = {**base, **tried}
        if settings[SEEN] <= settings[OF]:
            found.append(Candidate(tried, settings))
    if not found:
        raise CandidateError(f"--try: no candidate has {SEEN} of at most {OF}")
    return found


def kept_settings(live: LiveSettings) -> dict[str, Any]:
    """The settings that the user's parameters set, by name."""
    own = in_force(live.given, OperatingPoint("none", 1.0, "", ""))
    return {name: own.values[name] for name, source in own.sources.items() if source == PARAMETER}


def _tried(text: str) -> tuple[str, list[Any]]:
    name, separator, values = text.partition("=")
    if not separator or name not in HELD or isinstance(HELD[name].default_value, tuple):
        names = ", ".join(n for n, d in HELD.items() if not isinstance(d.default_value, tuple))
        raise CandidateError(f"--try {text}: it must be NAME=VALUE,VALUE with a NAME of {names}")
    changes = (f"{name}={value}" for value in values.split(","))
    return name, [parameter_values(None, [change], "/perception_node")[name] for change in changes]


def shown_settings(settings: Mapping[str, Any]) -> str:
    """Settings for a table, by the last part of their names.

    >>> shown_settings({"region.min_area": 0.001, "persistence.seen_frames": 3, "persistence.of_frames": 5})
    'min_area 0.001, seen 3 of 5'
    """
    parts = []
    for name, value in settings.items():
        if name == SEEN and OF in settings:
            parts.append(f"seen {value} of {settings[OF]}")
        elif name != OF or SEEN not in settings:
            parts.append(f"{name.rpartition('.')[2]} {value:g}")
    return ", ".join(parts) or "as the parameters have them"
