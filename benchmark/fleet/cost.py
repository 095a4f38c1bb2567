"""What Ray costs beside a plain loop over `replay`, and what a second CPU gives."""

from __future__ import annotations

import ctypes
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.fleet.recordings import make_recordings

ROOT = Path(__file__).resolve().parents[2]
PR_SET_CHILD_SUBREAPER = 36
TICKS = os.sysconf("SC_CLK_TCK")
LOOK_S = 0.1
OUTPUTS = "obstacle_detections"
"""What `fleet.mine` makes without --outputs."""
PLAIN_LOOP = """
import sys
from ros_ood_perception.replay.command_line.main import main
bundle, out, *names = sys.argv[1:]
for name in names:
    main([name, "--bundle", bundle, "--out", out, "--overwrite", "--outputs", "{outputs}", "--compression", "none",
          "--threads", "1"])
"""
ENGINE_ALONE = """
import sys, time
import numpy as np
from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.inference.engine import GpuOptions
from ros_ood_perception.replay.engine_pool import EnginePool
pool = EnginePool(read_bundle(sys.argv[1]), "onnxruntime", 1, 1, GpuOptions())
image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
began, count = time.monotonic(), 0
while time.monotonic() - began < float(sys.argv[2]):
    pool.result(pool.submit(image))
    count += 1
print(count / (time.monotonic() - began))
pool.close()
"""


@dataclass(frozen=True)
class Cost:
    """Of a command with all processes that it began.

    Attributes:
        wall_s, cpu_s: time of the clock, and of the CPUs.
    """

    wall_s: float
    cpu_s: float


class CpuClock:
    """CPU time of all processes below this one, also of those that nobody waits for, as Ray's. A context manager.

    Processes that lose their parent become ours. Each one's time is read again and again, so the last moment of a
    process is missed.
    """

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}
        self._before: dict[int, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def seconds(self) -> float:
        """CPU seconds of all processes that began in the block."""
        return sum(seconds - self._before.get(process, 0.0) for process, seconds in self._seen.items())

    def __enter__(self) -> CpuClock:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._look()
        self._before = dict(self._seen)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_S):
            self._look()

    def _look(self) -> None:
        parents, times = {}, {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                parents[int(entry.name)] = int(fields[1])
                times[int(entry.name)] = (int(fields[11]) + int(fields[12])) / TICKS
        for process, seconds in times.items():
            above = parents[process]
            while above in parents and above != os.getpid():
                above = parents[above]
            if above == os.getpid():
                self._seen[process] = seconds


def cost_of(command: Sequence[str], cpus: Sequence[int]) -> Cost:
    """Run a command on these CPUs, and wait for every process that it leaves behind."""
    began = time.monotonic()
    with open(os.devnull, "w") as nowhere, CpuClock() as clock:
        code = subprocess.Popen(
            command, cwd=ROOT, stderr=nowhere, stdout=nowhere, preexec_fn=lambda: os.sched_setaffinity(0, cpus)
        ).wait()
        wall_s = time.monotonic() - began
        if code:
            raise SystemExit(f"exit code {code}: {' '.join(command[:8])}")
        while True:
            try:
                os.wait()
            except ChildProcessError:
                break
    return Cost(wall_s, clock.seconds)


def fleet_cost(options: Namespace, names: Sequence[str], cpus: Sequence[int]) -> Cost:
    """Cost of `fleet.mine` with a worker for each CPU."""
    out = options.work / "cost_tables"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "fleet.mine", *names, "--bundle", str(options.bundle), "--out", str(out)]
    return cost_of([*command, "--memory-per-task", "0"], cpus)


