"""Choose the frames of a fleet to label next, and write them for CVAT and Label Studio.

    python -m fleet.select out/fleet --bundle models/mine --frames 200 --out out/to_label

TABLES is the --out of fleet.mine. `--evidence` says what counts: `unknown`, the marked part of the road in frames with
an obstacle; `doubt`, the mean score of the pixels below the threshold; `disagreement`, the share of pixels that two
bundles see differently, of a fleet.compare. No two chosen frames of a camera are nearer than --apart, and none is like
another to the network. docs/labelling.md describes the folder, and how it becomes a training set.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from fleet.comparison.changes import ChangesError, changed_candidates
from fleet.labelling.labelling_folder import PROGRAM, LabellingFolder, check_unlabelled
from fleet.labelling.prelabels import Labels
from fleet.selection.candidates import DISAGREEMENT, KINDS, UNKNOWN, Candidate, LeftOut, best_candidates
from fleet.selection.features import EmbeddingNetwork
from fleet.selection.recorded_frames import FrameReader
from fleet.selection.selection import Network, choose, write_frames
from fleet.tables.mined import MinedTables, TablesError
from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.output_folder import OutputFolder, check_apart
from ros_ood_perception.number_arguments import MOST_THREADS, real, whole
from ros_ood_perception.progress_bar import progress_bar
from ros_ood_perception.shown_text import error_line, printable

CANDIDATES = 4
"""So many times the wanted frames are read again and compared."""
SHOWN_PROBLEMS = 20


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fleet.select", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", metavar="TABLES", help="--out of fleet.mine; path or URI")
    parser.add_argument(
        "--bundle", type=Path, required=True, help="folder of the bundle that the tables were made with"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the frames")
    parser.add_argument("--frames", type=whole(1, 1_000_000), default=100, metavar="N", help="largest number (100)")
    parser.add_argument("--evidence", choices=KINDS, default=UNKNOWN, help=f"what counts ({UNKNOWN})")
    parser.add_argument("--comparison", type=Path, metavar="DIR", help=f"--out of fleet.compare, for {DISAGREEMENT}")
    parser.add_argument(
        "--apart", type=real(0.0, 1e6), default=2.0, metavar="S", help="least seconds between two of a camera (2)"
    )
    parser.add_argument(
        "--candidates",
        type=whole(1, 1000),
        default=CANDIDATES,
        metavar="TIMES",
        help=f"frames that are read again and compared, as a multiple of --frames ({CANDIDATES})",
    )
    parser.add_argument(
        "--rate", type=real(0.0, 1e6), default=10.0, help="of folders of images, as they were mined (10)"
    )
    parser.add_argument("--threads", type=whole(0, MOST_THREADS), default=0, help="of the engine; 0: all CPUs (0)")
    parser.add_argument("--licence", default="say under which terms the frames may be used", help="for classes.yaml")
    parser.add_argument(
        "--served",
        metavar="URL",
        help="where Label Studio finds the images (/data/local-files/?d=NAME_OF_OUT/images/)",
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0 done, 1 done with less than was asked, 2 bad input."""
    options = _parser().parse_args(arguments)
    try:
        tables = MinedTables(options.tables)
        check_apart("--out", options.out, {**tables.read(), "--bundle": options.bundle})
        problems, code = _select(options, tables)
    except (PerceptionError, OSError) as error:
        print(f"select: {error_line(error)}", file=sys.stderr)
        return 2
    for problem in problems[:SHOWN_PROBLEMS]:
        print(f"problem: {printable(problem)}", file=sys.stderr)
    if len(problems) > SHOWN_PROBLEMS:
        print(f"and {len(problems) - SHOWN_PROBLEMS} more problems, in selection.json", file=sys.stderr)
    return code


def _select(options: argparse.Namespace, tables: MinedTables) -> tuple[list[str], int]:
    bundle = read_bundle(options.bundle)
    mined = tables.model().facts
    if mined["model_sha256"] != bundle.description.model_sha256:
        raise TablesError(
            f"--bundle {options.bundle} is not the bundle of the tables, which is '{mined['bundle']}' with the model "
            f"{mined['model_sha256'][:16]}...; give that one, or mine with this one"
        )
    left_out = LeftOut()
    candidates = _candidates(options, tables, left_out)
    check_unlabelled(options.out)
    output = OutputFolder.claim(options.out, PROGRAM)
    labels = Labels.of_bundle(bundle.description)
    served = options.served or f"/data/local-files/?d={options.out.resolve().name}/images/"
    folder = LabellingFolder(output, labels, served, bundle.description.name)
    reader = FrameReader(options.rate)
    network = Network(bundle, EmbeddingNetwork(bundle, float(mined["threshold"]), options.threads))
    console = Console(stderr=True)
    apart_ns = round(options.apart * 1e9)
    with progress_bar(console) as progress:
        task = progress.add_task("compare", total=len(candidates))
        chosen = choose(candidates, network, reader, options.frames, apart_ns, lambda: progress.advance(task))
        task = progress.add_task("write", total=len(chosen))
        written = write_frames(folder, chosen, tables, network, reader, labels, lambda: progress.advance(task))
    network.run.close()
    problems = [*reader.problems, *network.problems]
    problems += [f"{r.recording}: was not mined: {r.reason}" for r in tables.recordings.values() if not r.is_done]
    facts = {
        "evidence": options.evidence,
        "bundle": bundle.description.name,
        "model_sha256": bundle.description.model_sha256,
        "apart_s": options.apart,
        "candidates": len(candidates),
        "left_out": vars(left_out),
        "problems": problems,
    }
    folder.finish(written, options.licence, facts)
    wanted = f"of {options.frames} that were asked for" if len(written) < options.frames else "frames"
    print(
        f"{len(written)} {wanted}, from {len({f.facts['recording'] for f in written})} recordings, in "
        f"{printable(str(options.out))}; {len(candidates)} candidates; left out: {left_out.no_results} without "
        f"results, {left_out.bad_picture} with a bad picture, {left_out.no_evidence} without evidence",
        file=sys.stderr,
    )
    return problems, 1 if problems or not written else 0


def _candidates(options: argparse.Namespace, tables: MinedTables, left_out: LeftOut) -> list[Candidate]:
    apart_ns, count = round(options.apart * 1e9), options.frames * options.candidates
    if options.evidence != DISAGREEMENT:
        return best_candidates(tables, options.evidence, count, apart_ns, left_out)
    if options.comparison is None:
        raise ChangesError(
            f"--evidence {DISAGREEMENT} needs --comparison: the --out of fleet.compare with both bundles"
        )
    return changed_candidates(options.comparison, tables, count, apart_ns, left_out)


if __name__ == "__main__":
    sys.exit(main())
