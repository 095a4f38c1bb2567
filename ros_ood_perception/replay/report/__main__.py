"""Write the report of a replay that was made before.

    python -m ros_ood_perception.replay.report out/replay

The camera images are read from the recording again. If it was moved, `--recording` names it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.output_folder import check_apart
from ros_ood_perception.replay.report.replay_report import FILE, write_report
from ros_ood_perception.shown_text import error_line, printable


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m ros_ood_perception.replay.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="OUT", help="--out of a replay")
    parser.add_argument("--report", type=Path, metavar="FILE.html", help=f"the report (default: OUT/{FILE})")
    parser.add_argument("--recording", type=Path, help="what was replayed (default: where it was)")
    options = parser.parse_args(arguments)
    report = options.report or options.folder / FILE
    try:
        check_apart("--report", report, {"--recording": options.recording})
        write_report(options.folder, report, recording=options.recording)
    except (PerceptionError, OSError) as error:
        print(f"report: {error_line(error)}", file=sys.stderr)
        return 2
    print(f"report: {printable(str(report))}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
