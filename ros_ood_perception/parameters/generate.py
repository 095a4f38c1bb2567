"""Write what is made from the parameters' declarations: the parameter file, its schema, the tables of docs/node.md.

    python -m ros_ood_perception.parameters.generate
    python -m ros_ood_perception.parameters.generate --check

Run it in a checkout after a change of declarations.py. With --check nothing is written.

Exit code: 0; 1 with --check where a file is not what the declarations say; 2 where a file cannot be read or written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ros_ood_perception.parameters.default_file import default_file_text
from ros_ood_perception.parameters.schema import schema_text
from ros_ood_perception.parameters.tables import with_tables

CHECKOUT = Path(__file__).resolve().parents[2]
COMMAND = "python -m ros_ood_perception.parameters.generate"
PARAMETER_FILE = "config/perception_node.param.yaml"
SCHEMA = "config/perception_node.schema.json"
PAGE = "docs/node.md"


def generated_files(checkout: Path) -> dict[str, str]:
    """The text that each file should have, by its path in the checkout.

    Raises:
        OSError: the page that holds the tables cannot be read.
        ValueError: the page has no place for the tables.
    """
    page = checkout / PAGE
    try:
        text = with_tables(page.read_text())
    except ValueError as error:
        raise ValueError(f"{page}: {error}") from error
    return {PARAMETER_FILE: default_file_text(), SCHEMA: schema_text(), PAGE: text}


def outdated_files(checkout: Path) -> list[str]:
    """Paths of the files that are not what the declarations say.

    Raises:
        OSError, ValueError: as `generated_files`.
    """
    return [
        path
        for path, text in generated_files(checkout).items()
        if not (checkout / path).is_file() or (checkout / path).read_text() != text
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    options = parser.parse_args(arguments)
    try:
        outdated = outdated_files(CHECKOUT)
        if options.check:
            for path in outdated:
                print(f"{path}: not what parameters/declarations.py says; run: {COMMAND}", file=sys.stderr)
            return 1 if outdated else 0
        texts = generated_files(CHECKOUT)
        for path in outdated:
            (CHECKOUT / path).write_text(texts[path])
            print(f"{path}: written")
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
