"""The fuzzer of bundles, briefly; and that it counts what it is there to find."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("cryptography", reason="cryptography is not installed")

import ros_ood_perception.bundle.model_bundle
from benchmark.fuzzing import bundles as fuzz_bundles

ROOT = Path(__file__).resolve().parents[2]


def test_hostile_bundles_are_good_or_refused_with_a_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmark.fuzzing.bundles", "--executions", "250", "--seed", "7"]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "found.json")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads((tmp_path / "found.json").read_text())
    assert found["executions"] == 250
    assert (found["crashes"], found["hangs"], found["over 1 GB"]) == (0, 0, 0)
    assert found["good"] + found["refused"] == 250
    assert found["good"] > 5  # changes that matter not, or the check would not be reached by the others
    assert set(found["by kind"]) == set(fuzz_bundles.KINDS)
    assert found["opened in ONNX Runtime"].get("run", 0) >= 1


def raise_another(*_: object) -> None:
    raise KeyError("what a reader forgot")


def never_end(*_: object) -> None:
    while True:
        pass


def take_memory(*_: object) -> None:
    bytearray(3 << 30)


def die(*_: object) -> None:
    os._exit(3)


def say_what_a_terminal_obeys(*_: object) -> None:
    raise ros_ood_perception.bundle.model_bundle.BundleError("\x1b[2J")


@pytest.mark.parametrize(
    ("reader", "outcome"),
    [
        (raise_another, "crash"),
        (never_end, "hang"),
        (take_memory, "memory"),
        (die, "crash"),
        (say_what_a_terminal_obeys, "crash"),
    ],
)
def test_what_it_is_there_to_find_is_counted_and_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: Callable[..., None], outcome: str
) -> None:
    monkeypatch.setattr(ros_ood_perception.bundle.model_bundle, "read_bundle", reader)
    monkeypatch.setattr(fuzz_bundles, "HANG_S", 0.2)
    campaign = fuzz_bundles.Campaign(1, tmp_path)
    campaign.run(10, 3)
    assert campaign.outcomes == {outcome: 3}
    assert [found["number"] for found in campaign.found] == [10, 11, 12]
