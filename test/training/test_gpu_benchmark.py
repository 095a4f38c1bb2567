"""The GPU benchmark's own code, on a small case: on a GPU where there is one, else on the CPU and on stand-ins."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.inference import gpu


def test_the_small_case_writes_a_ladder_and_the_precisions(
    bundle: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = tmp_path / "gpu.json"
    command = ["--smoke", "--bundle", str(bundle), "--data", f"camvid:{tree / 'val'}", "--json", str(result)]
    assert gpu.main(command) == 0
    found = json.loads(result.read_text())
    [case] = found["ladder"]
    rungs = {rung["rung"]: rung for rung in case["rungs"]}
    assert {"torch fp32", "torch fp16 channels-last"} <= set(rungs)
    assert all(0 < rung["median"] <= rung["p99"] for rung in rungs.values())
    [cpu] = [row for row in found["precisions"] if row["engine"] == "ONNX Runtime fp32"]
    assert (cpu["label_agreement"], cpu["mean_score_difference"]) == (1.0, 0.0)
    if not torch.cuda.is_available():
        # What is not measured is said, with the reason, and is in no table.
        assert any(line.startswith("TensorRT: ") for line in case["missing"])
        assert len(found["not_measured"]) == 6
        assert "not measured: camvid, torch fp16" in capsys.readouterr().out


def test_on_sets_with_anomalies_the_figures_are_those_of_evaluation(
    bundle: Path, camvid: Path, real_frames: object, tmp_path: Path
) -> None:
    folder = camvid.parent / "smiyc_anomaly_val"
    if not folder.is_dir():
        pytest.skip(f"no frames at {folder}")
    from ros_ood_perception.bundle.model_bundle import read_bundle
    from training.data.arguments import data_argument
    from training.evaluate import main as evaluate

    data = f"smiyc_anomaly:{folder}"
    rows, _ = gpu.precisions(read_bundle(bundle), data_argument(data), tmp_path / "cache")
    assert (
        evaluate([str(bundle), "--data", data, "--json", str(tmp_path / "r.json"), "--out", str(tmp_path / "out")]) == 0
    )
    text = (tmp_path / "r.json").read_text()
    assert json.dumps(round(rows[0]["AP"], 3))[:5] in text
    assert 0 < rows[0]["FPR95"] < 1


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert gpu.main([]) == 2
    assert "--smoke tries the script itself" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "size"), [("small", (512, 1024)), ("resnet18", (720, 1280))])
def test_the_work_of_a_case_is_counted(name: str, size: tuple[int, int]) -> None:
    model = gpu.segmenter(name, size)
    assert all(m % 32 == 0 and 0 <= m - s < 32 for m, s in zip(model.input_size, size, strict=True))
    flops, moved = gpu.work_of(model, 3)
    single, _ = gpu.work_of(model, 1)
    assert flops == 3 * single
    weight = "encoder.embedder.embedder.convolution.weight"
    first = 2 * np.prod(model.input_size) / 4 * model.segmenter.get_parameter(weight).numel()
    assert flops > 3 * first
    assert moved > 3 * 2 * 3 * np.prod(model.input_size)
