"""What to label next: the frames with most evidence, none like another, in a folder that becomes a training set."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mined_rows import drive, failed, frame, obstacle, recording, write_tables
from numpy.typing import NDArray
from onnx import TensorProto, helper
from recorded_drive import picture

from fleet.labelled import main as labelled
from fleet.select import main as select
from fleet.selection.candidates import DOUBT, UNKNOWN, LeftOut, best_candidates
from fleet.selection.features import EmbeddingNetwork, FeatureEngine, last_features, pooled
from fleet.selection.spread import spread
from fleet.tables.mined import MinedTables, TablesError
from ros_ood_perception.bundle.model_bundle import Bundle, read_bundle
from training.data.registry import open_data_set, open_training_frames

# -- without near copies ----------------------------------------------------------------------------------------------

NO_TIMES = np.zeros(9, np.int64)


@given(st.integers(0, 10_000), st.integers(1, 4))
def test_equal_worth_gives_a_cover_at_most_twice_as_wide_as_the_best(seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    angles = generator.uniform(0, np.pi, 9)
    places = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    # Of unit vectors, the square root of 1 - cosine is a metric, for which the bound of Gonzalez holds.
    distances = np.sqrt(np.maximum(1 - places @ places.T, 0))
    chosen = spread(places, np.ones(9), list(range(9)), NO_TIMES, count, 0)
    best = min(distances[:, list(of)].min(axis=1).max() for of in itertools.combinations(range(9), count))
    # Frames that are nearer than LEAST_DISTANCE are copies, and not chosen: their distance bounds it as well.
    assert distances[:, chosen].min(axis=1).max() <= max(2 * best, np.sqrt(1e-3)) + 1e-4


def test_the_frame_with_most_worth_is_first_and_a_copy_is_never_chosen() -> None:
    places = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    assert spread(places, np.array([1.0, 3.0, 2.0]), ["a", "b", "c"], NO_TIMES[:3], 3, 0) == [1, 2]


def test_two_frames_of_one_camera_are_apart_and_those_of_two_need_not_be() -> None:
    places = np.eye(4, dtype=np.float32)
    times = np.array([0, 1, 2, 1], np.int64)
    assert sorted(spread(places, np.ones(4), ["a", "a", "a", "b"], times, 4, 2)) == [0, 2, 3]


# -- the network's features -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(bundle: Path) -> Bundle:
    return read_bundle(bundle)


def test_the_features_are_what_the_classifier_reads(tiny: Bundle) -> None:
    graph = onnx.load_from_string(tiny.model).graph
    name = last_features(graph)
    (reader,) = [node for node in graph.node if "logits" in node.output]
    assert name == reader.input[0]


def test_the_embedding_has_length_one_is_the_same_each_time_and_tells_pictures_apart(tiny: Bundle) -> None:
    network = EmbeddingNetwork(tiny, 0.5, 1)
    one, again, other = (network(picture(number))[1] for number in (1, 1, 2))
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(one, again)
    assert float(one @ other) < 1 - 1e-3


def test_the_features_change_nothing_of_the_results(tiny: Bundle) -> None:
    from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine

    image = picture(3)[None]
    plain, with_features = (engine(tiny, 1).run(image) for engine in (OnnxRuntimeEngine, FeatureEngine))
    np.testing.assert_array_equal(plain.semantic, with_features.semantic)
    np.testing.assert_array_equal(plain.anomaly_score, with_features.anomaly_score)


def graph_of(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, None)
    semantic = helper.make_tensor_value_info("semantic", TensorProto.UINT8, None)
    return helper.make_graph(nodes, "network", [image], [semantic])


def test_a_network_of_masks_gives_the_scores_of_its_classes() -> None:
    graph = graph_of(
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Relu", ["pixels"], ["queries"]),
        helper.make_node("Sigmoid", ["pixels"], ["masks"]),
        helper.make_node("Einsum", ["queries", "masks"], ["class_scores"], equation="nhwc,nhwc->nchw"),
        helper.make_node("ArgMax", ["class_scores"], ["ids"], axis=1),
        helper.make_node("Cast", ["ids"], ["semantic"], to=TensorProto.UINT8),
    )
    assert last_features(graph) == "class_scores"


def test_a_network_without_features_has_none() -> None:
    assert last_features(graph_of(helper.make_node("ArgMax", ["image"], ["semantic"], axis=3))) is None


def test_without_features_the_embedding_is_of_classes_and_scores(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.selection.features.last_features", lambda graph: None)
    network = EmbeddingNetwork(tiny, 0.5, 1)
    found, embedding = network(picture(1))
    classes = len(tiny.description.classes)
    assert embedding.shape == (12 * (classes + 8),)
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)
    first_class = embedding[:12].reshape(3, 4) > 0
    height, width = found.engine_semantic.shape
    assert first_class[0, 0] == (found.engine_semantic[: height // 3, : width // 4] == 0).any()


@pytest.mark.parametrize("shape", [(5, 2, 2), (5, 40, 50), (7, 5)])
def test_features_of_any_size_are_pooled(shape: tuple[int, ...]) -> None:
    vector = pooled(np.random.default_rng(0).random(shape).astype(np.float32))
    assert vector is not None
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert pooled(np.zeros(shape, np.float32)) is None


# -- candidates -------------------------------------------------------------------------------------------------------


def test_what_is_no_candidate_is_counted_with_its_reason(tmp_path: Path, bundle: Path) -> None:
    frames = [
        frame("a", 0, road_anomaly_share=0.2),
        frame("a", 30, road_anomaly_share=0.3),
        frame("a", 60, road_anomaly_share=0.9, doubts=["blurred"]),
        frame("a", 90, road_anomaly_share=0.9, obstacles=0),
        frame("a", 120, fate="malformed", road_anomaly_share=None, obstacles=None, doubts=None),
    ]
    tables = MinedTables(write_tables(tmp_path, [recording("a", bundle)], frames))
    left_out = LeftOut()
    found = best_candidates(tables, UNKNOWN, 10, 2 * 10**9, left_out)
    assert [(candidate.number, candidate.evidence) for candidate in found] == [(30, 0.3), (0, 0.2)]
    assert left_out == LeftOut(no_results=1, bad_picture=1, no_evidence=1)


def test_of_a_span_of_time_the_frame_with_most_evidence_is_the_candidate(tmp_path: Path, bundle: Path) -> None:
    frames = [frame(name, n, known_score_mean=0.1 + n / 1000) for name in ("a", "b") for n in range(60)]
    recordings = [recording(name, bundle) for name in ("a", "b")]
    tables = MinedTables(write_tables(tmp_path, recordings, frames))
    found = best_candidates(tables, DOUBT, 4, 2 * 10**9, LeftOut())
    assert [(candidate.recording, candidate.number) for candidate in found] == [
        ("a", 59),
        ("b", 59),
        ("a", 39),
        ("b", 39),
    ]


def test_few_frames_are_held_and_the_best_of_all_are_found(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.tables.mined.BATCH_ROWS", 7)
    worth = np.random.default_rng(1).permutation(300) / 1000 + 0.001
    frames = [frame("a", 100 * n, road_anomaly_share=float(share)) for n, share in enumerate(worth)]
    tables = MinedTables(write_tables(tmp_path, [recording("a", bundle)], frames))
    found = best_candidates(tables, UNKNOWN, 5, 10**9, LeftOut())
    assert [candidate.evidence for candidate in found] == sorted(worth.tolist(), reverse=True)[:5]


# -- the whole way ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Path:
    """Tables of two drives with frames 1 s apart, each with an obstacle; and of one that failed."""
    folder = tmp_path_factory.mktemp("fleet")
    frames, obstacles, recordings = [], [], []
    for seed in (1, 2):
        path = drive(folder / f"drive_{seed}", range(0, 80, 10), seed)
        recordings.append(recording(path, bundle, threshold=0.0))
        for number, place in enumerate(range(0, 80, 10)):
            frames.append(frame(path, number, place, road_anomaly_share=0.01 * (number + 1)))
            obstacles.append(obstacle(path, number, (10, 20, 30, 40), place))
    recordings.append(failed("/drives/broken", "no frame in it"))
    return write_tables(folder / "tables", recordings, frames, obstacles)


@pytest.fixture(scope="module")
def selected(fleet: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("selected") / "to_label"
    options = ["--bundle", str(bundle), "--out", str(out), "--frames", "6", "--threads", "1"]
    # 1: a recording of the fleet failed.
    assert select([str(fleet), *options]) == 1
    return out


def mask(path: Path) -> NDArray[np.uint8]:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), np.uint8)


def test_the_frames_are_those_of_the_recordings_and_two_seconds_apart(selected: Path) -> None:
    chosen = json.loads((selected / "selection.json").read_text())
    assert len(chosen["frames"]) == 6
    assert chosen["problems"] == ["/drives/broken: was not mined: no frame in it"]
    for entry in chosen["frames"]:
        seed = int(entry["recording"][-1])
        expected = picture(1000 * seed + 10 * entry["number"])
        np.testing.assert_array_equal(mask(selected / "images" / f"{entry['name']}.png"), expected)
    for one, other in itertools.combinations(chosen["frames"], 2):
        assert one["recording"] != other["recording"] or abs(one["time_ns"] - other["time_ns"]) >= 2 * 10**9
    assert {entry["rank"] for entry in chosen["frames"]} == {1, 2, 3, 4, 5, 6}


def test_predicted_masks_mark_the_obstacle_as_unknown(selected: Path, bundle: Path) -> None:
    classes = len(read_bundle(bundle).description.classes)
    for path in (selected / "predicted").iterdir():
        ids = mask(path)
        # With the threshold 0 every pixel of the box is anomalous.
        assert (ids[20:60, 10:40] == 255).all()
        outside = np.delete(ids, np.s_[10:40], axis=1)
        assert outside.max() < classes


def test_before_it_is_labelled_the_folder_is_no_training_set(selected: Path) -> None:
    with pytest.raises(FileNotFoundError, match="masks"):
        open_data_set("folder", selected, "train")


def test_what_label_studio_exports_becomes_a_training_set(selected: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(selected, tmp_path / "to_label"))
    tasks = json.loads((folder / "label_studio" / "tasks_001.json").read_text())
    done, skipped = tasks[:-1], tasks[-1]
    for task in done:
        # The person found that the left half is road, whatever the network thought.
        corners = [[0, 0], [49.3, 0], [49.3, 100], [0, 100]]
        whole = {"original_width": 128, "original_height": 96, "image_rotation": 0}
        half = {"type": "polygonlabels", **whole, "value": {"points": corners, "polygonlabels": ["road"]}}
        task["annotations"] = [{"result": [*task.pop("predictions")[0]["result"], half], "was_cancelled": False}]
    skipped["annotations"] = [{"result": [], "was_cancelled": True}]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    assert labelled([str(folder), str(tmp_path / "export.json")]) == 1
    road = next(i for i, known in enumerate(open_data_set("folder", folder, "train").classes) if known.name == "road")
    names = []
    for split in ("train", "val"):
        for found in open_training_frames("folder", folder, split):
            names.append(found.name)
            assert (found.labels[:, :64] == road).all()
            predicted = mask(folder / "predicted" / f"{found.name}.png")
            np.testing.assert_array_equal(found.labels[:, 64:], predicted[:, 64:])
    assert sorted(names) == sorted(task["data"]["frame"] for task in done)


def test_what_cvat_exports_becomes_a_training_set_and_a_set_to_measure_with(selected: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(selected, tmp_path / "to_label"))
    assert labelled([str(folder), str(folder / "annotations.xml")]) == 0
    splits = [open_training_frames("folder", folder, split) for split in ("train", "val")]
    assert sum(map(len, splits)) == 6
    recordings = [{frame.name.split("-")[1] for frame in split} for split in splits]
    assert not recordings[0] & recordings[1]
    anomalies = open_data_set("images_and_masks", folder)
    assert len(anomalies) == 6
    np.testing.assert_array_equal(
        anomalies[0].anomaly == 1, mask(folder / "predicted" / f"{anomalies[0].name}.png") == 255
    )


def test_labels_are_never_deleted_by_a_new_selection(
    fleet: Path, bundle: Path, selected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(selected, tmp_path / "to_label"))
    assert labelled([str(folder), str(folder / "annotations.xml")]) == 0
    assert select([str(fleet), "--bundle", str(bundle), "--out", str(folder), "--threads", "1"]) == 2
    assert "holds labels" in capsys.readouterr().err
    assert len(list((folder / "masks").iterdir())) == 6


@pytest.mark.parametrize("change", ["other", "twice", "size", "empty"])
def test_an_export_that_does_not_fit_changes_nothing_and_is_named(
    selected: Path, tmp_path: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(selected, tmp_path / "to_label"))
    text = (folder / "annotations.xml").read_text()
    first = text[text.index("<image ") : text.index("</image>") + len("</image>")]
    if change == "other":
        text = text.replace('name="', 'name="x', 20)
    elif change == "twice":
        text = text.replace(first, first + first)
    elif change == "size":
        text = re.sub(r'(<image [^>]*)height="96"', r'\1height="97"', text)
    else:
        text = "<annotations/>"
    (tmp_path / "a.xml").write_text(text)
    assert labelled([str(folder), str(tmp_path / "a.xml")]) == 2
    wanted = {"other": "has no frame", "twice": "twice", "size": "its image is", "empty": "hold 0 labelled frames"}
    assert wanted[change] in capsys.readouterr().err
    assert not (folder / "masks").exists()


def test_a_recording_that_is_gone_is_named_and_the_others_are_selected(
    fleet: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = MinedTables(fleet)
    rows = [recording(of.recording, bundle) for of in tables.done] + [recording(tmp_path / "gone", bundle)]
    frames = [frame(of.recording, 0) for of in tables.done] + [frame(tmp_path / "gone", 0)]
    folder = write_tables(tmp_path / "tables", rows, frames)
    assert select([str(folder), "--bundle", str(bundle), "--out", str(tmp_path / "out"), "--threads", "1"]) == 1
    assert "gone: cannot be read again" in capsys.readouterr().err
    assert len(list((tmp_path / "out" / "images").iterdir())) == 2


def test_another_bundle_than_that_of_the_tables_is_refused(
    fleet: Path, shipped_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert select([str(fleet), "--bundle", str(shipped_bundle), "--out", str(tmp_path / "out")]) == 2
    assert "is not the bundle of the tables" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_folder_may_not_be_one_that_is_read(fleet: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert select([str(fleet), "--bundle", str(bundle), "--out", str(fleet / "to_label")]) == 2
    assert "lies in what is read" in capsys.readouterr().err


def test_tables_that_are_none_are_refused_with_the_remedy(tmp_path: Path, bundle: Path) -> None:
    with pytest.raises(TablesError, match=r"recordings: has no Parquet file; give the --out of fleet\.mine"):
        MinedTables(tmp_path)
    folder = write_tables(tmp_path / "t", [recording("a", bundle)], [frame("a", 0)])
    (file,) = (folder / "frames").iterdir()
    file.write_bytes(b"PAR1 and no more")
    with pytest.raises(TablesError, match="cannot be read"):
        MinedTables(folder)


def test_a_file_that_is_missing_is_noticed_where_rows_are_counted(tmp_path: Path, bundle: Path) -> None:
    frames = [frame(name, number) for name in ("a", "b") for number in range(3)]
    folder = write_tables(tmp_path, [recording(name, bundle) for name in ("a", "b")], frames)
    next((folder / "frames").glob("b-*")).unlink()
    with pytest.raises(TablesError, match="has 3 rows, and recordings says 6"):
        best_candidates(MinedTables(folder), UNKNOWN, 5, 0, LeftOut())
