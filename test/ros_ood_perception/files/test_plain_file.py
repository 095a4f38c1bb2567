from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from ros_ood_perception.files.plain_file import NotPlainError, read_plain_file


def test_the_error_passes_through_pickle(tmp_path: Path) -> None:
    with pytest.raises(NotPlainError) as caught:
        read_plain_file(tmp_path, 100)
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is NotPlainError
    assert (str(again), again.path, again.problem) == (str(caught.value), tmp_path, caught.value.problem)
    assert str(again) == f"{tmp_path}: is a folder; put a regular file there"