def measure_overhead(options: Namespace) -> int:
    """Compare with a plain loop, in turn, on one CPU; returns the exit code."""
    names = make_recordings(options)
    cpus = sorted(os.sched_getaffinity(0))[-1:]
    loop = [sys.executable, "-c", PLAIN_LOOP.format(outputs=OUTPUTS), str(options.bundle), str(options.work / "replay")]
    few = names[:2]
    found: dict[str, list[Cost]] = {"loop": [], "loop of 2": [], "fleet": [], "fleet of 2": []}
    for _ in range(options.rounds):
        found["loop"].append(cost_of([*loop, *names], cpus))
        found["fleet"].append(fleet_cost(options, names, cpus))
        found["loop of 2"].append(cost_of([*loop, *few], cpus))
        found["fleet of 2"].append(fleet_cost(options, few, cpus))
    for name, costs in found.items():
        shown = ", ".join(f"{cost.cpu_s:.1f} CPU s in {cost.wall_s:.0f} s" for cost in costs)
        print(f"{name}: {shown}")
    cpu = {name: statistics.median(cost.cpu_s for cost in costs) for name, costs in found.items()}
    further = len(names) - len(few)
    each = {name: (cpu[name] - cpu[f"{name} of 2"]) / further for name in ("loop", "fleet")}
    print(f"{len(names)} recordings: CPU time {cpu['fleet'] / cpu['loop'] - 1:+.1%} against the loop, begin included")
    print(
        f"each further one: {each['loop']:.2f} and {each['fleet']:.2f} CPU s, {each['fleet'] / each['loop'] - 1:+.1%}"
    )
    return 0


def measure_scaling(options: Namespace) -> int:
    """Time on one CPU and on two, beside the engine alone, in turn; returns the exit code."""
    names = make_recordings(options)
    cpus = sorted(os.sched_getaffinity(0))[:2]
    gains, engine_gains = [], []
    few = names[:2]
    for _ in range(options.rounds):
        times = {}
        for count in (1, 2):
            whole, begin = (fleet_cost(options, of, cpus[:count]).wall_s for of in (names, few))
            times[count] = whole - begin
        gains.append(times[1] / times[2])
        engine_gains.append(_engine_rate(options, cpus, 2) / _engine_rate(options, cpus, 1))
        print(f"fleet {gains[-1]:.2f}, engine alone {engine_gains[-1]:.2f}; load {os.getloadavg()[0]:.1f}")
    print(
        f"from one CPU to two, less the begin: {statistics.median(gains):.2f} times as fast; the engine alone "
        f"{statistics.median(engine_gains):.2f}"
    )
    return 0


def measure_driver(options: Namespace) -> int:
    """Time and memory of the driver for recordings without a frame; returns the exit code."""
    folder, out = options.work / "broken", options.work / "driver_tables"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for number in range(options.recordings):
        (folder / f"{number:06d}.mcap").write_bytes(b"no bag")
    for count in (2, options.recordings):
        shutil.rmtree(out, ignore_errors=True)
        names = folder / f"{count}.txt"
        names.write_text("".join(f"{folder / f'{number:06d}.mcap'}\n" for number in range(count)))
        command = [sys.executable, "-m", "fleet.mine", f"@{names}", "--bundle", str(options.bundle), "--out", str(out)]
        began = time.monotonic()
        with open(os.devnull, "w") as nowhere:
            driver = subprocess.Popen(command, cwd=ROOT, stderr=nowhere)
            _, _, used = os.wait4(driver.pid, 0)
        cpu_s = used.ru_utime + used.ru_stime
        print(
            f"{count} recordings: driver {used.ru_maxrss / 1e3:.1f} MB and {cpu_s:.1f} CPU s, in all "
            f"{time.monotonic() - began:.0f} s"
        )
    return 0


def _engine_rate(options: Namespace, cpus: Sequence[int], count: int, seconds: float = 10.0) -> float:
    """Frames a second of `count` engines, each on a CPU of its own."""
    command = [sys.executable, "-c", ENGINE_ALONE, str(options.bundle), str(seconds)]
    engines = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=_pinned(cpu))
        for cpu in cpus[:count]
    ]
    return sum(float(engine.communicate()[0]) for engine in engines)


def _pinned(cpu: int) -> Callable[[], None]:
    return lambda: os.sched_setaffinity(0, [cpu])
