"""Run a study: variants of joint training from the same pre-trained networks, for several seeds, on the same sets.

    python -m training.study --config training/configs/study_camvid.yaml --data DATA --results docs/study/results.json

DATA is the folder that holds the sets that the configuration names. Each seed's segmenter and flow are pre-trained
once (or one flow for all seeds, where they share a bundle's segmenter); then every variant is trained from them,
exported and measured. A row goes into RESULTS as soon as it is there,
and what is there is not done again: interrupted, the same command goes on (within a training run after its last
finished epoch). `--variant`, `--seed` and `--only` do a part; once what they start from is pre-trained, parts may run
beside each other with a --results each.
`python -m training.studies.report RESULTS [RESULTS ...]` makes the tables and puts the parts together.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from ros_ood_perception.bundle.model_bundle import BundleError, read_bundle
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.atomic_files import naming, write_file
from ros_ood_perception.files.json_files import JsonFileError, read_json, write_json
from ros_ood_perception.files.output_folder import OutputFolderError, check_apart
from ros_ood_perception.files.strict_yaml import SchemaError, from_mapping, load_yaml, read_yaml
from ros_ood_perception.number_arguments import LARGEST_SEED, whole
from ros_ood_perception.shown_text import error_line
from training import evaluate, export, train_flow, train_joint, train_segmenter
from training.flow.training_config import FlowTrainingConfig
from training.joint.training_config import JointTrainingConfig
from training.runs.checkpoint import CheckpointError, load_checkpoint, reading
from training.runs.provenance import code_version, machine
from training.runs.training_run import config_digest
from training.segmenter.training_config import SegmenterTrainingConfig
from training.studies.config import StudyConfig

ALL_CLASSES, HELD_OUT = "all_classes", "held_out"
console = Console(stderr=True)

CONFIGS: dict[Callable[[list[str]], int], type[Any]] = {
    train_segmenter.main: SegmenterTrainingConfig,
    train_flow.main: FlowTrainingConfig,
    train_joint.main: JointTrainingConfig,
}


class StudyError(PerceptionError, RuntimeError):
    """A stage of the study failed; its own message stands above."""


@dataclass(frozen=True)
class Place:
    """Where one chain of pre-training and joint training lies: a seed, with or without classes held out."""

    folder: Path
    seed: int
    held_out: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """A study on its way.

    Attributes:
        data: folder of the sets.
        runs: folder of checkpoints and bundles.
        results: the JSON file of finished rows.
        precision: replaces that of every configuration; None leaves them.
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
            SchemaError: the file is not one of this study's.
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
        """Write one more row, so that the file holds the old rows or all of them."""
        contents = {"study": self.config.name, "config": asdict(self.config), "rows": [*self.rows(), row]}
        with naming(self.results.parent):
            self.results.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.results, contents)

    def run(self, variants: Sequence[str], seeds: Sequence[int]) -> None:
        """All that is missing of these.

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
                    say(f"{name}, seed {place.seed}: its row, kept, is of another configuration than today's")
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
                raise SchemaError(f"segmenter is the bundle {given}, which has learnt {names}; give held_out_segmenter")
            given = Path(self.config.held_out_segmenter)
        place = self._pretraining(place)
        out = place.folder / "segmenter"
        self._train(train_segmenter.main, load_yaml(given), place, out, [])
        return out / "best.pt"

    def _pretraining(self, place: Place) -> Place:
        """Where the networks lie that this place's variants start from."""
        if not Path(self.config.segmenter).is_dir():
            return place
        # One segmenter for all seeds, and so one flow: what differs between seeds is joint training alone.
        name = f"shared_{HELD_OUT}" if place.held_out else "shared"
        return Place(self.runs / name, self.config.seeds[0], place.held_out)

    def _pretrained_flow(self, place: Place) -> Path:
        place = self._pretraining(place)
        out = place.folder / "flow"
        self._train(train_flow.main, load_yaml(Path(self.config.flow)), place, out, [])
        return out / "best.pt"

    def _train(
        self,
        main: Callable[[list[str]], int],
        values: dict[str, Any],
        place: Place,
        out: Path,
        arguments: list[str],
    ) -> None:
        """Train to the end, or go on to it; nothing where it has been reached."""
        # A flow is trained in single precision only.
        values = self._at(place, values, None if main is train_flow.main else self.precision)
        last = out / "last.pt"
        if last.exists():
            saved = load_checkpoint(last)
            with reading(last):
                finished = saved["progression"]["epoch"] >= values["epochs"]
            if finished:
                # What is not finished is compared where it is resumed.
                if saved["config_digest"] != config_digest(from_mapping(values, CONFIGS[main], str(out))):
                    raise StudyError(
                        f"{out}: was trained with another configuration than today's; move the folder away, or give "
                        "another --runs"
                    )
                return
        out.mkdir(parents=True, exist_ok=True)
        path = out / "config.yaml"
        write_file(path, yaml.safe_dump(values, sort_keys=False))
        root = Path(values["data"]["root"]).name
        common = ["--config", str(path), "--data", str(self.data / root), "--out", str(out)]
        if main([*common, *(["--resume"] if last.exists() else arguments)]) != 0:
            raise StudyError(f"{out}: training failed")

    def _at(self, place: Place, values: dict[str, Any], precision: str | None) -> dict[str, Any]:
        """A stage's configuration as this place trains it."""
        values = merged(values, {"seed": place.seed, "data": {"held_out": list(place.held_out)}})
        return values if precision is None else {**values, "precision": precision}

    def _joint(self, name: str) -> dict[str, Any]:
        return merged(load_yaml(Path(self.config.joint)), self.config.variants[name])

    def _row(self, place: Place, name: str, segmenter: Path, flow: Path) -> dict[str, Any]:
        out = place.folder / "variants" / name
        values = self._joint(name)
        from_mapping(values, JointTrainingConfig, f"{self.config.joint}, variant {name}")
        self._train(train_joint.main, values, place, out, ["--segmenter", str(segmenter), "--flow", str(flow)])
        saved = load_checkpoint(out / "last.pt")
        bundle = out / "bundle"
        if export.main([str(out / "last.pt"), str(bundle)]) != 0:
            raise StudyError(f"{out}: export failed")
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
        """Figures by set and score, as `training.evaluate --json` gives them."""
        sets = (self.config.held_out_set,) if place.held_out else self.config.sets
        output = bundle.parent / "measured.json"
        arguments = [str(bundle), "--json", str(output), "--out", str(bundle.parent / "report"), "--exact-only"]
        for text in sets:
            set_name, _, path = text.partition(":")
            arguments += ["--data", f"{set_name}:{self.data / path}"]
        for text in self.config.scores:
            arguments += ["--score", text]
        for text in place.held_out:
            arguments += ["--held-out", text]
        # 1: a frame could not be read; the figures say which.
        if evaluate.main(arguments) not in (0, 1):
            raise StudyError(f"{bundle}: cannot be measured")
        found = json.loads(output.read_text(encoding="utf-8"))
        others = {key: value["sets"] for key, value in found.get("scores", {}).items()}
        by_score = {found["score"]: found["sets"], **others}
        return {score: {name: trimmed(figures) for name, figures in sets.items()} for score, sets in by_score.items()}


