"""The node with a network that was trained elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bench import Bench, NodeProcess, image

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.camera.raw_image import to_array, to_colour
from ros_ood_perception.inference.opening import open_engine
from ros_ood_perception.inference.perception import Perception


def test_the_node_publishes_what_an_imported_network_of_masks_computes(
    bench: Bench, start_node: Callable[..., NodeProcess], tmp_path: Path
) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    from tiny_mask_networks import eomt, sure_of_some
    from tiny_networks import NAMES, saved

    from training.import_network.__main__ import main

    source, folder = saved(lambda: sure_of_some(eomt()), tmp_path / "eomt"), tmp_path / "bundle"
    assert main([str(source), str(folder), "--size", "64x100"]) == 0
    start_node(bundle=folder, anomaly_threshold=0.5)
    bench.bring_up()
    frame = image(0, (90, 120), "bgr8")
    bench.send(frame)
    bench.wait_for_outputs(1)
    expected = Perception(open_engine(read_bundle(folder), "auto"), 0.5, len(NAMES))(to_colour(frame, "rgb"))
    arrays = {name: to_array(messages[0]) for name, messages in bench.received.items()}
    np.testing.assert_array_equal(arrays["semantic"], expected.semantic)
    np.testing.assert_array_equal(arrays["mask"], expected.anomaly_mask * np.uint8(255))
    np.testing.assert_array_equal(arrays["score"], np.rint(expected.anomaly_score * 255))
