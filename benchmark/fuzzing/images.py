"""Decodes millions of mutated images as topics, bags and folders do, in a process that may die.

    python -m benchmark.fuzzing.images --executions 1000000 --seed 1 [--json FILE] [--save FOLDER]
    python -m benchmark.fuzzing.images --executions 1000000 --seed 1 --raw

Each execution makes image bytes (`benchmark.fuzzing.image_corpus`: the same for the same seed), then checks, rebuilds
and decodes them. It counts images, refusals by reason, and faults: a process that died, an execution of more than 5 s,
memory of more than 1 GB, any other error. The bytes of faults are saved. --raw passes the bytes to OpenCV unchecked,
for comparison, and ends at the first crash."""

from __future__ import annotations

import argparse
import contextlib
import json
import mmap
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmark.fuzzing.image_corpus import ImageMutator
from benchmark.process_memory import peak_resident_bytes
from ros_ood_perception.camera.image_bytes import FILE_KINDS, PNG, check_image_bytes, kind_of
from ros_ood_perception.camera.image_decoder import colour_of, decode_labels
from ros_ood_perception.camera.raw_image import MalformedImageError
from ros_ood_perception.files.atomic_files import write_file

HANG_SECONDS = 5.0
MEMORY_BYTES = 1 << 30
"""Beyond the memory of the new process."""
STATE = struct.Struct("<QdQ")
"""Number of the execution, its start (monotonic), and its number of bytes."""
STATE_BYTES = 1 << 24


def one_execution(data: bytes, number: int) -> str:
    """Check, rebuild and decode the bytes; returns the outcome.

    Raises:
        AssertionError: an image that was taken is not what was checked.
    """
    # Most limits are small, so that an execution is short; some let large images through.
    max_pixels = 1 << 24 if number % 20_000 == 1 else 1 << 20 if number % 500 == 1 else 1 << 16
    try:
        if number % 10 == 0 and kind_of(data) == PNG:
            decode_labels(data, max_pixels)
            return "labels"
        image = check_image_bytes(data, max_pixels, FILE_KINDS)
        pixels = colour_of(image)
    except MalformedImageError as error:
        return f"refused: {error.kind}"
    assert pixels.shape == (image.height, image.width, 3)
    assert pixels.dtype == np.uint8
    if number % 20 == 1 and image.kind != "TIFF":
        # A minimal image is minimal.
        rebuilt = image.rebuilt()
        assert check_image_bytes(rebuilt, max_pixels, FILE_KINDS).rebuilt() == rebuilt
    return f"image: {image.kind}"


