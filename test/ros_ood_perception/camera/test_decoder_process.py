"""A decoder process may die, hang or be forked away: the image is malformed, and the next one is decoded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import hostile_images as hostile
import numpy as np
import pytest
from hostile_images import STILL

from ros_ood_perception.camera import decoder_process
from ros_ood_perception.camera.decoder_process import DecoderProcess
from ros_ood_perception.camera.image_decoder import decode_colour
from ros_ood_perception.camera.raw_image import MalformedImageError

MAX_PIXELS = 1000 * 1000
GOOD = cv2.imencode(".png", STILL)[1].tobytes()


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecoderProcess]:
    with DecoderProcess(MAX_PIXELS) as started:
        yield started


def pid_of(decoder: DecoderProcess) -> int:
    decoder.colour(GOOD, MAX_PIXELS)
    assert decoder.pid is not None
    return decoder.pid


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False


def test_it_gives_the_pixels_that_this_process_would_and_refuses_with_the_same_words(decoder: DecoderProcess) -> None:
    for data in (GOOD, hostile.jpeg(), hostile.ANIMATIONS["frame larger than the canvas"]):
        assert np.array_equal(decoder.colour(data, MAX_PIXELS), decode_colour(data, MAX_PIXELS))
    for data in (b"", GOOD[:-1], hostile.declared(40000, 40000)):
        said = []
        for decode in (decode_colour, decoder.colour):
            with pytest.raises(MalformedImageError) as caught:
                decode(data, MAX_PIXELS)
            said.append((caught.value.kind, str(caught.value)))
        assert said[0] == said[1]


def test_the_image_that_it_dies_of_is_malformed_and_the_next_one_is_decoded(decoder: DecoderProcess) -> None:
    pid = pid_of(decoder)
    os.kill(pid, signal.SIGSEGV)
    with pytest.raises(MalformedImageError, match="its decoder was killed by SIGSEGV") as caught:
        decoder.colour(GOOD, MAX_PIXELS)
    assert caught.value.kind == "killed its decoder"
    assert np.array_equal(decoder.colour(GOOD, MAX_PIXELS), STILL)
    assert decoder.pid != pid


def test_an_image_that_is_never_decoded_is_malformed_and_the_next_one_is_decoded(
    decoder: DecoderProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder.close()
    monkeypatch.setattr(decoder_process, "ANSWER_SECONDS", 0.5)
    pid = pid_of(decoder)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(MalformedImageError, match=r"gave no answer for 0\.5 s"):
        decoder.colour(GOOD, MAX_PIXELS)
    assert not is_there(pid)
    monkeypatch.undo()
    decoder.close()
    assert np.array_equal(decoder.colour(GOOD, MAX_PIXELS), STILL)


def test_its_memory_and_processor_time_are_limited(decoder: DecoderProcess) -> None:
    pid = pid_of(decoder)
    limits = dict(line.rsplit(None, 3)[:2] for line in Path(f"/proc/{pid}/limits").read_text().splitlines()[1:])
    memory = int(limits["Max address space"])
    assert memory < 2 * 2**30
    assert limits["Max core file size"] == "0"
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert int(status["SigIgn"], 16) >> (signal.SIGINT - 1) & 1, "an interrupt of the group would end it"


def test_a_larger_image_begins_a_larger_process(decoder: DecoderProcess) -> None:
    large = cv2.imencode(".png", np.zeros((1200, 1100, 3), np.uint8))[1].tobytes()
    with pytest.raises(MalformedImageError, match="is 1100x1200, more than 1000000 pixels"):
        decoder.colour(large, MAX_PIXELS)
    assert decoder.colour(large, 2 * MAX_PIXELS).shape == (1200, 1100, 3)


def test_more_bytes_than_the_largest_image_needs_are_not_sent(decoder: DecoderProcess) -> None:
    with pytest.raises(MalformedImageError, match="bytes, more than 1000 pixels can need"):
        decoder.colour(bytes(2 * 2**20), 1000)


def test_several_threads_each_get_their_own_image(decoder: DecoderProcess) -> None:
    images = [np.full((16, 16, 3), shade, np.uint8) for shade in range(8)]
    found: dict[int, bool] = {}

    def read(shade: int) -> None:
        data = cv2.imencode(".png", images[shade])[1].tobytes()
        found[shade] = all(np.array_equal(decoder.colour(data, MAX_PIXELS), images[shade]) for _ in range(30))

    threads = [threading.Thread(target=read, args=(shade,)) for shade in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(8), True)


def test_it_ends_with_the_process_that_began_it_however_that_ends() -> None:
    program = """
import os, sys
from hostile_images import STILL, jpeg
from ros_ood_perception.camera.decoder_process import shared_decoder
shared_decoder().colour(jpeg(), 1000)
read, write = os.pipe()
if os.fork() == 0:
    shared_decoder().colour(jpeg(), 1000)  # of its own: an answer for a child is not taken from the parent's
    os.write(write, b"%d" % shared_decoder().pid)
    os.kill(os.getpid(), 9)
os.wait()
shared_decoder().colour(jpeg(), 1000)
print(shared_decoder().pid, os.read(read, 20).decode(), flush=True)
os.kill(os.getpid(), 9)
"""
    root = Path(__file__).resolve().parents[3]
    path = f"{root}:{root / 'test' / 'ros_ood_perception'}"
    done = subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": path}, capture_output=True, text=True)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(set(pids)) == 2, done.stderr
    deadline = time.monotonic() + 20
    while any(map(is_there, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_there, pids))


def test_it_takes_no_module_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of images may come from a stranger, with a `numpy.py` in it."""
    for name in ("numpy", "cv2", "json"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    with DecoderProcess(MAX_PIXELS) as here:
        assert np.array_equal(here.colour(GOOD, MAX_PIXELS), STILL)
    assert not (tmp_path / "ran").exists()


def test_it_starts_where_the_package_is_found_by_the_working_directory_alone(tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    cv2.imwrite(str(image), np.zeros((4, 6, 3), np.uint8))
    code = (
        "import sys; from pathlib import Path; from ros_ood_perception.camera.image_file import read_image_file\n"
        "print(read_image_file(Path(sys.argv[1])).shape)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-c", code, str(image)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "(4, 6, 3)\n", done.stderr
