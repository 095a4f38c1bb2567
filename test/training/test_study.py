"""A study: every variant from the same pre-trained networks, measured on the same sets, in rows that stay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from synthetic_camvid import write_anomalies, write_camvid
from test_train_segmenter import TINY
from tiny_joint_training import joint_config

from ros_ood_perception.files.strict_yaml import from_mapping, load_yaml, read_yaml
from training.flow.training_config import FlowTrainingConfig
from training.joint.training_config import JointTrainingConfig
from training.runs.training_run import config_digest
from training.study.__main__ import main as study
from training.study.config import StudyConfig
from training.study.report import by_reliability, mean_and_spread
from training.study.report import main as report
from training.study.report import report as report_text
from training.study.study import merged

VARIANTS: dict[str, Any] = {"cross_entropy": {"negatives": {"source": "none"}}, "flow": {"beta": 0.5}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_camvid(folder / "camvid")
    write_anomalies(folder / "smiyc_anomaly_val")
    return folder


def write_study(folder: Path, joint: Any = None, **changes: Any) -> Path:
    data = {"workers": 0, "root": "data/camvid"}
    parts: dict[str, Any] = {
        "segmenter": {**TINY, "epochs": 1, "data": data},
        "flow": {
            "name": "flow",
            "epochs": 1,
            "batch_size": 4,
            "validation_crops": 4,
            "sample_sizes": [[16, 16]],
            "flow": joint_config()["flow"],
            "augmentation": {"crop": [32, 32]},
            "data": data,
        },
        "joint": joint_config(epochs=1, data=data, **(joint or {})),
    }
    for name, values in parts.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
    config = {
        "name": "tiny",
        **{name: str(folder / f"{name}.yaml") for name in parts},
        "seeds": [3],
        "variants": VARIANTS,
        "sets": ["camvid:camvid@val", "smiyc_anomaly_val:smiyc_anomaly_val"],
        "scores": ["maximum_softmax"],
        **changes,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def arguments(path: Path, data: Path, *more: str) -> list[str]:
    folder = path.parent
    return [
        *("--config", str(path), "--data", str(data), "--results", str(folder / "results.json")),
        *("--runs", str(folder / "runs"), *more),
    ]


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((path.parent / "results.json").read_text())["rows"]
    return found


def test_a_study_measures_every_variant_once_and_goes_on_where_it_was_stopped(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = {"held_out": ["bicyclist"], "held_out_set": "camvid:camvid@val", "held_out_variants": ["flow"]}
    path = write_study(tmp_path, **held_out)
    assert study(arguments(path, data, "--variant", "cross_entropy")) == 0
    assert [row["variant"] for row in rows(path)] == ["cross_entropy"]
    assert study(arguments(path, data, "--variant", "cross_entropy", "--only", "held_out")) == 0
    assert len(rows(path)) == 1, "cross_entropy is not among held_out_variants"
    pretrained = (tmp_path / "runs" / "seed3" / "segmenter" / "last.pt").stat().st_mtime_ns

    assert study(arguments(path, data, "--only", "all_classes")) == 0
    assert [row["held_out"] for row in rows(path)] == [[], []]
    assert not (tmp_path / "runs" / "seed3_held_out").exists()
    assert study(arguments(path, data)) == 0
    found = rows(path)
    assert [(row["variant"], row["held_out"]) for row in found] == [
        ("cross_entropy", []),
        ("flow", []),
        ("flow", ["bicyclist"]),
    ]
    assert (tmp_path / "runs" / "seed3" / "segmenter" / "last.pt").stat().st_mtime_ns == pretrained
    assert found[0]["steps"] == found[1]["steps"] > 0
    own = found[1]["measured"]["jensen_shannon_to_uniform"]
    assert 0 < own["smiyc_anomaly_val"]["exact"]["AP"] <= 1
    assert 0 <= own["camvid"]["semantic"]["mIoU"] <= 1
    assert "AP" in found[1]["measured"]["maximum_softmax"]["smiyc_anomaly_val"]["exact"]

    before = (tmp_path / "results.json").read_bytes()
    assert study(arguments(path, data)) == 0
    assert (tmp_path / "results.json").read_bytes() == before
    assert "another configuration" not in capsys.readouterr().err

    # What was trained with other settings is not taken for what the file says now.
    write_study(tmp_path, joint={"beta": 0.7}, **held_out)
    assert study(arguments(path, data)) == 0
    assert "cross_entropy, seed 3: its row, which is kept, has another configuration" in capsys.readouterr().err
    (tmp_path / "results.json").rename(tmp_path / "old.json")
    assert study(arguments(path, data)) == 2
    assert "cross_entropy: was trained with another configuration than the present one" in capsys.readouterr().err
    (tmp_path / "old.json").rename(tmp_path / "results.json")
    write_study(tmp_path, **held_out)

    capsys.readouterr()
    assert report([str(tmp_path / "results.json")]) == 0
    tables = capsys.readouterr().out
    assert "| flow | 1 |" in tables
    assert "bicyclist held out" in tables
    ap = 100 * own["smiyc_anomaly_val"]["exact"]["AP"]
    assert f"{ap:.1f} / " in tables
    monitor, curves = own["camvid"]["error_monitor"], own["smiyc_anomaly_val"]["threshold_curves"]
    reliability = tables.split("## Errors found")[1].split("##")[0]
    assert f"| flow | {100 * monitor['AUROC']:.1f} | {100 * monitor['AURC']:.1f} | " in reliability
    assert f"| {100 * curves['AUTC']:.1f} / " in reliability

    # From a bundle, seeds share what is pre-trained, and differ all the same.
    shared = tmp_path / "shared"
    shared.mkdir()
    bundle = tmp_path / "runs" / "seed3" / "variants" / "cross_entropy" / "bundle"
    # Without other scores than the bundles' own.
    changes = {"scores": [], "seeds": [3, 4], "segmenter": str(bundle), "joint": {"frozen_batch_norm": True}}
    path = write_study(shared, **changes)
    assert study(arguments(path, data, "--variant", "flow")) == 0
    assert [row["seed"] for row in rows(path)] == [3, 4]
    assert rows(path)[0]["model_sha256"] != rows(path)[1]["model_sha256"]
    assert sorted(folder.name for folder in (shared / "runs").iterdir()) == ["seed3", "seed4", "shared"]

    # The bundle has learnt the held-out class; what starts without it needs a segmenter of its own, one for all seeds.
    path = write_study(shared, **changes, **held_out)
    capsys.readouterr()
    assert study(arguments(path, data, "--variant", "flow")) == 2
    assert "trained on bicyclist; give held_out_segmenter" in capsys.readouterr().err
    path = write_study(shared, **changes, **held_out, held_out_segmenter=str(shared / "segmenter.yaml"))
    assert study(arguments(path, data, "--variant", "flow")) == 0
    assert [(row["seed"], row["held_out"]) for row in rows(path)[2:]] == [(3, ["bicyclist"]), (4, ["bicyclist"])]
    trained = sorted(path.parent.relative_to(shared / "runs").as_posix() for path in shared.glob("runs/*/*/best.pt"))
    assert trained == ["shared/flow", "shared_held_out/flow", "shared_held_out/segmenter"]


def a_row(variant: str, seed: int, ap: float, held_out: list[str]) -> dict[str, Any]:
    figures = {"frames": 3, "exact": {"AP": ap, "FPR95": 0.5, "AUROC": 0.5}}
    measured = {"jensen_shannon_to_uniform": {"drives": figures}}
    return {"variant": variant, "seed": seed, "held_out": held_out, "seconds_per_step": 1.0, "measured": measured}


def write_results(path: Path, variants: list[str], *rows: dict[str, Any]) -> Path:
    contents = {"study": "two_places", "config": {"variants": {name: {} for name in variants}}, "rows": rows}
    path.write_text(json.dumps(contents))
    return path


def test_rows_of_two_places_become_one_study_with_its_tables_and_its_chart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write_results(tmp_path / "a.json", ["flow"], a_row("flow", 1, 0.1, []), a_row("flow", 0, 0.2, []))
    second = write_results(
        tmp_path / "b.json",
        ["none", "flow"],
        a_row("none", 0, 0.4, ["car"]),
        a_row("flow", 1, 0.3, []),
        a_row("none", 0, 0.05, []),
    )
    both, chart = tmp_path / "both.json", tmp_path / "pictures" / "chart.png"
    assert report([str(first), str(second), "--merge", str(both), "--chart", str(chart)]) == 0
    tables = capsys.readouterr().out
    assert "| flow | 2 | - | 25.0 ± 7.1 / 50.0 ± 0.0 |" in tables
    merged_file = json.loads(both.read_text())
    assert merged_file["config"]["variants"].keys() == {"none", "flow"}
    assert [(row["variant"], row["seed"], row["held_out"]) for row in merged_file["rows"]] == [
        ("none", 0, []),
        ("flow", 0, []),
        ("flow", 1, []),
        ("none", 0, ["car"]),
    ]
    assert report([str(both)]) == 0
    assert capsys.readouterr().out == tables
    picture = cv2.imread(str(chart))
    assert picture.shape[1] > picture.shape[0] > 50
    # A set of which nothing but the held-out class was measured has panels of its own: red and green in both halves.
    for half in np.array_split(picture.astype(int), 2, axis=1):
        assert (half[..., 1] - half[..., 2] > 60).any()
        assert (half[..., 2] - half[..., 1] > 60).any()

    before = both.read_bytes()
    other = tmp_path / "other.json"
    other.write_text(first.read_text().replace("two_places", "elsewhere"))
    assert report([str(first), str(other), "--merge", str(both)]) == 2
    assert "other.json: is of the study 'elsewhere'" in capsys.readouterr().err
    assert report([str(second), str(first), "--merge", str(both)]) == 2
    assert "the study 'two_places' has no variant none, of which there are rows" in capsys.readouterr().err
    classes_only = {**a_row("flow", 0, 0.1, []), "measured": {"jensen_shannon_to_uniform": {"drives": {"frames": 3}}}}
    alone = write_results(tmp_path / "classes.json", ["flow"], classes_only)
    assert report([str(alone), "--chart", str(tmp_path / "none.png")]) == 2
    assert "nothing to draw" in capsys.readouterr().err
    assert report([str(both), "--chart", str(chart), "--score", "entropy"]) == 2
    assert "--score entropy: was not measured; there are jensen_shannon_to_uniform" in capsys.readouterr().err
    assert both.read_bytes() == before


def test_two_variants_are_compared_seed_by_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        a_row("a", 0, 0.1, []),
        a_row("b", 0, 0.3, []),
        a_row("a", 1, 0.6, []),
        a_row("b", 1, 0.5, []),
        a_row("a", 2, 0.9, []),
        a_row("a", 0, 0.2, ["car"]),
        a_row("b", 0, 0.25, ["car"]),
    ]
    path = write_results(tmp_path / "a.json", ["a", "b", "c"], *rows, a_row("c", 3, 0.2, []))
    assert report([str(path), "--compare", "a", "b"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "| b against a | AP | FPR95 |",
        "| --- | --- | --- |",
        "| drives | +5.0 (+20.0, -10.0) | +0.0 (+0.0, +0.0) |",
        "| drives, without car | +5.0 (+5.0) | +0.0 (+0.0) |",
    ]
    assert report([str(path), "--compare", "a", "c"]) == 2
    assert "no seed was run with both a and c; there are a, b, c" in capsys.readouterr().err


def test_a_study_says_what_is_wrong_before_it_trains(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_study(tmp_path)
    assert study(arguments(path, data, "--variant", "flo")) == 2
    assert "the study has cross_entropy, flow" in capsys.readouterr().err
    assert study(arguments(path, data, "--only", "held_out")) == 2
    assert "study.yaml holds no class out" in capsys.readouterr().err
    (tmp_path / "results.json").write_text(json.dumps({"study": "another", "rows": []}))
    assert study(arguments(path, data)) == 2
    assert "holds no rows of the study 'tiny'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    assert report([str(path)]) == 2
    assert "not the results of a study" in capsys.readouterr().err


def test_rows_of_earlier_versions_are_of_todays_configuration() -> None:
    """A field that came later and is not used makes no other configuration: runs can be resumed, rows stand."""
    root = Path(__file__).parents[2]
    config = read_yaml(root / "training" / "configs" / "study_camvid_small.yaml", StudyConfig)
    variant = "joint_flow_blob_push_1"  # measured before negatives.initial_flow_share was there
    rows = json.loads((root / "docs" / "study" / "results.json").read_text())["rows"]
    found = [row for row in rows if row["variant"] == variant and not row["held_out"]]
    assert len(found) == 3
    for row in found:
        joint = merged(load_yaml(root / config.joint), config.variants[variant])
        values = {**joint, "seed": row["seed"], "precision": "32-true"}
        assert row["config_digest"] == config_digest(from_mapping(values, JointTrainingConfig, variant))
        values["negatives"] = {**joint["negatives"], "initial_flow_share": 0.5}
        assert row["config_digest"] != config_digest(from_mapping(values, JointTrainingConfig, variant))


def test_a_study_that_did_not_measure_reliability_has_no_table_of_it() -> None:
    rows = json.loads((Path(__file__).parents[2] / "docs" / "study" / "results.json").read_text())["rows"]
    assert by_reliability(rows) == ""
    assert "Errors found" not in report_text(rows)


def test_mean_and_spread() -> None:
    assert mean_and_spread([0.1, 0.2, 0.3]) == "20.0 ± 10.0"
    assert mean_and_spread([0.125]) == "12.5"
    assert mean_and_spread([None]) == "-"


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("study_camvid", (1, 8, 8)),
        ("study_camvid_small", (1, 4, 5)),
        ("study_camvid_pretrained", (1, 4, 5)),
    ],
)
def test_every_variant_of_the_studies_that_ship_is_a_configuration(name: str, steps: tuple[int, int, int]) -> None:
    folder = Path(__file__).parents[2] / "training" / "configs"
    config = read_yaml(folder / f"{name}.yaml", StudyConfig)
    for variant, changes in config.variants.items():
        joint = load_yaml(folder.parents[1] / config.joint)
        found = from_mapping(merged(joint, changes), JointTrainingConfig, variant)
        # The same steps for all that is compared: what is pasted is the one difference. Longer ones have twice those.
        epochs, passes, batch = steps
        passes *= 2 if variant.endswith("_longer") else 1
        assert (found.epochs, found.passes_per_epoch, found.batch_size) == (epochs, passes, batch)
        flow = from_mapping(load_yaml(folder.parents[1] / config.flow), FlowTrainingConfig, config.flow)
        assert found.flow == flow.flow
