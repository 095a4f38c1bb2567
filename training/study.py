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
import sys
from pathlib import Path

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.output_folder import check_apart
from ros_ood_perception.files.strict_yaml import SchemaError, read_yaml
from ros_ood_perception.number_arguments import LARGEST_SEED, whole
from ros_ood_perception.shown_text import error_line
from training.studies.config import StudyConfig
from training.studies.study import ALL_CLASSES, HELD_OUT, Study


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
    except (PerceptionError, OSError) as error:
        print(f"study: {error_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("study: interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