def raw_execution(data: bytes, number: int) -> str:
    """Pass the bytes to OpenCV unchecked."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:
        return "refused: cv2.error"
    return "refused: None" if pixels is None else "image"


def work(state: mmap.mmap, report: Path, seed: int, begin: int, end: int, kinds: tuple[str, ...], raw: bool) -> None:
    """Run the executions `begin` to `end` - 1, in the process that may die."""
    parent = os.getppid()
    mutator = ImageMutator(seed, kinds)
    execute: Callable[[bytes, int], str] = raw_execution if raw else one_execution
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    counts: Counter[str] = Counter()
    longest = 0.0
    for number in range(begin, end):
        data = mutator(number)
        state[STATE.size : STATE.size + len(data)] = data
        state[: STATE.size] = STATE.pack(number, time.monotonic(), len(data))
        started = time.process_time()
        try:
            counts[execute(data, number)] += 1
        except MemoryError:
            counts["memory"] += 1
        except Exception as error:
            counts[f"error: {type(error).__name__} in execution {number}: {error}"] += 1
        longest = max(longest, time.process_time() - started)
        if number % 1000 == 999 or number == end - 1:
            peak = peak_resident_bytes()
            facts = {"next": number + 1, "counts": counts, "longest_s": longest, "peak_bytes": peak}
            write_file(report, json.dumps(facts), sync=False)
            if os.getppid() != parent:
                return  # the parent has ended


@dataclass
class Campaign:
    """The outcomes of a campaign.

    Attributes:
        counts: outcome to number of byte strings.
        found: faults: kind, number of the execution, and the file with its bytes.
        longest_s: of one execution, processor time.
        peak_bytes: resident memory of the process, with that of the new process.
    """

    counts: Counter[str] = field(default_factory=Counter)
    found: list[dict[str, Any]] = field(default_factory=list)
    longest_s: float = 0.0
    peak_bytes: int = 0

    def add(self, report: Path) -> int:
        """Add the report of a process; returns the number of the next execution, 0 without a report."""
        if not report.is_file():
            return 0
        facts = json.loads(report.read_text("utf-8"))
        report.unlink()
        self.counts.update(facts["counts"])
        self.longest_s = max(self.longest_s, facts["longest_s"])
        self.peak_bytes = max(self.peak_bytes, facts["peak_bytes"])
        return int(facts["next"])

    @property
    def executions(self) -> int:
        """Number of tried byte strings."""
        return sum(self.counts.values())

    def problems(self) -> int:
        """Number of faults."""
        return len(self.found) + sum(n for name, n in self.counts.items() if name.startswith(("error", "memory")))


def run(
    executions: int,
    seed: int,
    save: Path,
    kinds: tuple[str, ...] = FILE_KINDS,
    raw: bool = False,
    hang_seconds: float = HANG_SECONDS,
    say: Callable[[str], None] = lambda text: None,
) -> Campaign:
    """Run a campaign. Where the process dies or hangs, another one continues after that execution.

    Args:
        save: folder for the bytes of what must not be.
        raw: see above; ends at the first process that died or hung.
    """
    campaign = Campaign()
    begin, told = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as shared, contextlib.ExitStack() as ended:
        report = Path(folder) / "report.json"
        shared.truncate(STATE_BYTES)
        with mmap.mmap(shared.fileno(), STATE_BYTES) as state:
            while begin < executions:
                state[: STATE.size] = STATE.pack(begin, time.monotonic() + 60.0, 0)
                arguments = (shared.fileno(), report, seed, begin, executions, ",".join(kinds), int(raw))
                process = subprocess.Popen(
                    [sys.executable, "-m", "benchmark.fuzzing.images", "--worker", *map(str, arguments)],
                    pass_fds=(shared.fileno(),),
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                )
                ended.callback(process.kill)
                hung = False
                while (code := process.poll()) is None:
                    time.sleep(0.05)
                    _, since, _ = STATE.unpack_from(state)
                    if time.monotonic() - since > hang_seconds:
                        hung = True
                        process.kill()
                    if time.monotonic() - told > 30 and report.is_file():
                        told = time.monotonic()
                        say(f"{json.loads(report.read_text('utf-8'))['next']} of {executions}")
                reported = campaign.add(report)
                if code == 0:
                    break
                number, _, size = STATE.unpack_from(state)
                # Of the executions since the last report, only the number is known.
                campaign.counts["not reported"] += number - max(reported, begin)
                kind = (
                    "hang" if hung else f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
                )
                save.mkdir(parents=True, exist_ok=True)
                file = save / f"seed_{seed}_execution_{number}.bin"
                file.write_bytes(state[STATE.size : STATE.size + size])
                campaign.counts[kind] += 1
                campaign.found.append({"kind": kind, "execution": number, "file": str(file)})
                say(f"execution {number}: {kind}, {size} bytes saved as {file}")
                begin = number + 1
                if raw or code > 0:
                    break
    return campaign


def main() -> int:
    """Command line; exit code 1 where there was a fault."""
    if sys.argv[1:2] == ["--worker"]:
        descriptor, report, seed, begin, end, kinds, raw = sys.argv[2:]
        with mmap.mmap(int(descriptor), STATE_BYTES) as state:
            work(state, Path(report), int(seed), int(begin), int(end), tuple(kinds.split(",")), raw == "1")
        return 0
    parser = argparse.ArgumentParser(prog="python -m benchmark.fuzzing.images", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--executions", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default=",".join(FILE_KINDS), help="of %(default)s")
    parser.add_argument("--save", type=Path, default=Path("out/fuzz_images"), help="folder for what was found")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--raw", action="store_true", help="OpenCV without the checks")
    options = parser.parse_args()
    started = time.monotonic()
    chosen = tuple(options.kinds.split(","))
    campaign = run(options.executions, options.seed, options.save, chosen, options.raw, say=print)
    facts = {
        "executions": campaign.executions,
        "seed": options.seed,
        "raw": options.raw,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "counts": dict(campaign.counts.most_common()),
        "longest_s": round(campaign.longest_s, 3),
        "peak_mb": round(campaign.peak_bytes / 1e6),
        "found": campaign.found,
        "opencv": cv2.__version__,
    }
    print(json.dumps(facts, indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    return 1 if campaign.problems() or campaign.peak_bytes > MEMORY_BYTES else 0


if __name__ == "__main__":
    sys.exit(main())
