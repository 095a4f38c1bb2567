"""REUSE.toml has the licence of every file. What of it is installed: `test_package.py`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import yaml
from catkin_pkg.package import parse_package

ROOT = Path(__file__).resolve().parents[1]


def test_each_licence_has_its_text_and_is_named_in_the_package_manifest(licences: Mapping[str, str]) -> None:
    used = set(licences.values())
    assert used == {path.stem for path in (ROOT / "LICENSES").iterdir()}
    package = parse_package(str(ROOT / "package.xml"))
    assert set(package.licenses) == used
    for licence in package.licenses:
        text = (ROOT / licence.file).read_bytes()
        assert text == (ROOT / "LICENSES" / f"{licence}.txt").read_bytes()
        assert len(text) > 10_000


def test_weights_have_the_licence_that_their_bundle_states(licences: Mapping[str, str]) -> None:
    bundles = [name for name in licences if re.fullmatch(r"models/[^/]+/bundle\.yaml", name)]
    assert len(bundles) >= 3
    for bundle in bundles:
        stated = yaml.safe_load((ROOT / bundle).read_text())["weights_licence"].replace(" ", "-")
        files = [name for name in licences if name.startswith(bundle.removesuffix("bundle.yaml"))]
        assert {name: licences[name] for name in files} == dict.fromkeys(files, stated)
