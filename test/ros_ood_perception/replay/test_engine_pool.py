"""The processes of a replay, with an engine that opens in so many of them as a GPU has memory for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_gpu import SmallGpu

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.inference.engine import EngineError, GpuOptions
from ros_ood_perception.replay.engine_pool import EnginePool


@pytest.mark.parametrize("room", [0, 3])
def test_auto_is_one_engine_in_all_processes(shipped_bundle: Path, tmp_path: Path, room: int) -> None:
    pool = EnginePool(read_bundle(shipped_bundle), "auto", 3, 1, SmallGpu(tmp_path, room))
    try:
        assert pool.name == ("tensorrt" if room else "onnxruntime")
        assert len(list(tmp_path.iterdir())) == room
        results = [pool.submit(np.zeros((4, 4, 3), np.uint8)) for _ in range(12)]
        assert {float(pool.result(result).anomaly_score.max()) for result in results} == {float(room > 0)}
    finally:
        processes = [process for executor in pool._executors for process in executor._processes.values()]  # type: ignore[union-attr]
        # More than three processes can finish before the next line, however busy the machine is.
        waiting = [pool.submit(np.zeros((4, 4, 3), np.uint8)) for _ in range(600)]
        pool.close()
        # Nothing goes on behind the caller's back.
        assert not any(process.is_alive() for process in processes)
        assert sum(future.cancelled() for future in waiting) > 300


@pytest.mark.parametrize(("deadly", "reason"), [(False, "out of memory"), (True, ".*terminated abruptly.*")])
def test_a_gpu_that_is_full_before_all_processes_have_it_says_so(
    shipped_bundle: Path, tmp_path: Path, deadly: bool, reason: str
) -> None:
    message = rf"'tensorrt' opens in one process and not in 3 at a time \({reason}\); give fewer --jobs"
    with pytest.raises(EngineError, match=message):
        EnginePool(read_bundle(shipped_bundle), "auto", 3, 1, SmallGpu(tmp_path, 2, deadly))


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_frame_runs_at_the_size_of_its_aspect_in_every_process(bundle_of_two_sizes: Path, jobs: int) -> None:
    pool = EnginePool(read_bundle(bundle_of_two_sizes), "onnxruntime", jobs, 1, GpuOptions())
    try:
        frames = [np.zeros((120, width, 3), np.uint8) for width in (160, 230, 160, 300, 300)]
        results = [pool.result(pool.submit(frame)).semantic.shape for frame in frames]
    finally:
        pool.close()
    assert results == [(1, 96, 128), (1, 64, 160), (1, 96, 128), (1, 64, 160), (1, 64, 160)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_sizes_above_the_parameter_are_left_out_in_every_process(bundle_of_two_sizes: Path, jobs: int) -> None:
    bundle = read_bundle(bundle_of_two_sizes)
    assert bundle.up_to(0) == bundle.up_to(64) == bundle
    # The first size is always there, whatever its rows.
    limited = bundle.up_to(63)
    assert limited.description.input.sizes == ((96, 128),)
    pool = EnginePool(limited, "onnxruntime", jobs, 1, GpuOptions())
    try:
        results = [pool.result(pool.submit(np.zeros((100, 250, 3), np.uint8))) for _ in range(2)]
    finally:
        pool.close()
    assert [result.semantic.shape for result in results] == [(1, 96, 128)] * 2


def test_an_engine_that_opens_nowhere_says_why(shipped_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"^out of memory$"):
        EnginePool(read_bundle(shipped_bundle), "tensorrt", 2, 1, SmallGpu(tmp_path, 0))


def test_a_process_that_dies_in_opening_is_an_error_of_the_engine(shipped_bundle: Path, tmp_path: Path) -> None:
    message = r"^the process that opened the engine 'tensorrt' died \(.*terminated abruptly.*\)$"
    with pytest.raises(EngineError, match=message):
        EnginePool(read_bundle(shipped_bundle), "tensorrt", 2, 1, SmallGpu(tmp_path, 0, deadly=True))
