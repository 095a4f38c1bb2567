"""Finds nodes of the same name and other publishers of the same output: consumers would mix up their masks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rclpy.node import Node

LOGGED_EVERY_S = 60.0
REMEDY = (
    "end one of them, or give it another name or namespace (-r __node:=NAME, the launch argument namespace); of "
    "several outputs on one topic, remap one. A process that was killed a moment ago is forgotten within 20 s"
)


class TwinSearch:
    """Looks at the graph for nodes of the same full name, and for other publishers of this node's outputs.

    Args:
        node: the node whose name and outputs to look for.
        log: called with an error when the result changes, and every `LOGGED_EVERY_S` while it stays.
        clock: a monotonic clock, seconds.
    """

    def __init__(self, node: Node, log: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._node = node
        self._log = log
        self._clock = clock
        self._last = ""
        self._logged_at = 0.0

    def look(self, topics: Sequence[str]) -> str:
        """A sentence with the names that were found and a remedy; empty if none was.

        Args:
            topics: full names of the node's outputs. Each has one publisher of this node.
        """
        found = self._found(topics)
        now = self._clock()
        if found and (found != self._last or now - self._logged_at > LOGGED_EVERY_S):
            self._logged_at = now
            self._log(f"{found}: {REMEDY}")
        self._last = found
        return f"{found}: {REMEDY}" if found else ""

    def _found(self, topics: Sequence[str]) -> str:
        full_name = self._node.get_fully_qualified_name()
        names = self._node.get_node_names_and_namespaces()
        others = sum(f"{namespace.rstrip('/')}/{name}" == full_name for name, namespace in names) - 1
        doubled = [topic for topic in topics if self._node.count_publishers(topic) > 1]
        parts = [f"{others + 1} nodes are called {full_name}"] if others > 0 else []
        if doubled:
            more = f" and {len(doubled) - 1} more" if len(doubled) > 1 else ""
            parts.append(f"{doubled[0]}{more} has {self._publishers(doubled[0])}")
        return ", and ".join(parts)

    def _publishers(self, topic: str) -> str:
        infos = self._node.get_publishers_info_by_topic(topic)
        names = sorted(f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in infos)
        return f"{len(names)} publishers ({', '.join(names)})"
