"""Two nodes of one name, and a stranger on an output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench import OUTPUTS, Bench, NodeProcess
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import Image

from ros_ood_perception.node.middleware.name_twins import TwinSearch

StartNode = Callable[..., NodeProcess]
GRAPH = "name on the graph"


def test_a_second_node_of_the_name_is_an_error_in_both_diagnostics_and_logs(
    bench: Bench, start_node: StartNode, brightness_bundle: Path
) -> None:
    first = start_node(bundle=brightness_bundle, autostart=True)
    bench.wait_for_discovery()
    # A node that an earlier test has killed is forgotten within 20 s.
    bench.spin_until(lambda: "camera" in bench.status and GRAPH not in bench.status, "nobody else of the name")
    second = start_node(bundle=brightness_bundle, autostart=True)
    bench.spin_until(lambda: GRAPH in bench.status and bench.status[GRAPH].level == DiagnosticStatus.ERROR, "the error")
    message = bench.status[GRAPH].message
    bench.spin_until(lambda: "has 2 publishers" in bench.status[GRAPH].message, "the doubled outputs")
    assert "/perception_node" in message
    assert "give it another name or namespace" in message
    bench.spin_until(lambda: all("nodes are called /perception_node" in n.log for n in (first, second)), "both logs")
    assert second.stop() == 0
    bench.spin_for(2.0)
    bench.status.clear()
    bench.spin_until(lambda: "camera" in bench.status, "the next diagnostics")
    assert GRAPH not in bench.status
    assert first.log.count("2 nodes are called /perception_node") <= 3
    # Of another name, on the same topic.
    stranger = bench.node.create_publisher(Image, OUTPUTS["mask"], 1)
    bench.spin_until(lambda: GRAPH in bench.status, "the error")
    assert f"{OUTPUTS['mask']} has 2 publishers (/bench, /perception_node)" in bench.status[GRAPH].message
    assert bench.status[GRAPH].level == DiagnosticStatus.ERROR
    bench.node.destroy_publisher(stranger)
    assert first.stop() == 0


class Graph:
    """A node as `TwinSearch` sees it, with namesakes that the test sets."""

    def __init__(self) -> None:
        self.namesakes = 1

    def get_fully_qualified_name(self) -> str:
        return "/car/perception_node"

    def get_node_names_and_namespaces(self) -> list[tuple[str, str]]:
        return [("perception_node", "/"), *[("perception_node", "/car")] * self.namesakes]

    def count_publishers(self, topic: str) -> int:
        return 1


def test_what_stays_is_logged_once_a_minute_and_what_comes_again_at_once() -> None:
    graph, now, log = Graph(), [0.0], list[str]()
    search = TwinSearch(graph, log.append, lambda: now[0])  # type: ignore[arg-type]
    # Of the same name in another namespace: nobody's twin.
    assert search.look(["/car/mask"]) == ""
    graph.namesakes = 2
    for second in range(59):
        now[0] = float(second)
        assert search.look(["/car/mask"]).startswith("2 nodes are called /car/perception_node: end one of them")
    assert len(log) == 1
    now[0] = 61.0
    search.look([])
    assert len(log) == 2
    graph.namesakes = 1
    assert search.look([]) == ""
    graph.namesakes = 2
    search.look([])
    assert len(log) == 3
