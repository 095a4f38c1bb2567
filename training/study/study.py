"""A study: many training runs from the same pre-trained networks, measured on the same sets."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.atomic_files import naming, write_file
from ros_ood_perception.files.json_files import JsonFileError, read_json, write_json
from ros_ood_perception.files.strict_yaml import SchemaError, from_mapping, load_yaml
from ros_ood_perception.shown_text import error_line
from training.bundles.export import export_bundle
from training.bundles.runner import LogitScore
from training.data.arguments import data_argument
from training.evaluation.bundle_evaluation import EvaluationRequest, evaluate_bundle
from training.evaluation.tables import print_tables
from training.flow.trainer import FlowTrainer
from training.joint.trainer import JointTrainer
from training.joint.training_config import JointTrainingConfig
from training.runs.checkpoint import load_checkpoint, reading
from training.runs.command_line import command_line
from training.runs.provenance import code_version, machine
from training.runs.training_run import TrainingRun, config_digest
from training.segmenter.trainer import SegmenterTrainer
from training.study.config import OWN_SCORE, StudyConfig

ALL_CLASSES, HELD_OUT = "all_classes", "held_out"
console = Console(stderr=True)


class StudyError(PerceptionError, RuntimeError):
    """A stage of the study failed. Messages of training are printed before it."""


@dataclass(frozen=True)
class Place:
    """The folder of one chain of pre-training and joint training: a seed, with or without held-out classes."""

    folder: Path
    seed: int
    held_out: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """A study and its finished rows.

    Attributes:
        data: folder of the sets.
        runs: folder of checkpoints and bundles.
        results: the JSON file of finished rows.
        precision: replaces that of every configuration; None keeps them.
        only: ALL_CLASSES or HELD_OUT, the chains to run; None runs both.
    """

    config: StudyConfig
    data: Path
    runs: Path
    results: Path
    precision: str | None = None
    only: str | None = None

    def rows(self) -> list[dict[str, Any]]:
        """The finished rows.

        Raises:
            SchemaError: the file is not of this study.
        """
        if not self.results.exists():
            return []
        try:
            found = read_json(self.results)
        except JsonFileError as error:
            raise SchemaError(f"{error}; move it away to start anew") from error
        if not isinstance(found, dict) or found.get("study") != self.config.name or "rows" not in found:
            raise SchemaError(
                f"{self.results}: holds no rows of the study '{self.config.name}'; give another --results"
            )
        rows: list[dict[str, Any]] = found["rows"]
        return rows

    def add(self, row: dict[str, Any]) -> None:
        """Add a row. The file holds either the old rows or all rows."""
        contents = {"study": self.config.name, "config": asdict(self.config), "rows": [*self.rows(), row]}
        with naming(self.results.parent):
            self.results.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.results, contents)

    def run(self, variants: Sequence[str], seeds: Sequence[int]) -> None:
        """Run what is missing for these variants and seeds.

        Raises:
            StudyError, SchemaError, CheckpointError: a stage failed.
        """
        for seed in seeds:
            if self.only != HELD_OUT:
                self._run_chain(Place(self.runs / f"seed{seed}", seed, ()), variants)
            if self.config.held_out and self.only != ALL_CLASSES:
                chosen = [name for name in variants if name in self.config.held_out_variants]
                self._run_chain(Place(self.runs / f"seed{seed}_{HELD_OUT}", seed, self.config.held_out), chosen)

    def _run_chain(self, place: Place, variants: Sequence[str]) -> None:
        done = {
            row["variant"]: row
            for row in self.rows()
            if (row["seed"], tuple(row["held_out"])) == (place.seed, place.held_out)
        }
        for name in variants:
            if name in done:
                config = from_mapping(self._at(place, self._joint(name), self.precision), JointTrainingConfig, name)
                if done[name]["config_digest"] != config_digest(config):
                    say(f"{name}, seed {place.seed}: its row, which is kept, has another configuration")
        missing = [name for name in variants if name not in done]
        if not missing:
            return
        segmenter, flow = self._pretrained_segmenter(place), self._pretrained_flow(place)
        for name in missing:
            say(f"{name}, seed {place.seed}{' without ' + ', '.join(place.held_out) if place.held_out else ''}")
            self.add(self._row(place, name, segmenter, flow))

    def _pretrained_segmenter(self, place: Place) -> Path:
        given = Path(self.config.segmenter)
        if given.is_dir():
            if not place.held_out:
                return given
            if not self.config.held_out_segmenter:
                names = ", ".join(place.held_out)
                raise SchemaError(f"segmenter is the bundle {given}, trained on {names}; give held_out_segmenter")
            given = Path(self.config.held_out_segmenter)
        place = self._pretraining(place)
        out = place.folder / "segmenter"
        self._train(SegmenterTrainer, load_yaml(given), place, out, [])
        return out / "best.pt"

    def _pretraining(self, place: Place) -> Place:
        """The folder of the pre-trained networks from which this place's variants start."""
        if not Path(self.config.segmenter).is_dir():
            return place
        # All seeds share the segmenter, and so one flow: they differ in joint training only.
        name = f"shared_{HELD_OUT}" if place.held_out else "shared"
        return Place(self.runs / name, self.config.seeds[0], place.held_out)

    def _pretrained_flow(self, place: Place) -> Path:
        place = self._pretraining(place)
        out = place.folder / "flow"
        self._train(FlowTrainer, load_yaml(Path(self.config.flow)), place, out, [])
        return out / "best.pt"

    def _train(
        self,
        trainer: type[TrainingRun[Any]],
        values: dict[str, Any],
        place: Place,
        out: Path,
        arguments: list[str],
    ) -> None:
        """Train, or continue training, to the last epoch."""
        # A flow is trained in single precision only.
        values = self._at(place, values, None if trainer is FlowTrainer else self.precision)
        last = out / "last.pt"
        if last.exists():
            saved = load_checkpoint(last)
            with reading(last):
                finished = saved["progression"]["epoch"] >= values["epochs"]
            if finished:
                # An unfinished run is compared when it is resumed.
                if saved["config_digest"] != config_digest(from_mapping(values, trainer.config_class, str(out))):
                    raise StudyError(
                        f"{out}: was trained with another configuration than the present one; move the folder away, or "
                        "give another --runs"
                    )
                return
        out.mkdir(parents=True, exist_ok=True)
        path = out / "config.yaml"
        write_file(path, yaml.safe_dump(values, sort_keys=False))
        root = Path(values["data"]["root"]).name
        common = ["--config", str(path), "--data", str(self.data / root), "--out", str(out)]
        if command_line(trainer, None, [*common, *(["--resume"] if last.exists() else arguments)]) != 0:
            raise StudyError(f"{out}: training failed")

    def _at(self, place: Place, values: dict[str, Any], precision: str | None) -> dict[str, Any]:
        """The configuration of a stage for this place."""
        values = merged(values, {"seed": place.seed, "data": {"held_out": list(place.held_out)}})
        return values if precision is None else {**values, "precision": precision}

    def _joint(self, name: str) -> dict[str, Any]:
        return merged(load_yaml(Path(self.config.joint)), self.config.variants[name])

    def _row(self, place: Place, name: str, segmenter: Path, flow: Path) -> dict[str, Any]:
        out = place.folder / "variants" / name
        values = self._joint(name)
        from_mapping(values, JointTrainingConfig, f"{self.config.joint}, variant {name}")
        self._train(JointTrainer, values, place, out, ["--segmenter", str(segmenter), "--flow", str(flow)])
        saved = load_checkpoint(out / "last.pt")
        bundle = out / "bundle"
        try:
            # In float32 only: nothing else is measured, and a half-precision graph may be refused.
            for parity in export_bundle([out / "last.pt"], bundle, score=OWN_SCORE, variants=()).values():
                say(f"{bundle}: {parity}")
        except (PerceptionError, OSError, ValueError) as error:
            raise StudyError(f"{out}: export failed: {error_line(error)}") from error
        started = time.monotonic()
        measured = self._measure(place, bundle)
        progression = saved["progression"]
        joint = from_mapping(saved["config"], JointTrainingConfig, str(out))
        return {
            "variant": name,
            "seed": place.seed,
            "held_out": list(place.held_out),
            "changes": self.config.variants[name],
            "steps": progression["step"],
            "seconds_per_step": round(progression["step_seconds"] / progression["step"], 4),
            "validation": progression["history"][-1],
            "measured": measured,
            "measuring_seconds": round(time.monotonic() - started, 1),
            "config_digest": config_digest(joint),
            "model_sha256": read_bundle(bundle).description.model_sha256,
            "code_version": code_version(),
            "machine": machine(),
        }

    def _measure(self, place: Place, bundle: Path) -> dict[str, Any]:
        """Figures by score and set, as `training.evaluate --json` writes them."""
        sets = (self.config.held_out_set,) if place.held_out else self.config.sets
        output = bundle.parent / "measured.json"
        named = [text.partition(":") for text in sets]
        try:
            evaluation = evaluate_bundle(
                EvaluationRequest(
                    bundle=bundle,
                    data=[data_argument(f"{set_name}:{self.data / path}") for set_name, _, path in named],
                    out=bundle.parent / "report",
                    scores=[LogitScore.parse(text) for text in self.config.scores],
                    held_out=place.held_out,
                    exact_only=True,
                    json=output,
                )
            )
        except (PerceptionError, OSError, ValueError, argparse.ArgumentTypeError) as error:
            raise StudyError(f"{bundle}: cannot be measured: {error_line(error)}") from error
        print_tables(evaluation.figures)
        found = json.loads(output.read_text(encoding="utf-8"))
        others = {key: value["sets"] for key, value in found.get("scores", {}).items()}
        by_score = {found["score"]: found["sets"], **others}
        return {score: {name: trimmed(figures) for name, figures in sets.items()} for score, sets in by_score.items()}


def trimmed(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures of a set that the tables need."""
    wanted = ("frames", "exact", "threshold_curves", "per_image_overlap", "error_monitor", "left_out")
    kept: dict[str, Any] = {key: figures[key] for key in wanted if key in figures}
    if "semantic" in figures:
        kept["semantic"] = {key: figures["semantic"][key] for key in ("mIoU", "IoU")}
    return kept


def merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy of nested mappings with some values replaced.

    >>> merged({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"c": 4}})
    {'a': 1, 'b': {'c': 4, 'd': 3}}
    """
    result = dict(values)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def say(message: str) -> None:
    """Print to standard error, without markup."""
    console.print(message, markup=False, highlight=False, soft_wrap=True)
