"""Where on Earth a recording was made: its satellite fixes, one of them for each frame."""

from __future__ import annotations

import math
from bisect import bisect_left
from pathlib import Path

from ros_ood_perception.recordings.bag import Bag, BagError

FIX_TYPE = "sensor_msgs/msg/NavSatFix"
FARTHEST_NS = 1_000_000_000
"""A fix counts for frames that are at most so far from it in time."""


class Positions:
    """Satellite fixes in order of time.

    Args:
        fixes: time in the recording in nanoseconds, latitude and longitude in degrees.

    >>> positions = Positions([(0, 48.0, 11.0), (1_000_000_000, 48.5, 11.5)])
    >>> positions.at(400_000_000), positions.at(3_000_000_000)
    ((48.0, 11.0), (None, None))
    """

    def __init__(self, fixes: list[tuple[int, float, float]]) -> None:
        self._fixes = sorted(fixes)
        self._times = [time_ns for time_ns, _, _ in self._fixes]

    def at(self, time_ns: int) -> tuple[float, float] | tuple[None, None]:
        """Latitude and longitude of the nearest fix, the earlier of two; None where there is none near in time."""
        after = bisect_left(self._times, time_ns)
        near = self._fixes[max(after - 1, 0) : after + 1]
        found = min(near, key=lambda fix: abs(fix[0] - time_ns), default=None)
        if found is None or abs(found[0] - time_ns) > FARTHEST_NS:
            return None, None
        return found[1], found[2]


def read_positions(path: Path, start_ns: int | None, stop_ns: int | None) -> Positions:
    """The fixes of a bag between two times, and as far around them as a fix counts.

    Fixes without a position and messages that cannot be read are skipped. Of several topics the one with most messages
    is used.

    Raises:
        BagError: it cannot be opened.
    """
    bag = Bag(path)
    topics = sorted(topic for topic, kind in bag.types.items() if kind == FIX_TYPE and bag.counts.get(topic))
    if not topics:
        return Positions([])
    topic = max(topics, key=lambda name: bag.counts[name])
    first = None if start_ns is None else start_ns - FARTHEST_NS
    # The end of a span is not in it.
    last = None if stop_ns is None else stop_ns + FARTHEST_NS + 1
    fixes = []
    for message in bag.messages([topic], first, last):
        try:
            fix = bag.deserialize(message)
        except BagError:
            continue
        if fix.status.status >= 0 and math.isfinite(fix.latitude) and math.isfinite(fix.longitude):
            fixes.append((message.time_ns, fix.latitude, fix.longitude))
    return Positions(fixes)
