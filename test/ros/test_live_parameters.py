from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench import Bench, CameraProcess, NodeProcess

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.parameters.declarations import DECLARATIONS
from ros_ood_perception.parameters.settings import LiveSettings, ParameterError, live_settings

StartNode = Callable[..., NodeProcess]
StartCamera = Callable[..., CameraProcess]


def test_under_load_every_frame_sees_all_of_the_old_values_or_all_of_the_new_ones(
    bench: Bench, start_node: StartNode, start_camera: StartCamera, brightness_bundle: Path
) -> None:
    start_node(bundle=brightness_bundle, score_encoding="32FC1")
    camera = start_camera("/camera/image_raw", 20.0, "--size", "120", "160")
    bench.bring_up()
    camera.wait_until_ready()
    bench.wait_for_outputs(3)
    accepted = [(0.5, "32FC1")]
    for threshold, encoding in ((0.2, "32FC1"), (0.7, "mono8"), (0.3, "32FC1")):
        assert bench.set_atomically(anomaly_threshold=threshold, score_encoding=encoding) == (True, "")
        accepted.append((threshold, encoding))
        bench.spin_for(0.5)
        assert bench.facts["anomaly_threshold"] == repr(accepted[-2][0]) or bench.facts["anomaly_threshold"] == repr(
            threshold
        )
    # Refused as a whole: the good half of each changes nothing either.
    for values, reason in (
        ({"anomaly_threshold": 0.9, "score_encoding": "mono4"}, "it must be one of mono8, 32FC1"),
        ({"anomaly_threshold": 0.9, "bundle": "elsewhere"}, "bundle: read at configure"),
        ({"anomaly_threshold": 7.0, "max_rate_hz": 2.0}, "anomaly_threshold"),
        ({"anomaly_threshold": float("nan"), "max_rate_hz": 2.0}, "anomaly_threshold"),
        ({"max_rate_hz": 2.0, "operating_point": "lax", "anomaly_threshold": -1.0}, "no operating point 'lax'"),
        ({"max_rate_hz": 2.0, "region__drivable_classes": ["lawn"]}, "the bundle has road, sky"),
        ({"max_rate_hz": 2.0, "persistence__seen_frames": 9}, "persistence is 9 of 3"),
        ({"max_rate_hz": 2.0, "persistence__max_gap_s": 0.4}, "'max_rate_hz' is 2, a frame every 0.5 s, and"),
    ):
        successful, why = bench.set_atomically(**values)
        assert not successful
        assert reason in why, why
    bench.spin_for(1.0)
    assert bench.facts["anomaly_threshold"] == "0.3"
    camera.stop()
    bench.spin_until(lambda: bench.facts["in_progress"] == "0", "rest")
    scores = {(m.header.stamp.sec, m.header.stamp.nanosec): m for m in bench.received["score"]}
    used = []
    for mask in bench.received["mask"]:
        score = scores.get((mask.header.stamp.sec, mask.header.stamp.nanosec))
        if score is None:
            continue
        kind, scale = (np.float32, 1.0) if score.encoding == "32FC1" else (np.uint8, 255.0)
        levels = np.frombuffer(score.data, kind).astype(np.float64) / scale
        anomalous = np.frombuffer(mask.data, np.uint8) > 0
        # Which of the accepted thresholds splits this frame's scores as its mask does?
        low, high = levels[~anomalous].max(initial=0.0), levels[anomalous].min(initial=1.0)
        slack = 0 if score.encoding == "32FC1" else 1 / 255
        fits = [(t, e) for t, e in accepted if low - slack <= t <= high + slack and e == score.encoding]
        assert fits, (low, high, score.encoding)
        used.append(fits[0])
    assert [pair for i, pair in enumerate(used) if i == 0 or pair != used[i - 1]] == accepted


def test_a_shorter_period_of_the_diagnostics_holds_at_once(
    bench: Bench, start_node: StartNode, brightness_bundle: Path
) -> None:
    start_node(bundle=brightness_bundle)
    bench.bring_up()
    assert bench.set_atomically(diagnostics_period_s=60.0) == (True, "")
    bench.spin_for(1.5)  # what was due after the first second has come
    assert bench.set_atomically(diagnostics_period_s=0.2, anomaly_threshold=0.3) == (True, "")
    bench.spin_until(
        lambda: bench.facts["anomaly_threshold"] == "0.3", "diagnostics with the new threshold", timeout_s=30.0
    )