def trimmed(figures: dict[str, Any]) -> dict[str, Any]:
    """What the tables need of a set's figures."""
    wanted = ("frames", "exact", "threshold_curves", "per_image_overlap", "error_monitor", "left_out")
    kept: dict[str, Any] = {key: figures[key] for key in wanted if key in figures}
    if "semantic" in figures:
        kept["semantic"] = {key: figures["semantic"][key] for key in ("mIoU", "IoU")}
    return kept


def merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy of nested mappings with some values replaced."""
    result = dict(values)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def say(message: str) -> None:
    """To standard error, as it is."""
    console.print(message, markup=False, highlight=False, soft_wrap=True)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML, see training/configs/study_camvid.yaml")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the sets")
    parser.add_argument("--results", type=Path, required=True, help="JSON file; rows that are missing are added")
    parser.add_argument("--runs", type=Path, help="where checkpoints and bundles go (default: runs/study_NAME)")
    parser.add_argument("--variant", action="append", help="only this one; may be repeated")
    parser.add_argument("--seed", type=whole(0, LARGEST_SEED), action="append", help="only this one; may be repeated")
    parser.add_argument(
        "--only", choices=(ALL_CLASSES, HELD_OUT), help="only the runs with all classes, or only those without some"
    )
    parser.add_argument("--precision", help="32-true or bf16-mixed, in place of the configurations'")
    options = parser.parse_args(arguments)
    try:
        config = read_yaml(options.config, StudyConfig)
        unknown = sorted(set(options.variant or ()) - set(config.variants))
        if unknown:
            raise SchemaError(f"--variant {unknown[0]}: the study has {', '.join(config.variants)}")
        unknown_seeds = sorted(set(options.seed or ()) - set(config.seeds))
        if unknown_seeds:
            raise SchemaError(f"--seed {unknown_seeds[0]}: the study has {', '.join(map(str, config.seeds))}")
        if options.only == HELD_OUT and not config.held_out:
            raise SchemaError(f"--only {HELD_OUT}: {options.config} holds no class out")
        runs = options.runs or Path("runs") / f"study_{config.name}"
        segmenter = Path(config.segmenter)
        read = {"--data": options.data, "--config": options.config, "the segmenter": segmenter}
        check_apart("--runs", runs, read)
        check_apart("--results", options.results, read)
        study = Study(config, options.data, runs, options.results, options.precision, options.only)
        study.run(options.variant or list(config.variants), options.seed or list(config.seeds))
    except (StudyError, SchemaError, CheckpointError, BundleError, OutputFolderError, OSError) as error:
        print(f"study: {error_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("study: interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
