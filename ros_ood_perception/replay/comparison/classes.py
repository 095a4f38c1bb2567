"""Matches the classes of two runs by their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.replay.comparison.limits import ComparisonError
from ros_ood_perception.replay.comparison.opened_run import UNKNOWN_COLOUR, RunClasses

UNLABELLED = 255


@dataclass(frozen=True)
class MatchedClasses:
    """The classes of both runs, under the ids of this run.

    Attributes:
        names: of this run, by id.
        common: ids of the classes that both runs have.
        only_here, only_there: names of the others.
        table: (256,) uint8: id of the other run to id here. A class that only the other run has gets an id above
            those of this run.
        colours: (256, 3): by id here.
    """

    names: tuple[str, ...]
    common: tuple[int, ...]
    only_here: tuple[str, ...]
    only_there: tuple[str, ...]
    table: NDArray[np.uint8]
    colours: tuple[tuple[int, int, int], ...]

    def facts(self) -> dict[str, Any]:
        """Plain values for `comparison.json`."""
        return {
            "classes_only_here": list(self.only_here),
            "classes_only_there": list(self.only_there),
        }


def match_classes(here: RunClasses | None, there: RunClasses | None) -> MatchedClasses:
    """Match by name.

    Args:
        here, there: None: the run does not name its classes.

    Raises:
        ComparisonError: a run does not name its classes, or the runs have none in common, or more than a mask has ids.

    >>> here = RunClasses(("road", "sky"), ((1, 1, 1), (2, 2, 2)))
    >>> there = RunClasses(("sky", "car", "road"), ((0, 0, 0),) * 3)
    >>> matched = match_classes(here, there)
    >>> matched.table[:3].tolist(), matched.only_there
    ([1, 2, 0], ('car',))
    """
    for run, where in ((here, "this run"), (there, "the other run")):
        if run is None:
            raise ComparisonError(
                f"{where} does not name its classes, so its masks cannot be compared: record "
                "output/semantic/label_info with them (or /diagnostics, where both ran the same model), or give the "
                "--out of a replay"
            )
    assert here is not None
    assert there is not None
    ids = {name: number for number, name in enumerate(here.names)}
    extra = [name for name in there.names if name not in ids]
    common = tuple(sorted(ids[name] for name in there.names if name in ids))
    if not common:
        raise ComparisonError(
            f"the runs have no class in common: this one has {', '.join(here.names)}; the other "
            f"{', '.join(there.names)}; compare bundles with the same classes"
        )
    if len(here.names) + len(extra) > UNLABELLED:
        raise ComparisonError(f"the runs have {len(here.names) + len(extra)} classes together; at most 255 fit")
    ids |= {name: len(here.names) + number for number, name in enumerate(extra)}
    table = np.full(256, UNLABELLED, np.uint8)
    colours = dict(enumerate(here.colours))
    for number, (name, colour) in enumerate(zip(there.names, there.colours, strict=True)):
        table[number] = ids[name]
        colours.setdefault(ids[name], colour)
    by_id = tuple(colours.get(number, UNKNOWN_COLOUR) for number in range(256))
    only_here = tuple(name for name in here.names if name not in there.names)
    return MatchedClasses(here.names, common, only_here, tuple(extra), table, by_id)
