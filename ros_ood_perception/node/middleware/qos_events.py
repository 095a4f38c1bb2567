"""QoS events of the middleware: incompatible connections, with a remedy, and lost messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSPolicyKind, qos_policy_name_from_kind

_INPUT_FIXES = {
    "RELIABILITY": "the publisher offers best effort and this subscription asks for reliable: set "
    "qos_overrides.{topic}.subscription.reliability to best_effort (the default)",
    "DURABILITY": "the publisher offers volatile and this subscription asks for transient_local: set "
    "qos_overrides.{topic}.subscription.durability to volatile (the default)",
}
_OUTPUT_FIXES = {
    "RELIABILITY": "the subscriber asks for reliable and this publisher offers best effort: set "
    "qos_overrides.{topic}.publisher.reliability to reliable (the default), or let the subscriber ask for best effort",
    "DURABILITY": "the subscriber asks for transient_local and this output is volatile: let it ask for volatile "
    "(in RViz: the display's Topic > Durability Policy)",
}


def _policy(event: Any) -> str:
    return str(qos_policy_name_from_kind(QoSPolicyKind(int(event.last_policy_kind))))


def _fix(fixes: dict[str, str], policy: str, topic: str) -> str:
    return fixes.get(policy, f"give both sides the same {policy.lower()}").format(topic=topic)


def subscription_events(
    node: Node, topic: str, lost: Callable[[int], None], matched: Callable[[], None]
) -> SubscriptionEventCallbacks:
    """Event callbacks of an input.

    Args:
        topic: before remapping.
        lost: called with the number of messages that the transport lost since the last call.
        matched: called when a publisher comes or goes.
    """
    resolved = node.resolve_topic_name(topic)

    def incompatible(event: Any) -> None:
        policy = _policy(event)
        node.get_logger().error(
            f"a publisher of {resolved} offers a {policy.lower()} that this subscription cannot use, so nothing of it "
            f"arrives; {_fix(_INPUT_FIXES, policy, resolved)}"
        )

    options: dict[str, Any] = {
        "incompatible_qos": incompatible,
        "message_lost": lambda event: lost(int(event.total_count_change)),
        "matched": lambda event: matched(),
    }
    try:
        return SubscriptionEventCallbacks(**options)
    except TypeError:
        # Humble has no matched event.
        del options["matched"]
        return SubscriptionEventCallbacks(**options)


def publisher_events(node: Node, topic: str) -> PublisherEventCallbacks:
    """Event callbacks of an output.

    Args:
        topic: before remapping.
    """
    resolved = node.resolve_topic_name(topic)

    def incompatible(event: Any) -> None:
        policy = _policy(event)
        node.get_logger().error(
            f"a subscriber of {resolved} asks for a {policy.lower()} that is not offered, so it gets nothing; "
            f"{_fix(_OUTPUT_FIXES, policy, resolved)}"
        )

    return PublisherEventCallbacks(incompatible_qos=incompatible)
