"""Libraries that report on their users are told not to, before they are loaded.

ONNX Runtime 1.29 and later, as it comes from PyPI for Linux, has telemetry that is on unless the environment says
otherwise at the moment the library is loaded: it writes `~/.cache/Microsoft/DeveloperTools/.onnxruntime` (an identity
of the device, a database of events), and tries to send the events. The others here do the like, or look things up.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType

OFF: Mapping[str, str] = MappingProxyType(
    {
        "ORT_DISABLE_TELEMETRY": "1",
        # huggingface_hub and transformers.
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        # A convention that several follow: huggingface_hub, OpenVINO's tools, ...
        "DO_NOT_TRACK": "1",
    }
)
"""Variable and value. Processes that are started from here inherit them."""


def turn_off() -> None:
    """Set the variables of `OFF`, whatever they were.

    Not only where they are unset: ONNX Runtime takes an empty `ORT_DISABLE_TELEMETRY`, `0` and `false` as leave to
    send, and a vehicle must not depend on the shell that its node was started from.
    """
    os.environ.update(OFF)
