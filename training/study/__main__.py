"""Run a study: variants of joint training from the same pre-trained networks, for several seeds, on the same sets.

    python -m training.study --config training/configs/study_camvid.yaml --data DATA --results docs/study/results.json

DATA is the folder with the sets that the configuration names. Segmenter and flow are pre-trained once for each seed
(one flow for all seeds, if they share a bundle's segmenter). Then every variant is trained from them, exported and
measured.

A row is added to RESULTS as soon as it is measured. Finished rows are kept: after an interruption, the same command
continues (a training run after its last finished epoch). `--variant`, `--seed` and `--only` select a part. Parts can
run in parallel, each with its own --results, once their pre-training is finished.

`python -m training.study.report RESULTS [RESULTS ...]` merges the parts and makes the tables.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.output_folder import check_apart
from ros_ood_perception.files.strict_yaml import SchemaError, read_yaml
from ros_ood_perception.number_arguments import LARGEST_SEED, whole
from ros_ood_perception.shown_text import error_line
from training.study.config import StudyConfig
from training.study.study import ALL_CLASSES, HELD_OUT, Study


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML, see training/configs/study_camvid.yaml")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the sets")
    parser.add_argument("--results", type=Path, required=True, help="JSON file; missing rows are added")
    parser.add_argument("--runs", type=Path, help="folder for checkpoints and bundles (default: runs/study_NAME)")
    parser.add_argument("--variant", action="append", help="only this one; may be repeated")
    parser.add_argument("--seed", type=whole(0, LARGEST_SEED), action="append", help="only this one; may be repeated")
    parser.add_argument(
        "--only", choices=(ALL_CLASSES, HELD_OUT), help="only the runs with all classes, or with classes held out"
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
    except (PerceptionError, OSError) as error:
        print(f"study: {error_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("study: interrupted; the same command continues", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
