"""The short form of `python -m benchmark.fuzzing.recordings`."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.fuzzing.bag_corpus import Seed
from benchmark.fuzzing.recordings import KINDS, Executions, fuzz
from ros_ood_perception.recordings.mcap import file as mcap_file


@pytest.mark.parametrize("kind", KINDS)
def test_of_bags_changed_at_random_nothing_is_lost_without_a_word(kind: str) -> None:
    found = fuzz(kind, 250, seed=7)
    assert found["wrong"] == {}
    assert found["whole"] + found["named"] + found["refused"] == 250
    assert found["whole"]
    assert found["named"]


def test_a_loss_that_is_not_named_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executions = Executions("mcap", 1, tmp_path)
    monkeypatch.setattr(mcap_file.McapFile, "_compare_statistics", lambda self: None)
    monkeypatch.setattr(mcap_file.McapFile, "_check_sums", lambda *_: None)
    (seed,) = (seed for seed in executions._seeds if seed.name == "loose")

    def cut_out(one: Seed, _: object) -> bytes:
        data = one.files[one.changed]
        place = data.rindex(b"\x05", 0, one.last_part - 200)
        while int.from_bytes(data[place + 1 : place + 9], "little") > 1000:
            place = data.rindex(b"\x05", 0, place)
        return data[:place] + data[place + 9 + int.from_bytes(data[place + 1 : place + 9], "little") :]

    monkeypatch.setattr("benchmark.fuzzing.recordings.changed", cut_out)
    executions._seeds = [seed]
    assert executions(0) == "silent loose: 1 lost, 0 more"
