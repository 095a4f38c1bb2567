"""Checkpoints with bytes changed, cut, moved, or made by hand: one kind of error, and never other weights."""

from __future__ import annotations

import io
import os
import pickle
import random
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from training.runs.checkpoint import (
    FORMAT,
    FORMAT_WITHOUT_DIGEST,
    CheckpointError,
    contents_digest,
    load_checkpoint,
    reading,
    save_checkpoint,
)

CONTENTS: dict[str, Any] = {
    "kind": "segmenter",
    "config": {"a": 1, "b": [1.5, None], "c": ("x", True)},
    "progression": {"epoch": 3, "history": [{"loss": 0.5}]},
    "segmenter": {f"layer{i}.weight": torch.arange(64.0).reshape(8, 8) * i for i in range(8)},
    "optimiser": {"state": {0: {"step": torch.tensor(3), "mask": torch.tensor([True, False])}}},
    "half": torch.ones(3, dtype=torch.bfloat16),
    "transposed": torch.arange(6.0).reshape(2, 3).T,
}


def mutated(data: bytes, generator: random.Random) -> bytes:
    """Bytes changed anywhere or where the pickle lies, cut, taken out or put in."""
    changed = bytearray(data)
    kind = generator.random()
    place = generator.randrange(len(changed))
    if kind < 0.35:
        for _ in range(generator.choice((1, 1, 2, 8))):
            changed[generator.randrange(len(changed))] = generator.randrange(256)
    elif kind < 0.7:
        place = data.index(b"data.pkl") + generator.randrange(1800)
        changed[place] = generator.choice((*b"\x00\x80(.}]Rqcu019KJMXhbstpQe\xff", generator.randrange(256)))
    elif kind < 0.8:
        del changed[place:]
    elif kind < 0.9:
        del changed[place : place + generator.randrange(1, 64)]
    else:
        changed[place:place] = generator.randbytes(generator.randrange(1, 64))
    return bytes(changed)


def test_of_a_mutated_checkpoint_comes_the_same_or_a_checkpoint_error(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, CONTENTS)
    good, digest = path.read_bytes(), contents_digest(CONTENTS)
    generator = random.Random(1)
    refused: list[str] = []
    with warnings.catch_warnings():
        # torch warns of protocols and types that only a damaged file has.
        warnings.simplefilter("ignore")
        for _ in range(1500):
            path.write_bytes(mutated(good, generator))
            try:
                found = load_checkpoint(path)
            except CheckpointError as error:
                refused.append(str(error))
            else:
                assert contents_digest({key: value for key, value in found.items() if key != "format"}) == digest
    assert len(refused) > 1000
    assert all(str(path) in said and said.isprintable() and len(said) < 1000 for said in refused)


def test_what_is_saved_comes_back_and_may_be_saved_again(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pt", CONTENTS)
    found = load_checkpoint(tmp_path / "a.pt")
    assert found["format"] == FORMAT
    assert found["config"] == CONTENTS["config"]
    assert torch.equal(found["transposed"], CONTENTS["transposed"])
    found["kind"] = "other"
    save_checkpoint(tmp_path / "b.pt", found)
    assert load_checkpoint(tmp_path / "b.pt")["kind"] == "other"


def test_a_checkpoint_of_an_earlier_version_is_read_and_a_changed_one_of_this_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"format": FORMAT_WITHOUT_DIGEST, **CONTENTS}, path)
    assert load_checkpoint(path)["progression"]["epoch"] == 3
    for contents in (
        {"format": FORMAT, **CONTENTS},
        {"format": FORMAT, "digest": None, **CONTENTS},
        {"format": FORMAT, "digest": contents_digest(CONTENTS), **CONTENTS, "kind": "flow"},
        {"format": FORMAT_WITHOUT_DIGEST, "digest": "0" * 64, **CONTENTS},
    ):
        torch.save(contents, path)
        with pytest.raises(CheckpointError, match="damaged"):
            load_checkpoint(path)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    path = tmp_path / "a.pt"
    torch.save({"format": FORMAT, "value": Attack()}, path)
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps({"format": FORMAT, "value": Attack()}, protocol=2))
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        load_checkpoint(path)
    assert not (tmp_path / "ran").exists()


def with_pickle(contents: bytes) -> bytes:
    """A checkpoint whose pickle is these bytes."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT}, buffer)
    out = io.BytesIO()
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, contents if name.endswith("data.pkl") else old.read(name))
    return out.getvalue()


def test_values_that_never_end_and_tensors_that_are_not_in_the_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    value: Any = [0]
    for _ in range(60):
        value = [value, value]
    repeated: list[Any] = []
    repeated.append(repeated)
    huge = torch.zeros(1).expand(10**9)
    for held in (value, repeated, huge):
        torch.save({"format": FORMAT, "digest": "0" * 64, "value": held}, path)
        with pytest.raises(CheckpointError, match="damaged"):
            load_checkpoint(path)
    path.write_bytes(with_pickle(b"\x80\x02" + b"]" * 200_000 + b"."))
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


def test_values_of_a_wrong_kind_and_keys_that_are_missing_are_errors_of_the_checkpoint(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pt", CONTENTS)
    saved = load_checkpoint(tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"a\.pt: holds no 'config_digest'"):
        saved["config_digest"]
    with (
        pytest.raises(CheckpointError, match=r"a\.pt: does not hold the values that a run"),
        reading(tmp_path / "a.pt"),
    ):
        saved["progression"]["step"]
    with pytest.raises(CheckpointError, match=r"a\.pt: is of another network"), reading(tmp_path / "a.pt"):
        torch.nn.Linear(2, 2).load_state_dict(saved["segmenter"])


@pytest.mark.parametrize("place", ["folder", "/dev/zero", "pipe"])
def test_what_is_no_file_is_no_checkpoint(place: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="is no file"):
        load_checkpoint(tmp_path / place)
