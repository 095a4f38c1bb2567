"""Reads randomly changed bags: no crash, no hang, no gigabyte of memory, and no message lost unnoticed.

    python -m benchmark.fuzzing.recordings --kind mcap --executions 100000 --seed 1 [--keep DIR]

Each execution changes one of several small bags (see `bag_mutations`), reads every message through `Bag` in a process
with 1 GiB of address space, and checks that
- no signal ends the process, and an execution takes less than 5 s;
- only `BagError` is raised;
- exactly the messages of the unchanged bag are read, with their times and types, or `damage` names a fault. Where the
  file has a checksum over its messages, their bytes must be the same as well; SQLite has none.

`--only NUMBER` repeats one execution of a seed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmark.fuzzing.bag_corpus import Seed, seeds
from benchmark.fuzzing.bag_mutations import changed
from benchmark.process_memory import peak_resident_bytes

KINDS = ("mcap", "sqlite", "metadata", "ros1")
MOST_ADDRESS_SPACE = 1 << 30
MOST_SECONDS = 5.0
REPORTED_EVERY = 10_000


class Executions:
    """Reads changed bags in its own folder."""

    def __init__(self, kind: str, seed: int, folder: Path) -> None:
        from ros_ood_perception.recordings.bag import Bag

        self._kind, self._seed, self._folder = kind, seed, folder
        scratch = folder / "seeds"
        scratch.mkdir()
        self._seeds = seeds(kind, scratch)
        self._bag = folder / "bag"
        self._expected = {}
        for one in self._seeds:
            self.write(one, one.files[one.changed])
            bag = Bag(self._bag)
            self._expected[one.name] = _read(bag, one.summed)
            if bag.damage or not self._expected[one.name]:
                raise RuntimeError(f"{one.name}: the unchanged bag is damaged: {bag.damage}")

    def write(self, seed: Seed, data: bytes) -> None:
        """Write a bag into the folder."""
        shutil.rmtree(self._bag, ignore_errors=True)
        self._bag.mkdir()
        for name, contents in seed.files.items():
            (self._bag / name).write_bytes(data if name == seed.changed else contents)

    def __call__(self, number: int) -> str:
        """Run one execution; returns `whole`, `named`, `refused`, or the problem."""
        from ros_ood_perception.recordings.bag import Bag, BagError

        generator = random.Random(f"{self._kind} {self._seed} {number}")
        seed = generator.choice(self._seeds)
        data = changed(seed, generator)
        self.write(seed, data)
        try:
            bag = Bag(self._bag)
            found = _read(bag, seed.summed)
            damage = bag.damage
        except BagError:
            return "refused"
        except Exception:
            return f"error {traceback.format_exc()}"
        if damage:
            return "named"
        expected = self._expected[seed.name]
        earlier = seed.name == "log" and seed.files[seed.changed].startswith(data)
        if found == expected or earlier:
            # A log that ends between two pages is valid: its recorder was killed at that time.
            return "whole"
        return f"silent {seed.name}: {sum((expected - found).values())} lost, {sum((found - expected).values())} more"


def _read(bag: Any, summed: bool) -> Counter[Any]:
    return Counter(
        (message.topic, message.type_name, message.time_ns, message.raw if summed else b"")
        for message in bag.messages(bag.types)
    )


def _serve(kind: str, seed: int, first: int, last: int, folder: Path, pipe: Connection) -> None:
    tempfile.tempdir = str(folder)
    executions = Executions(kind, seed, folder)
    # From here on: the imports are not part of the test.
    resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESS_SPACE, MOST_ADDRESS_SPACE))
    pipe.send(None)
    for number in range(first, last):
        started = time.monotonic()
        pipe.send((number, executions(number), time.monotonic() - started))
    pipe.send(("peak", peak_resident_bytes() // 1024))


def fuzz(kind: str, count: int, seed: int, first: int = 0) -> dict[str, Any]:
    """Run `count` executions; returns their outcomes.

    Returns:
        `whole`, `named`, `refused`: how many; `wrong`: number of an execution to what was wrong; `slowest_s` and
        `peak_mb`.
    """
    found: Counter[str] = Counter()
    wrong: dict[int, str] = {}
    slowest, peak, number, last = 0.0, 0, first, first + count
    context = multiprocessing.get_context("spawn")
    while number < last:
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_serve, args=(kind, seed, number, last, Path(folder), theirs))
            process.start()
            theirs.close()
            try:
                ours.recv()
                while True:
                    if not ours.poll(MOST_SECONDS):
                        wrong[number] = f"hang: more than {MOST_SECONDS:.0f} s"
                        process.kill()
                        break
                    report = ours.recv()
                    if report[0] == "peak":
                        peak = max(peak, report[1])
                        break
                    number, outcome, seconds = report
                    slowest = max(slowest, seconds)
                    found[outcome.split()[0]] += 1
                    if outcome not in ("whole", "named", "refused"):
                        wrong[number] = outcome
                    number += 1
                    if not number % REPORTED_EVERY:
                        print(
                            f"{kind}: {number} of {last}, {dict(found)}, wrong {len(wrong)}",
                            file=sys.stderr,
                            flush=True,
                        )
            except EOFError:
                process.join()
                wrong[number] = f"crash: the process ended with {process.exitcode}"
            process.join()
            if number in wrong:
                number += 1
            elif process.exitcode and number < last:
                raise RuntimeError(f"the process ended with {process.exitcode}")
    return {
        **{name: found[name] for name in ("whole", "named", "refused")},
        "wrong": wrong,
        "slowest_s": round(slowest, 3),
        "peak_mb": peak // 1024,
    }


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--executions", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first execution")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="one execution, in this process")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="with --only: where the bag is put")
    options = parser.parse_args()
    if options.only is not None:
        with tempfile.TemporaryDirectory() as folder:
            executions = Executions(options.kind, options.seed, Path(folder))
            print(executions(options.only))
            if options.keep is not None:
                shutil.copytree(Path(folder) / "bag", options.keep)
        return 0
    started = time.monotonic()
    found = fuzz(options.kind, options.executions, options.seed, options.first)
    found["seconds"] = round(time.monotonic() - started)
    print(json.dumps({"kind": options.kind, "executions": options.executions, "seed": options.seed, **found}, indent=1))
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
