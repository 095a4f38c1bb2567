"""Names in the graph of a campaign; those of the cameras are in `frames`."""

from __future__ import annotations

NODE = "/perception_node"
CLOCK_TOPIC = "/clock"
SEMANTIC, MASK, SCORE = "output/semantic/mask", "output/anomaly/mask", "output/anomaly/score"
OUTPUTS = (SEMANTIC, MASK, SCORE)
"""Below the name of the camera and its transport."""
