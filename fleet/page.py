"""Write the page of a fleet: map, timeline, histograms, worst frames, failed recordings. One HTML file.

    python -m fleet.page out/fleet --report out/fleet.html

TABLES is the --out of fleet.mine. The pictures are read again from the recordings.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fleet.comparison.groups import PLACE_KINDS, POSITIONS
from fleet.report.fleet_figures import FleetFigures
from fleet.report.fleet_page import fleet_page
from fleet.report.worst_frames import worst_frames
from fleet.tables.mined import MinedTables
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.atomic_files import naming, write_file
from ros_ood_perception.files.output_folder import check_apart
from ros_ood_perception.number_arguments import real
from ros_ood_perception.replay.report.replay_report import check_report_file
from ros_ood_perception.shown_text import error_line, printable


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0, 1 without some of the pictures, or 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m fleet.page", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", metavar="TABLES", help="--out of fleet.mine; path or URI")
    parser.add_argument("--report", type=Path, required=True, metavar="FILE.html", help="the page")
    places = "map by latitude and longitude, by x and y (one map for all recordings), or none"
    parser.add_argument("--place", choices=PLACE_KINDS, default=POSITIONS, help=f"{places} ({POSITIONS})")
    parser.add_argument(
        "--rate", type=real(0.0, 1e6), default=10.0, help="of folders of images, as they were mined (10)"
    )
    options = parser.parse_args(arguments)
    try:
        check_report_file(options.report)
        tables = MinedTables(options.tables)
        check_apart("--report", options.report, tables.read())
        worst = worst_frames(tables, options.rate)
        text = fleet_page(tables, FleetFigures.of(tables, options.place), worst)
        with naming(options.report.parent):
            options.report.parent.mkdir(parents=True, exist_ok=True)
        write_file(options.report, text)
    except (PerceptionError, OSError) as error:
        print(f"page: {error_line(error)}", file=sys.stderr)
        return 2
    for problem in worst.problems:
        print(f"problem: {printable(problem)}", file=sys.stderr)
    print(f"page: {printable(str(options.report))}", file=sys.stderr)
    return 1 if worst.problems else 0


if __name__ == "__main__":
    sys.exit(main())
