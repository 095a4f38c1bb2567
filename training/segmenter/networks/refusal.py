"""The error of a network that cannot be used as it is."""

from __future__ import annotations

from ros_ood_perception.errors import PerceptionError


class NetworkRefusedError(PerceptionError, ValueError):
    """A network that can be neither imported nor trained as it is. The message names the cause and what to do."""
