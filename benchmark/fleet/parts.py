"""How many parts of a long recording continue exactly what the part before them left, and what the others cost."""

from __future__ import annotations

import shutil
import time
from argparse import Namespace

from benchmark.fleet.recordings import THREADS, bundle_files
from fleet.mine.recording.parts import PartPlan
from fleet.mine.settings import MineSettings
from fleet.mine.worker import SPLIT, Worker
from fleet.storage.place import open_place
from fleet.storage.recordings import find_recordings
from fleet.tables.files import read_table, table_bytes
from fleet.tables.schema import TABLES

PART_S = 5.0
OVERLAPS_S = (2.0, 5.0, 10.0)


def measure_parts(options: Namespace) -> int:
    """Replay each recording of WORK/long whole and in parts; returns the exit code."""
    names = [recording.name for recording in find_recordings([str(options.work / "long")]).recordings]
    files, wrong = bundle_files(options.bundle), 0
    for out in ("long_whole", "long_parts"):
        shutil.rmtree(options.work / out, ignore_errors=True)
    whole = Worker(MineSettings(str(options.work / "long_whole"), files, None, THREADS, part_s=0))
    split = Worker(MineSettings(str(options.work / "long_parts"), files, None, THREADS, part_s=PART_S))
    for name in names:
        began = time.process_time()
        whole.mine(name)
        cost_s = time.process_time() - began
        plan = split.mine(name).plan
        if plan is None:
            print(f"{name}: is not split")
            continue
        for overlap_s in OVERLAPS_S:
            wrong += _join(split, name, plan, overlap_s, cost_s, options)
    whole.close()
    split.close()
    return 1 if wrong else 0


def _join(worker: Worker, name: str, plan: PartPlan, overlap_s: float, cost_s: float, options: Namespace) -> int:
    began = time.process_time()
    for number in range(plan.count):
        outcome = worker.mine_part(name, plan, number, overlap_s)
        assert outcome.state != SPLIT
    parts_s = time.process_time() - began
    outcome = worker.join(name, plan)
    again_s = time.process_time() - began - parts_s
    same = True
    for table in TABLES:
        if table.is_repeatable:
            found, wanted = (
                read_table(open_place(str(options.work / out)), table.name) for out in ("long_parts", "long_whole")
            )
            keep = [of == name for of in wanted["recording"].to_pylist()]
            mine = [of == name for of in found["recording"].to_pylist()]
            same &= table_bytes(found.filter(mine)) == table_bytes(wanted.filter(keep))
    print(
        f"{name}, overlap {overlap_s:g} s: {outcome.note}; {'same tables' if same else 'TABLES DIFFER'}; whole "
        f"{cost_s:.1f} CPU s, parts {parts_s:.1f}, joining {again_s:.1f}"
    )
    return not same
