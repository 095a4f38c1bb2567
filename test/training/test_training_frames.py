"""Which frames a run trains on, and how the command line changes that and the rest of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_data_sets import CASES, write_tree
from test_train_segmenter import TINY, train

from ros_ood_perception.files.strict_yaml import SchemaError, from_mapping
from training.data.data_config import DataConfig, FurtherSet
from training.data.label_set import CITYSCAPES
from training.data.training_frames import open_data
from training.runs.checkpoint import load_checkpoint
from training.runs.config_changes import as_options, changed
from training.runs.training_run import config_digest
from training.segmenter.training_config import SegmenterTrainingConfig

MIXED = DataConfig(
    set="cityscapes",
    root="a",
    more=(FurtherSet("mapillary_vistas", "b"), FurtherSet("wilddash2", "c", train="public")),
)


def write_sets(folder: Path, *ids: str) -> dict[str, Path]:
    """The trees of those cases, each in a folder of its own; cases of one set share it."""
    for case in CASES:
        if (case.id or case.data_set) in ids:
            write_tree(folder / case.data_set, case.tree)
    return {path.name: path for path in folder.iterdir()}


def test_several_sets_are_one_with_the_classes_of_all(tmp_path: Path) -> None:
    folders = write_sets(tmp_path, "cityscapes", "mapillary_vistas-v2", "wilddash2")
    frames, validation = open_data(MIXED, folders)
    assert frames.title == "Cityscapes + Mapillary Vistas + WildDash 2"
    assert frames.parts == [("Cityscapes", "train"), ("Mapillary Vistas", "train"), ("WildDash 2", "public")]
    assert all(part in frames.terms for part in ("Cityscapes licence", "research edition", "wilddash.cc"))
    assert frames.classes == CITYSCAPES
    read = {frame.name: frame.labels[0].tolist() for frame in frames}
    assert read == {
        "bonn_000000_000019": [0, 0, 0, 0],
        "a": [0, 13, 255, 11],
        "ar0000_100000": [0, 13, 255, 255],
    }
    assert len(frames) == 3
    with pytest.raises(IndexError):
        frames[3]
    # What a run chooses by is of the first set alone.
    assert validation.title == "Cityscapes"
    assert len(validation) == 2


def test_held_out_classes_are_left_out_of_every_set(tmp_path: Path) -> None:
    folders = write_sets(tmp_path, "cityscapes", "mapillary_vistas-v2", "wilddash2")
    with pytest.raises(ValueError, match="every frame of Mapillary Vistas shows car"):
        open_data(DataConfig(**{**vars(MIXED), "held_out": ("car",)}), folders)
    frames, _ = open_data(DataConfig(**{**vars(MIXED), "held_out": ("train",)}), folders)
    assert len(frames.classes) == len(CITYSCAPES) - 1


def test_sets_of_other_classes_are_refused(tmp_path: Path) -> None:
    folders = write_sets(tmp_path, "cityscapes", "camvid")
    with pytest.raises(ValueError, match=r"CamVid has the classes sky, building.* with Cityscapes, it must have road,"):
        open_data(DataConfig(set="cityscapes", root="", more=(FurtherSet("camvid", ""),)), folders)


def test_folders_from_the_command_line_name_their_set_where_there_are_several() -> None:
    assert MIXED.folders() == {"cityscapes": Path("a"), "mapillary_vistas": Path("b"), "wilddash2": Path("c")}
    assert MIXED.folders(["wilddash2:/d/w"])["wilddash2"] == Path("/d/w")
    assert DataConfig().folders(["/some/c:d"]) == {"camvid": Path("/some/c:d")}
    assert DataConfig().folders(["camvid:x"]) == {"camvid": Path("x")}
    with pytest.raises(ValueError, match="--data /d: give SET:FOLDER with SET one of cityscapes, mapillary_vistas"):
        MIXED.folders(["/d"])
    with pytest.raises(ValueError, match="--data is given twice for wilddash2"):
        MIXED.folders(["wilddash2:a", "wilddash2:b"])
    with pytest.raises(ValueError, match="camvid is named twice; a _WORD after the name"):
        DataConfig(more=(FurtherSet("camvid", "b"),))


def test_the_digest_of_a_run_is_that_of_what_it_trains_on_and_not_of_where_that_lies() -> None:
    def digest(**data: Any) -> str:
        return config_digest(SegmenterTrainingConfig(name="a", data=DataConfig(**{**vars(MIXED), **data})))

    moved = tuple(FurtherSet(further.set, "elsewhere", further.train) for further in MIXED.more)
    assert digest() == digest(root="there", more=moved, workers=3)
    assert digest() != digest(more=MIXED.more[:1])


def test_fields_are_changed_where_they_are_and_nowhere_else() -> None:
    before = {"name": "a", "data": {"more": [{"set": "x", "root": "y"}]}, "augmentation": {"crop": [768, 768]}}
    changes = ["augmentation.crop=[64, 96]", "data.more.0.root=z", "optimiser.learning_rate=1e-4", "name=b=c"]
    after = changed(before, changes)
    assert after == {
        "name": "b=c",
        "data": {"more": [{"set": "x", "root": "z"}]},
        "augmentation": {"crop": [64, 96]},
        "optimiser": {"learning_rate": "1e-4"},
    }
    assert before["augmentation"] == {"crop": [768, 768]}
    assert from_mapping(after, SegmenterTrainingConfig, "a").optimiser.learning_rate == 1e-4
    assert as_options(changes[:1]) == " --set 'augmentation.crop=[64, 96]'"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("epochs", "must be FIELD=VALUE"),
        ("=3", "must be FIELD=VALUE"),
        ("data..set=3", "must be FIELD=VALUE"),
        ("epochs=[", "the value is not YAML"),
        ("name.first=3", "'first' is inside a value of the configuration that has no fields"),
        ("picture_frames.7=3", "'7' is inside a value of the configuration that has no fields"),
    ],
)
def test_a_change_that_cannot_be_made_is_named(change: str, message: str) -> None:
    with pytest.raises(SchemaError, match=message) as error:
        changed(TINY, [change])
    assert f"--set {change}" in str(error.value)


def test_a_run_keeps_the_changes_that_made_it(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        train(tree, tmp_path, "--set", "epochs=1", "--set", "optimiser.weight_decay=0.5", "--precision", "32-true") == 0
    )
    saved = load_checkpoint(tmp_path / "run" / "last.pt")
    assert saved["config"]["optimiser"]["weight_decay"] == 0.5
    assert "--set epochs=1 --set optimiser.weight_decay=0.5 --set precision=32-true --data FOLDER" in saved["command"]
    assert train(tree, tmp_path, "--resume", "--set", "epoch=2") == 2
    assert "unknown key(s) epoch" in capsys.readouterr().err
