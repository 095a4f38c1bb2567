"""Reads mutated bundles as the vehicle does: each must be good or refused.

    python -m benchmark.fuzzing.bundles --executions 100000 --seed 1

Each execution writes the files of a small bundle with changes drawn from (seed, number), corrects the digests so that
the check gets past them, and calls `read_bundle`. It changes `bundle.yaml` as text, `model.onnx` in its protobuf
structure and in single bytes, `bundle.sig` and the key. The bundle must be good, or refused with `BundleError` and the
name of a file. Some of the good ones are opened in ONNX Runtime and run once, in a process of their own.

It counts crashes (any other exception, or a process that died), hangs (more than 5 s of CPU), and more than 1 GB of
memory beyond that of the empty process. Exit code 1 where one of them is not 0. `--first NUMBER --executions 1` repeats
an execution of a seed.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.fuzzing.bundle_mutations import flipped, mutated_model, mutated_text
from benchmark.inference.small_bundle import DESCRIPTION, small_model
from benchmark.process_memory import peak_resident_bytes

HANG_S = 5
MEMORY_BYTES = 1 << 30
KINDS = ("description", "structure", "structure", "structure", "bytes", "signature")
OPENED = 10
"""One of this many good bundles is opened."""
LARGEST_SILENCE_S = 120
"""Seconds without an answer of a process: it waits and uses no CPU."""


def limit() -> None:
    """Limit memory and CPU time of this process; `start_clock` restarts the CPU time."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def start_clock() -> None:
    """After `HANG_S` of CPU from now on, SIGPROF ends this process, even in a loop of a library."""
    signal.setitimer(signal.ITIMER_PROF, HANG_S)


def write_mutated(folder: Path, seed: int, number: int, model: bytes, key: Any) -> tuple[str, str]:
    """Write the files of an execution; returns its kind and the public key to check."""
    random = np.random.default_rng([seed, number])
    kind = str(random.choice(KINDS))
    text, public_key = DESCRIPTION, ""
    if kind == "structure":
        model = mutated_model(model, random)
    elif kind == "bytes":
        model = flipped(model, random)
    text = text.replace("MODEL", hashlib.sha256(model).hexdigest())
    contents = mutated_text(text, random) if kind == "description" else text.encode()
    if kind == "signature":
        import base64

        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        public_key = base64.b64encode(raw).decode()
        signature = key.sign(contents)
        which = int(random.integers(4))
        if which == 0:
            signature = flipped(signature, random)
        elif which == 1:
            contents = flipped(contents, random)
        elif which == 2:
            public_key = flipped(public_key.encode(), random).decode("latin-1")
        (folder / "bundle.sig").write_bytes(signature)
    (folder / "bundle.yaml").write_bytes(contents)
    (folder / "model.onnx").write_bytes(model)
    return kind, public_key


