"""The parameters of the demo's node, and of a replay of the same frames."""

from __future__ import annotations

from typing import Any

from demo.demo_input import DemoInput
from ros_ood_perception.bundle.model_bundle import BundleDescription
from ros_ood_perception.parameters.settings import EVERY_REGION

DRIVABLE_CLASSES = ("road",)
"""Drivable classes of bundles that mark none."""
TWO_A_MINUTE = "obstacles_120_per_hour"
"""Point that was chosen by false obstacles on drives of other seeds; it holds settings of regions and evidence too."""
ON_THE_ROAD = "drivable_fpr_0.001"
"""Point for bundles without it: only the road counts, so the threshold is one that was chosen on the road."""


def node_parameters(threshold: float | None, played: DemoInput, description: BundleDescription) -> dict[str, Any]:
    """Name to value, without engine and threads.

    Args:
        threshold: the user's anomaly threshold; None: that of an operating point.
    """
    parameters: dict[str, Any] = dict(played.geometry.parameters) if played.geometry else {}
    if threshold is not None:
        parameters["anomaly_threshold"] = float(threshold)
    # As on a vehicle: only what stands on the road is an obstacle. Other recordings may show no road at all.
    drivable = [known.name for known in description.classes if known.drivable] or [
        known.name for known in description.classes if known.name in DRIVABLE_CLASSES
    ]
    if played.truth is not None and drivable:
        parameters["region.drivable_classes"] = drivable
        points = {point.name for point in description.operating_points}
        if threshold is None and TWO_A_MINUTE in points:
            parameters["operating_point"] = TWO_A_MINUTE
        else:
            parameters |= {"region.surroundings": 0.0, "persistence.seen_frames": 3}
            if threshold is None and ON_THE_ROAD in points:
                parameters["operating_point"] = ON_THE_ROAD
        if played.odometry:
            # The player publishes the pose after a frame before the frame, so this is never waited for.
            parameters |= {"ground.odometry_topic": played.odometry, "ground.motion_wait_s": 1.0}
    elif description.drivable_ids:
        parameters["region.drivable_classes"] = [EVERY_REGION]
    return parameters
