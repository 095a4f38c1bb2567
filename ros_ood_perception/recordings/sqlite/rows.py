"""Scans the rows of the table `messages` without their data, and compares them with the index over their times.

After a damaged page, the scan searches for the next readable row. `damage` says what the index lists and the table
lacks.
"""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np

from ros_ood_perception.recordings.sqlite.database import READ_ERRORS, Database

MAX_PROBES = 100_000
"""Largest number of rows that are searched for one by one after damaged pages."""
PROBED_ONE_BY_ONE = 256
LAST_ROW = (1 << 63) - 1
_TIME_INDEX = "timestamp_idx"
_PAIR = np.dtype([("time", np.int64), ("id", np.int64)])


class MessageRows:
    """Number, topic and time of every row, ordered by number.

    Args:
        damage: a sentence is added for each kind of missing row.

    Attributes:
        ids, topics, times: (N,) int64.
    """

    def __init__(self, database: Database, damage: list[str]) -> None:
        self._database = database
        self._ids, self._topics, self._times = array("q"), array("q"), array("q")
        self._odd = 0
        self._damaged = False
        self._scan()
        self._compare_with_index(damage)
        order = np.argsort(np.asarray(self._ids, np.int64), kind="stable")
        self.ids, self.topics, self.times = (
            np.asarray(values, np.int64)[order] for values in (self._ids, self._topics, self._times)
        )
        if self._odd:
            damage.append(f"{self._odd} messages have no topic, or no time")

    def _scan(self) -> None:
        following: int | None = -LAST_ROW - 1
        probes = MAX_PROBES
        while following is not None:
            following = self._scan_from(following)
            if following is not None:
                following, probes = self._readable_after(following, probes)

    def _scan_from(self, first: int) -> int | None:
        """Store the rows from a number on. Returns the next number where a page is damaged, None at the end."""
        query = "SELECT id, topic_id, timestamp FROM messages NOT INDEXED WHERE id >= ? ORDER BY id"
        try:
            for number, topic, time_ns in self._database.rows(query, (first,)):
                if number < first:
                    break  # damaged pages can form a cycle
                self._take(number, topic, time_ns)
                first = number + 1
                if number == LAST_ROW:
                    return None
            else:
                return None
        except READ_ERRORS:
            pass
        self._damaged = True
        return first

    def _readable_after(self, first: int, probes: int) -> tuple[int | None, int]:
        """The next readable row, and the number of searches that are left."""
        query = "SELECT id FROM messages NOT INDEXED WHERE id >= ? ORDER BY id LIMIT 1"
        step, number = 1, first
        while probes > 0 and number < LAST_ROW - step:
            probes -= 1
            number += step
            if number - first > PROBED_ONE_BY_ONE:
                step *= 2
            try:
                found = self._database.first(query, (number,))
            except READ_ERRORS:
                continue
            if found is not None and found[0] >= number:
                return found[0], probes
            return None, probes
        return None, probes

    def _take(self, number: Any, topic: Any, time_ns: Any) -> bool:
        if isinstance(topic, int) and isinstance(time_ns, int):
            self._ids.append(number)
            self._topics.append(topic)
            self._times.append(time_ns)
            return True
        self._odd += 1
        return False

    def _compare_with_index(self, damage: list[str]) -> None:
        indexed = self._indexed()
        if indexed is None:
            if self._damaged:
                damage.append("some of its pages are damaged: how many messages are missing is not known")
            return
        ours = np.empty(len(self._ids), _PAIR)
        ours["time"], ours["id"] = np.asarray(self._times), np.asarray(self._ids)
        ours.sort()
        if not self._damaged and np.array_equal(ours, indexed):
            return
        missing = np.setdiff1d(indexed, ours)["id"].tolist()
        extra = len(np.setdiff1d(ours, indexed))
        known = set(self._ids)
        found = sum(self._fetch(number) for number in missing[:MAX_PROBES] if number not in known)
        if len(missing) > found:
            damage.append(f"{len(missing) - found} messages that its index names cannot be read")
        if extra:
            damage.append(f"{extra} messages are not in its index, or there at another time")
        if not extra and len(missing) == found:
            damage.append("some of its pages are damaged; every message that its index names was found")

    def _indexed(self) -> Any:
        """Time and number of each row of the index, sorted; None if the index cannot be read."""
        ids, times = array("q"), array("q")
        try:
            if not self._database.is_index_over(_TIME_INDEX, "messages", "timestamp"):
                return None
            last: tuple[int, int] | None = None
            for number, time_ns in self._database.rows(
                f"SELECT id, timestamp FROM messages INDEXED BY {_TIME_INDEX} ORDER BY timestamp"
            ):
                if not isinstance(time_ns, int):
                    continue
                if last is not None and (time_ns, number) <= last:
                    self._damaged = True
                    return None  # not in order: damaged pages can form a cycle
                last = time_ns, number
                ids.append(number)
                times.append(time_ns)
        except READ_ERRORS:
            self._damaged = True
            return None
        found = np.empty(len(ids), _PAIR)
        found["time"], found["id"] = np.asarray(times), np.asarray(ids)
        return found

    def _fetch(self, number: int) -> bool:
        try:
            row = self._database.first(
                "SELECT id, topic_id, timestamp FROM messages NOT INDEXED WHERE id = ?", (number,)
            )
        except READ_ERRORS:
            return False
        return row is not None and row[0] == number and self._take(*row)