def test_outputs_rate_and_operating_point_change_while_it_runs(
    bench: Bench, start_node: StartNode, start_camera: StartCamera, brightness_bundle: Path
) -> None:
    node = start_node(bundle=brightness_bundle, diagnostics_period_s=0.2, region__min_area=0.0004)
    camera = start_camera("/camera/image_raw", 20.0, "--size", "120", "160")
    bench.bring_up()
    camera.wait_until_ready()
    bench.wait_for_outputs(3)
    assert bench.facts["region.max_regions"] == "64 (default)"
    assert bench.set(operating_point="strict", outputs=["semantic_mask"], max_rate_hz=4.0) == [(True, "")] * 3
    bench.spin_for(0.5)
    counts = {name: len(messages) for name, messages in bench.received.items()}
    bench.spin_for(3.0)
    assert len(bench.received["mask"]) == counts["mask"]
    # 12 at 4 Hz, where the camera sends 60; fewer on a busy machine.
    assert 4 <= len(bench.received["semantic"]) - counts["semantic"] <= 13
    assert bench.facts["operating_point"] == "strict"
    assert bench.facts["anomaly_threshold"] == "0.9"
    assert bench.facts["region.max_regions"] == "32 (operating point strict)"
    assert bench.facts["region.min_area"] == "0.0004 (parameter)"
    assert bench.facts["region.min_size_m"] == "0 (default)"
    assert "now: region.min_area 0.0004 (parameter), region.max_regions 32 (operating point strict)" in node.log
    bench.accounting()


def test_an_operating_point_is_checked_while_a_threshold_is_set_and_the_log_says_what_is_in_force(
    bench: Bench, start_node: StartNode, brightness_bundle: Path
) -> None:
    node = start_node(bundle=brightness_bundle, anomaly_threshold=0.4, diagnostics_period_s=0.2)
    bench.bring_up()
    successful, why = bench.set_atomically(operating_point="lax")
    assert not successful
    assert "no operating point 'lax'" in why
    assert bench.set_atomically(operating_point="strict") == (True, "")
    assert (
        "operating_point has no effect on the threshold while anomaly_threshold is 0.4, which is in force" in node.log
    )
    assert bench.set_atomically(anomaly_threshold=-1.0) == (True, "")
    bench.spin_until(lambda: bench.facts["anomaly_threshold"] == "0.9", "the threshold of the operating point")


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"region.surroundings": 0.1}, ""),
        (
            {"region.standing": 0.5, "region.drivable_classes": ["*"]},
            "region.standing has no effect without drivable classes; set region.drivable_classes",
        ),
        (
            {"score_encoding": "32FC1", "outputs": ["overlay"]},
            "score_encoding has no effect while outputs does not hold",
        ),
        ({"operating_point": "a", "anomaly_threshold": 0.5}, "operating_point has no effect on the threshold while"),
        ({"operating_point": "a"}, ""),
        ({"score_encoding": "32FC1"}, ""),
        ({"anomaly_threshold": 0.5}, ""),
    ],
)
def test_a_change_without_effect_is_named(changes: dict[str, Any], note: str, shipped_bundle: Path) -> None:
    settings = live_settings({d.name: d.default_value for d in DECLARATIONS} | changes)
    # It marks its drivable classes.
    said = settings.without_effect(changes, read_bundle(shipped_bundle).description)
    assert said.startswith(note)
    assert bool(said) == bool(note)


def test_a_rate_at_which_nothing_persists_is_refused_with_the_remedy() -> None:
    def settings(**changes: Any) -> LiveSettings:
        return live_settings({d.name: d.default_value for d in DECLARATIONS} | {"stale_after_s": 60.0} | changes)

    remedy = (
        r"'persistence.max_gap_s' is 1: .*raise persistence.max_gap_s above 2 or max_rate_hz above 1, or set "
        "persistence.seen_frames to 1"
    )
    with pytest.raises(ParameterError, match=remedy):
        settings(max_rate_hz=0.5)
    with pytest.raises(ParameterError, match="max_gap_s"):
        settings(max_rate_hz=1.0)
    assert settings(max_rate_hz=1.1).max_rate_hz == 1.1
    assert settings(max_rate_hz=0.5, **{"persistence.max_gap_s": 2.5}).max_rate_hz == 0.5
    assert settings(max_rate_hz=0.5, **{"persistence.seen_frames": 1}).max_rate_hz == 0.5
    assert settings(max_rate_hz=0.0, **{"persistence.max_gap_s": 0.01}).max_rate_hz == 0.0


def test_a_rate_at_which_the_camera_is_stale_between_results_is_refused_with_the_remedy() -> None:
    def settings(**changes: float) -> LiveSettings:
        return live_settings(
            {d.name: d.default_value for d in DECLARATIONS} | {"persistence.max_gap_s": 60.0} | changes
        )

    remedy = r"'stale_after_s' is 2: .*raise stale_after_s above 2\.5 or max_rate_hz above 0\.5"
    with pytest.raises(ParameterError, match=remedy):
        settings(max_rate_hz=0.4)
    with pytest.raises(ParameterError, match="stale_after_s"):
        settings(max_rate_hz=0.5)
    assert settings(max_rate_hz=0.4, stale_after_s=3.0).stale_after_s == 3.0
    assert settings(max_rate_hz=0.0, stale_after_s=0.05).stale_after_s == 0.05
