"""The live node publishes from networks that were trained elsewhere: of logits, and of masks."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench import Bench, image

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.camera.raw_image import to_array, to_colour
from ros_ood_perception.inference.opening import open_engine
from ros_ood_perception.inference.perception import Perception

pytest.importorskip("transformers", reason="the packages of training are not installed")


FAMILIES = ("segformer", "mask2former")
"""In every run of the tests: one of logits, one of masks. `ALL_FAMILIES=1` takes all, in a minute more."""
OTHERS = ("upernet", "dpt", "beit", "data2vec", "mobilevit", "mobilevitv2", "mobilenet_v2")
OTHERS_OF_MASKS = ("maskformer", "oneformer", "eomt", "eomt_dinov3")


def saved_network(family: str, folder: Path) -> Path:
    """A tiny random network of the family, as a folder of transformers."""
    import tiny_mask_networks
    import tiny_networks

    if family in tiny_networks.PER_PIXEL:
        return tiny_networks.saved(lambda: tiny_networks.decisive(tiny_networks.PER_PIXEL[family]()), folder, {})
    made = tiny_networks.saved(lambda: tiny_mask_networks.sure_of_some(tiny_mask_networks.MASKS[family]()), folder, {})
    if family == "oneformer":
        tiny_mask_networks.write_tokenizer(made)
    return made


@pytest.mark.parametrize(
    "family", FAMILIES + (OTHERS + OTHERS_OF_MASKS if os.environ.get("ALL_FAMILIES") == "1" else ())
)
def test_the_node_publishes_what_an_imported_network_says(
    family: str, bench: Bench, start_node: Callable[..., Any], tmp_path: Path
) -> None:
    from training.import_network.__main__ import main

    source, bundle = saved_network(family, tmp_path / family), tmp_path / "bundle"
    assert main([str(source), str(bundle), "--size", "64x96"]) == 0
    start_node(bundle=bundle, anomaly_threshold=0.4)
    bench.bring_up()
    frame = image(0, (90, 120), "rgb8")
    bench.send(frame)
    bench.wait_for_outputs(1)
    opened = read_bundle(bundle)
    expected = Perception(open_engine(opened, "auto"), 0.4, len(opened.description.classes))(to_colour(frame, "rgb"))
    arrays = {name: to_array(messages[0]) for name, messages in bench.received.items()}
    np.testing.assert_array_equal(arrays["semantic"], expected.semantic)
    np.testing.assert_array_equal(arrays["mask"], expected.anomaly_mask * np.uint8(255))
    np.testing.assert_array_equal(arrays["score"], np.rint(expected.anomaly_score * 255))
