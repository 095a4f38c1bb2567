"""The recipes of training/configs/: each stage runs, on a tiny tree in the set's own layout, through its real file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from synthetic_camvid import write_camvid
from test_data_sets import CASES, write_tree

from ros_ood_perception.files.strict_yaml import read_yaml
from training.data.registry import DATA_SETS
from training.flow.image_flow import PAPER
from training.flow.training_config import FlowTrainingConfig
from training.joint.training_config import JointTrainingConfig
from training.runs.checkpoint import load_checkpoint
from training.segmenter.ladder_segmenter import LadderSegmenter
from training.segmenter.training_config import SegmenterTrainingConfig
from training.train_flow import main as train_flow
from training.train_joint import main as train_joint
from training.train_segmenter import main as train_segmenter

CONFIGS = Path(__file__).resolve().parents[2] / "training" / "configs"
PAPER_RECIPES = ("cityscapes", "cityscapes_vistas_wilddash2", "bdd100k", "streethazards")
RECIPES = (*PAPER_RECIPES, "sample_drive")
OTHERS: dict[str, type[Any]] = {
    "camvid_small.yaml": SegmenterTrainingConfig,
    "camvid_small_second.yaml": SegmenterTrainingConfig,
    "flow_fast.yaml": FlowTrainingConfig,
    "flow_paper.yaml": FlowTrainingConfig,
    "joint_camvid.yaml": JointTrainingConfig,
}

# What makes a recipe small. Nothing else of it is changed.
SHORT = ("epochs=1", "passes_per_epoch=2", "batch_size=2", "data.workers=0", "precision=32-true")
SMALL_SEGMENTER = (
    "input_size=[128, 256]",
    "augmentation.crop=[64, 64]",
    "segmenter.pretrained=null",
    "segmenter.backbone_settings={embedding_size: 8, hidden_sizes: [8, 8, 16, 16], depths: [1, 1, 1, 1], "
    "layer_type: basic}",
    "segmenter.decoder_channels=16",
    "segmenter.pooling_bins=[1, 2]",
)
SMALL_FLOW = ("flow.steps=[1, 1, 1]", "flow.width=[6, 6, 6]", "flow.depth=[1, 1, 1]")


def write_official_tree(data_set: str, root: Path) -> Path:
    """The set's tree of the tests of data sets, with a training split, and frames that are worth cropping."""
    for case in CASES:
        if case.id in ("", f"{data_set}-v2") and case.data_set == data_set:
            write_tree(root, case.tree)
    if data_set == "bdd100k":
        (case,) = (case for case in CASES if case.data_set == data_set and not case.id)
        write_tree(root, {name.replace("/val/", "/train/"): content for name, content in case.tree.items()})
    for path in root.rglob("*.*"):
        if path.suffix in (".png", ".jpg"):
            image = Image.open(path)
            image.resize((image.width * 48, image.height * 96), Image.Resampling.NEAREST).save(path)
    return root


def dry_run(
    main: Callable[[list[str]], int], config: Path, out: Path, data: list[str], changes: tuple[str, ...], *more: str
) -> dict[str, Any]:
    arguments = ["--config", str(config), "--out", str(out), "--accelerator", "cpu", *data, *more]
    assert main([*arguments, *(part for change in changes for part in ("--set", change))]) == 0
    return load_checkpoint(out / "best.pt")


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_trains_all_its_stages_on_the_official_layout(recipe: str, tmp_path: Path) -> None:
    folder = CONFIGS / recipe
    sets = read_yaml(folder / "segmenter.yaml", SegmenterTrainingConfig).data.folders()
    trees = {name: write_official_tree(name, tmp_path / name) for name in sets}
    data = [part for name, tree in trees.items() for part in ("--data", f"{name}:{tree}")]
    segmenter = dry_run(
        train_segmenter, folder / "segmenter.yaml", tmp_path / "segmenter", data, (*SHORT, *SMALL_SEGMENTER)
    )
    flow_changes = (*SHORT, *SMALL_FLOW, "validation_crops=2", "sample_sizes=[[16, 24]]")
    flow = dry_run(train_flow, folder / "flow.yaml", tmp_path / "flow", data, flow_changes)
    joint = dry_run(
        train_joint,
        folder / "joint.yaml",
        tmp_path / "joint",
        data,
        (*SHORT, "accumulation_steps=2", *SMALL_SEGMENTER, *SMALL_FLOW),
        "--segmenter",
        str(tmp_path / "segmenter" / "best.pt"),
        "--flow",
        str(tmp_path / "flow" / "best.pt"),
    )
    title = " + ".join(DATA_SETS[name].title for name in sets)  # type: ignore[attr-defined]
    assert [saved["data_set"]["name"] for saved in (segmenter, flow, joint)] == [title] * 3
    assert {"L_cls", "L_mle", "L_jsd"} <= set(joint["progression"]["history"][0])


