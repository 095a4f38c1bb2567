"""What is written whole, and what is written to and never replaced."""

import os
import stat
import threading
from pathlib import Path

import pytest

from ros_ood_perception.files.atomic_files import write_file


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_file(pipe, "figures")
    reader.join(timeout=10)
    assert received == [b"figures"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_link_to_a_device_is_written_through(tmp_path: Path) -> None:
    # A device in a folder of its own: replacing /dev/null itself would harm every program of the machine.
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    write_file(link, b"figures")
    assert link.is_symlink()
    assert list(tmp_path.iterdir()) == [link]


def test_a_device_that_refuses_is_named(tmp_path: Path) -> None:
    link = tmp_path / "full"
    link.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as refusal:
        write_file(link, b"figures")
    assert refusal.value.filename == str(link)