def read_all(answers: Connection, folder: Path, seed: int, first: int, end: int) -> None:
    """A process: two answers for each execution, at its start and (number, kind, outcome, text) at its end."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from ros_ood_perception.bundle.model_bundle import BundleError, read_bundle

    model, key = small_model(), Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    limit()
    for number in range(first, end):
        kind, public_key = write_mutated(folder, seed, number, model, key)
        start_clock()
        started = time.process_time()
        try:
            read_bundle(folder, public_key)
            outcome, text = "good", ""
        except BundleError as error:
            outcome, text = "refused", str(error)
        except MemoryError:
            outcome, text = "memory", traceback.format_exc()
        except BaseException:
            outcome, text = "crash", traceback.format_exc()
        seconds = time.process_time() - started
        if outcome == "refused" and not (text.replace("\n", "").isprintable() and text.startswith(str(folder))):
            outcome = "crash"
            text = f"an error that names no file, or that a terminal obeys: {text!r}"
        peak = peak_resident_bytes() // 1024
        answers.send((number, kind, outcome, text[:2000], seconds, peak))
    answers.close()


def open_one(answers: Connection, model: bytes) -> None:
    """A process: opens a graph in ONNX Runtime, as the vehicle does, and runs a frame."""
    from ros_ood_perception.inference.engine import EngineError
    from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine

    bundle = _bundle_of(model)
    # Standard error would hold ONNX Runtime's warnings about harmless oddities of a graph.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    limit()
    start_clock()
    try:
        OnnxRuntimeEngine(bundle, 1).run(np.zeros((1, 30, 40, 3), np.uint8))
        answers.send("run")
    except EngineError as error:
        answers.send("memory" if "alloc" in str(error) else f"refused {error}"[:300])
    except BaseException:
        answers.send("crash " + traceback.format_exc()[:2000])


def _bundle_of(model: bytes) -> Any:
    from ros_ood_perception.bundle.description import BundleDescription
    from ros_ood_perception.bundle.model_bundle import Bundle
    from ros_ood_perception.files.strict_yaml import from_mapping, parse_yaml

    data = parse_yaml(DESCRIPTION.encode(), "the fuzzer's description")
    return Bundle(Path("small"), from_mapping(data, BundleDescription, "the fuzzer's description"), model)


class Campaign:
    """Runs executions in processes that may die, and counts the outcomes."""

    def __init__(self, seed: int, folder: Path) -> None:
        self._seed, self._folder = seed, folder
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.kinds: collections.Counter[str] = collections.Counter()
        self.opened: collections.Counter[str] = collections.Counter()
        self.found: list[dict[str, Any]] = []
        self.slowest_s = 0.0
        self.peak_kb = 0
        self._good = 0
        # Forked, so that the process of each opened graph has its imports already.
        self._context = multiprocessing.get_context("fork")
        self._model = small_model()

    def run(self, first: int, executions: int) -> None:
        """Run all executions, whatever dies."""
        number, end = first, first + executions
        while number < end:
            number = self._process(number, end)

    def _process(self, first: int, end: int) -> int:
        """Run one process until it ends; returns the next execution."""
        answers, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=read_all, args=(theirs, self._folder, self._seed, first, end))
        process.start()
        theirs.close()
        number = first
        try:
            while number < end:
                if not answers.poll(LARGEST_SILENCE_S):
                    process.kill()
                    break
                number, kind, outcome, text, seconds, peak = answers.recv()
                self._count(number, kind, outcome, text)
                self.slowest_s, self.peak_kb = max(self.slowest_s, seconds), max(self.peak_kb, peak)
                number += 1
        except EOFError:
            pass
        process.join()
        if number < end:
            hung = process.exitcode in (-signal.SIGPROF, -signal.SIGKILL)
            self._count(number, "?", "hang" if hung else "crash", f"the process ended with {process.exitcode}")
            number += 1
        return number

    def _count(self, number: int, kind: str, outcome: str, text: str) -> None:
        self.outcomes[outcome] += 1
        self.kinds[kind] += 1
        if outcome not in ("good", "refused"):
            self.found.append({"number": number, "kind": kind, "outcome": outcome, "text": text})
        elif outcome == "good" and kind in ("structure", "bytes"):
            self._good += 1
            if self._good % OPENED == 1:
                self._open(number)

    def _open(self, number: int) -> None:
        random = np.random.default_rng([self._seed, number])
        kind = str(random.choice(KINDS))
        model = (mutated_model if kind == "structure" else flipped)(self._model, random)
        answers, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=open_one, args=(theirs, model))
        process.start()
        theirs.close()
        try:
            answer = answers.recv() if answers.poll(LARGEST_SILENCE_S) else "hang"
        except EOFError:
            answer = "none"
        if answer == "hang":
            process.kill()
        process.join()
        if answer == "none":
            answer = "hang" if process.exitcode == -signal.SIGPROF else f"crash {process.exitcode}"
        outcome = answer.split()[0]
        self.opened[outcome] += 1
        if outcome not in ("run", "refused"):
            self.found.append({"number": number, "kind": "ONNX Runtime", "outcome": outcome, "text": answer})


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.fuzzing.bundles",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--executions", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first execution (default: 0)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    base = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="fuzz_bundles_", dir=base))
    try:
        # Imported before the processes are forked.
        import ros_ood_perception.inference.onnxruntime_engine  # noqa: F401

        campaign = Campaign(options.seed, folder)
        campaign.run(options.first, options.executions)
    finally:
        shutil.rmtree(folder)
    minutes = (time.monotonic() - started) / 60
    outcomes, opened = campaign.outcomes, campaign.opened
    result = {
        "executions": sum(outcomes.values()),
        "seed": options.seed,
        "minutes": round(minutes, 1),
        "by kind": dict(campaign.kinds),
        "good": outcomes["good"],
        "refused": outcomes["refused"],
        "opened in ONNX Runtime": dict(opened),
        "crashes": outcomes["crash"] + opened["crash"],
        "hangs": outcomes["hang"] + opened["hang"],
        "over 1 GB": outcomes["memory"] + opened["memory"],
        "slowest, s of CPU": round(campaign.slowest_s, 2),
        "peak memory, MB": round(campaign.peak_kb / 1024),
        "found": campaign.found[:50],
    }
    print(json.dumps(result, indent=2))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 1 if campaign.found else 0


if __name__ == "__main__":
    sys.exit(main())
