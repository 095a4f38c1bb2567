"""`anomaly_threshold` with a bundle that has no operating points, as an imported one before its calibration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ros_ood_perception.bundle.model_bundle import BundleError, read_bundle
from ros_ood_perception.parameters.declarations import DECLARATIONS
from ros_ood_perception.parameters.settings import live_settings


def test_a_bundle_without_operating_points_takes_the_threshold_that_is_set(shipped_bundle: Path) -> None:
    description = replace(read_bundle(shipped_bundle).description, operating_points=())
    values: dict[str, Any] = {declared.name: declared.default_value for declared in DECLARATIONS}
    given = live_settings(values | {"anomaly_threshold": 0.25})
    assert given.threshold(description) == given.pipeline_settings(description).anomaly_threshold == 0.25
    assert given.point(description).name == "none"
    assert str(given.in_force(description)) == "all at their defaults"
    for wrong in ({}, {"anomaly_threshold": 0.25, "operating_point": "inlier_fpr_0.01"}):
        with pytest.raises(
            BundleError, match="has no operating points; set anomaly_threshold yourself, or choose them"
        ):
            live_settings(values | wrong).threshold(description)