@pytest.mark.parametrize("name", [name for name, config in OTHERS.items() if config is not JointTrainingConfig])
def test_a_configuration_for_camvids_layout_trains(name: str, tmp_path: Path) -> None:
    tree = write_camvid(tmp_path / "camvid")
    flow = (*SMALL_FLOW, "validation_crops=2", "sample_sizes=[[16, 24]]")
    is_flow = OTHERS[name] is FlowTrainingConfig
    changes = (*SHORT, *(flow if is_flow else SMALL_SEGMENTER))
    dry_run(
        train_flow if is_flow else train_segmenter, CONFIGS / name, tmp_path / "run", ["--data", str(tree)], changes
    )


def test_every_configuration_says_what_its_schema_knows() -> None:
    for name, config in OTHERS.items():
        read_yaml(CONFIGS / name, config)
    # camvid's stages run in test_recipe_scripts.py.
    assert {path.parent.name for path in CONFIGS.glob("*/*.yaml")} == {*RECIPES, "camvid", "small_segformer"}


def test_the_stages_for_camvid_fit_together() -> None:
    segmenter = read_yaml(CONFIGS / "camvid" / "segmenter.yaml", SegmenterTrainingConfig)
    flow = read_yaml(CONFIGS / "camvid" / "flow.yaml", FlowTrainingConfig)
    joint = read_yaml(CONFIGS / "camvid" / "joint.yaml", JointTrainingConfig)
    assert segmenter.segmenter == joint.segmenter
    assert segmenter.input_size == joint.input_size
    assert segmenter.data == flow.data == joint.data
    assert flow.flow == joint.flow


@pytest.mark.parametrize("recipe", PAPER_RECIPES)
def test_the_stages_of_a_recipe_fit_together_at_the_papers_settings(recipe: str) -> None:
    folder = CONFIGS / recipe
    segmenter = read_yaml(folder / "segmenter.yaml", SegmenterTrainingConfig)
    flow = read_yaml(folder / "flow.yaml", FlowTrainingConfig)
    joint = read_yaml(folder / "joint.yaml", JointTrainingConfig)
    assert segmenter.data == flow.data == joint.data
    assert flow.flow == joint.flow == PAPER
    assert segmenter.segmenter.backbone_settings == joint.segmenter.backbone_settings
    assert segmenter.segmenter.decoder_channels == joint.segmenter.decoder_channels
    assert segmenter.input_size == joint.input_size
    LadderSegmenter(joint.segmenter, 19).check_input_size(joint.input_size)
    for stage, epochs, rate in ((segmenter, 120, 4e-4), (joint, 40, 1e-5)):
        assert (stage.epochs, stage.batch_size, stage.augmentation.crop) == (epochs, 16, (768, 768))
        assert stage.optimiser.learning_rate == rate
    assert segmenter.optimiser.factor(10**6, 10**6) * 4e-4 == pytest.approx(1e-7)
    assert {joint.optimiser.factor(step, 100) for step in range(100)} == {1.0}
    assert flow.augmentation.crop == (64, 64)
    assert joint.beta == 0.03
    assert joint.negatives.side_range((768, 768)) == (16, 216)


def test_the_stages_of_the_small_segformer_fit_together() -> None:
    segmenter = read_yaml(CONFIGS / "small_segformer" / "segmenter.yaml", SegmenterTrainingConfig)
    joint = read_yaml(CONFIGS / "small_segformer" / "joint.yaml", JointTrainingConfig)
    flow = read_yaml(CONFIGS / "camvid" / "flow.yaml", FlowTrainingConfig)
    assert joint.flow == flow.flow
    assert (joint.input_size, joint.augmentation.crop) == (segmenter.input_size, segmenter.augmentation.crop)
    assert segmenter.segmenter.network_licence is not None  # random weights have no card
    assert joint.segmenter.network_licence is None  # the folder that save_network writes has one
