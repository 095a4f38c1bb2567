"""Turns the telemetry of libraries off, before they are loaded.

ONNX Runtime 1.29 and later from PyPI for Linux has telemetry. It is on unless the environment says otherwise when the
library is loaded. It writes `~/.cache/Microsoft/DeveloperTools/.onnxruntime` (an identity of the device, a database of
events) and tries to send the events. The other libraries here do the same, or look things up.
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
"""Variable to value. Child processes inherit them."""


def turn_off() -> None:
    """Set the variables of `OFF`, whatever their values were.

    ONNX Runtime sends where `ORT_DISABLE_TELEMETRY` is empty, `0` or `false`. A vehicle must not depend on the shell
    that started its node.
    """
    os.environ.update(OFF)
