"""The node takes only a bundle that the key's owner signed, where a key is set."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from bench import INACTIVE, UNCONFIGURED, Bench, NodeProcess

StartNode = Callable[..., NodeProcess]


def test_configure_fails_until_the_bundle_is_signed(
    bench: Bench, start_node: StartNode, brightness_bundle: Path, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(brightness_bundle, tmp_path / "bundle"))
    keys = pytest.importorskip(
        "cryptography.hazmat.primitives.asymmetric.ed25519", reason="cryptography is not installed"
    )
    key = keys.Ed25519PrivateKey.generate()
    public = base64.b64encode(key.public_key().public_bytes_raw()).decode()
    node = start_node(bundle=bundle, bundle_public_key=public)
    assert not bench.transition("configure")
    assert bench.state() == UNCONFIGURED
    assert "bundle.sig: cannot be read" in node.log
    (bundle / "bundle.sig").write_bytes(key.sign((bundle / "bundle.yaml").read_bytes()))
    assert bench.transition("configure")
    assert bench.state() == INACTIVE
