"""The SROS 2 policy of the node. It allows what the node publishes, subscribes to and serves, and nothing else.

python -m ros_ood_perception.node.middleware.security_policy > config/security/perception_node.policy.xml
python -m ros_ood_perception.node.middleware.security_policy --cameras front,left --preset autoware
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from ros_ood_perception.launching.launched_cameras import cameras_of_argument
from ros_ood_perception.launching.topic_presets import read_preset, remappings
from ros_ood_perception.messages.topics import (
    CAMERA_INFO_TOPIC,
    INPUT_TOPICS,
    OUTPUT_TOPICS,
    STATE_TOPIC,
    camera_topic,
)

NODE = "perception_node"
PUBLISHED_BY_EVERY_NODE = ("/rosout", "/parameter_events", "/diagnostics", "~/transition_event")
TRANSFORMS = ("/tf", "/tf_static")
SERVICES = (
    *(
        f"~/{name}"
        for name in (
            "describe_parameters",
            "get_parameter_types",
            "get_parameters",
            "list_parameters",
            "set_parameters",
            "set_parameters_atomically",
        )
    ),
    *(
        f"~/{name}"
        for name in (
            "change_state",
            "get_state",
            "get_available_states",
            "get_available_transitions",
            "get_transition_graph",
        )
    ),
    # Iron and later.
    "~/get_type_description",
)


@dataclass(frozen=True)
class Endpoints:
    """Full names, sorted.

    Attributes:
        publishes, subscribes: topics.
        replies: services.
    """

    publishes: tuple[str, ...]
    subscribes: tuple[str, ...]
    replies: tuple[str, ...]


def endpoints(
    cameras: Sequence[str] = ("",),
    preset: str = "plain",
    image_transport: str = "raw",
    namespace: str = "/",
    transforms: bool = True,
    simulated_time: bool = False,
    odometry: str = "",
) -> Endpoints:
    """What the node creates with these cameras and this preset of topics, from configure to shutdown.

    Args:
        cameras: names; one empty name for a camera without a name.
        preset: name of a topic preset, see `read_preset`.
        image_transport: raw or compressed.
        namespace: the node's namespace.
        transforms: poses of cameras come from tf2, not from `mounting.*`.
        simulated_time: the node has use_sim_time set.
        odometry: the node's `ground.odometry_topic`.

    Raises:
        SchemaError: of `read_preset` and `remappings`.
    """
    node = f"{namespace.rstrip('/')}/{NODE}"
    public = dict(remappings(read_preset(preset), cameras))

    def full(topic: str) -> str:
        topic = public.get(topic, topic)
        if topic.startswith("~"):
            return f"{node}{topic[1:]}"
        return topic if topic.startswith("/") else f"{namespace.rstrip('/')}/{topic}"

    inputs = (INPUT_TOPICS[image_transport], CAMERA_INFO_TOPIC)
    outputs = (*OUTPUT_TOPICS.values(), STATE_TOPIC)
    extra = [*(TRANSFORMS if transforms else ()), *(("/clock",) if simulated_time else ())]
    extra += [odometry] if odometry else []
    return Endpoints(
        publishes=_sorted(
            [full(camera_topic(c, t)) for c in cameras for t in outputs] + [full(t) for t in PUBLISHED_BY_EVERY_NODE]
        ),
        subscribes=_sorted([full(camera_topic(c, t)) for c in cameras for t in inputs] + extra),
        replies=_sorted([full(service) for service in SERVICES]),
    )


def _sorted(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))


def policy(found: Endpoints, namespace: str = "/", enclave: str = f"/{NODE}") -> str:
    """The endpoints as a policy file of `sros2`, version 0.2.0. Everything else is denied."""
    root = ElementTree.Element("policy", version="0.2.0")
    profiles = ElementTree.SubElement(
        ElementTree.SubElement(ElementTree.SubElement(root, "enclaves"), "enclave", path=enclave), "profiles"
    )
    profile = ElementTree.SubElement(profiles, "profile", ns=namespace, node=NODE)
    for kind, rule, names in (
        ("topic", "publish", found.publishes),
        ("topic", "subscribe", found.subscribes),
        ("service", "reply", found.replies),
    ):
        group = ElementTree.SubElement(profile, f"{kind}s", {rule: "ALLOW"})
        for name in names:
            ElementTree.SubElement(group, kind).text = name
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def main(arguments: list[str] | None = None) -> int:
    """Write the policy to stdout."""
    parser = argparse.ArgumentParser(prog="security_policy", description="The SROS 2 policy of perception_node.")
    parser.add_argument("--cameras", default="", help="names, separated by commas; default: one camera without a name")
    parser.add_argument("--preset", default="plain", help="names of topics: plain, nav2, autoware, or a .yaml file")
    parser.add_argument("--image-transport", choices=sorted(INPUT_TOPICS), default="raw")
    parser.add_argument("--namespace", default="/", help="of the node")
    parser.add_argument("--enclave", default=f"/{NODE}", help="path of the enclave")
    parser.add_argument("--no-tf", action="store_true", help="the cameras' poses are in mounting.*")
    parser.add_argument("--use-sim-time", action="store_true", help="the node reads /clock")
    parser.add_argument("--odometry", default="", metavar="TOPIC", help="ground.odometry_topic, a full name")
    given = parser.parse_args(arguments)
    found = endpoints(
        cameras_of_argument(given.cameras) or [""],
        given.preset,
        given.image_transport,
        given.namespace,
        not given.no_tf,
        given.use_sim_time,
        given.odometry,
    )
    sys.stdout.write(policy(found, given.namespace, given.enclave))
    return 0


if __name__ == "__main__":
    sys.exit(main())
