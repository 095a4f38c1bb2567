"""Read what was labelled back, so that the folder of fleet.select is a training set.

    python -m fleet.labelled out/to_label export.zip

EXPORT is what CVAT exports as "CVAT for images 1.1" (the zip or its annotations.xml), or what Label Studio exports as
"JSON". Several exports of different frames may be given at once. The folder is then read with `data.set: folder`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from fleet.labelling.cvat import LabelledMask, read_cvat
from fleet.labelling.label_studio import read_label_studio
from fleet.labelling.labelling_folder import complete, read_selection
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.shown_text import error_line, printable

SHOWN = 10


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0 all frames are labelled, 1 some are not, 2 bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m fleet.labelled", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="--out of fleet.select")
    parser.add_argument(
        "exports", type=Path, nargs="+", metavar="EXPORT", help="zip or XML of CVAT, JSON of Label Studio"
    )
    options = parser.parse_args(arguments)
    try:
        ids, _ = read_selection(options.folder)
        back = complete(options.folder, lambda: _labelled(options.exports, ids))
    except (PerceptionError, OSError) as error:
        print(f"labelled: {error_line(error)}", file=sys.stderr)
        return 2
    print(f"{len(back.frames)} labelled frames in {printable(str(options.folder))}; --set data.set=folder reads them")
    for name, share in list(back.unlabelled.items())[:SHOWN]:
        print(f"{name}: {share:.2%} of the pixels have no label, and are ignored in training")
    if len(back.unlabelled) > SHOWN:
        print(f"and {len(back.unlabelled) - SHOWN} more frames with pixels without a label")
    for name in back.missing[:SHOWN]:
        print(f"{name}: is not labelled, and left out", file=sys.stderr)
    if len(back.missing) > SHOWN:
        print(f"and {len(back.missing) - SHOWN} more frames are not labelled", file=sys.stderr)
    return 1 if back.missing else 0


def _labelled(exports: list[Path], ids: dict[str, int]) -> Iterator[LabelledMask]:
    for path in exports:
        read = read_label_studio if path.suffix.lower() == ".json" else read_cvat
        yield from read(path, ids)


if __name__ == "__main__":
    sys.exit(main())
