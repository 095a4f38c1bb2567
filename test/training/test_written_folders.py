"""What the commands of the training write over: nothing that they read, and nothing that they did not write."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_train_segmenter import train

from training.calibrate import main as calibrate
from training.evaluate import main as evaluate
from training.export import main as export
from training.paste_objects import main as paste_objects
from training.sample_flow import main as sample_flow
from training.study.report import main as study_report


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_objects(folder: Path) -> Path:
    """A frame with an object to paste."""
    image, mask = np.zeros((120, 160, 3), np.uint8), np.zeros((120, 160), np.uint8)
    mask[50:70, 60:100] = 1
    for name, picture in (("images", image), ("labels_masks", mask)):
        (folder / name).mkdir(parents=True)
        Image.fromarray(picture).save(folder / name / "1.png")
    return folder


def code_of(command: Callable[[list[str]], int], *arguments: object) -> int:
    try:
        return command([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)


def test_no_command_writes_into_what_it_reads(
    checkpoint: Path, bundle: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with an output that is, lies in, or holds an input."""
    run, data, model = tmp_path / "run", tmp_path / "data", tmp_path / "tiny"
    run.mkdir()
    shutil.copy(checkpoint, run / "best.pt")
    shutil.copytree(tree, data)
    shutil.copytree(bundle, model)
    (tmp_path / "link").symlink_to(data)
    results = tmp_path / "results.json"
    results.write_text('{"study": "s", "rows": []}')
    before = contents(tmp_path)
    val = f"camvid:{data}@val"
    calls: list[tuple[Callable[[list[str]], int], tuple[object, ...]]] = [
        (export, (run / "best.pt", run)),
        (export, (run / "best.pt", data / "val", "--data", data)),
        (export, (run / "best.pt", tmp_path, "--data", data)),
        (export, (run / "best.pt", tmp_path / "link" / "new", "--data", data)),
        (calibrate, (model, "--data", val, "--out", data / "new")),
        (calibrate, (model, "--data", val, "--out", model / "new")),
        (evaluate, (model, "--data", val, "--out", data)),
        (evaluate, (model, "--data", val, "--out", tmp_path / "e", "--json", model / "model.onnx")),
        (evaluate, (model, "--data", val, "--out", tmp_path / "e", "--save-scores", model)),
        (paste_objects, ("--data", val, "--objects", data, "--out", data)),
        (paste_objects, ("--data", val, "--objects", tmp_path / "none", "--out", tmp_path / "link")),
        (sample_flow, (run / "best.pt", run / "best.pt")),
        (study_report, (results, "--merge", results)),
        (study_report, (results, "--chart", results)),
    ]
    for command, arguments in calls:
        assert code_of(command, *arguments) == 2, arguments
        assert "what is read" in capsys.readouterr().err, arguments
    for out, initial in ((data / "val", ()), (run, ("--initial", run / "best.pt")), (tmp_path, ())):
        (tmp_path / "config").mkdir(exist_ok=True)
        assert train(data, tmp_path / "config", "--out", str(out), *map(str, initial)) == 2
        assert "what is read" in (said := capsys.readouterr().err) or "best.pt exists" in said
    shutil.rmtree(tmp_path / "config")
    assert contents(tmp_path) == before


def test_files_that_no_command_wrote_are_not_written_over(
    checkpoint: Path, bundle: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in ("model.onnx", "best.pt", "report.html", "thesis.txt"):
        (mine / name).write_text("years")
    shutil.copytree(bundle, tmp_path / "other")
    (tmp_path / "other" / "model_int8.onnx").write_text("years")
    val = f"camvid:{tree}@val"
    objects = write_objects(tmp_path / "objects")
    before = contents(tmp_path)
    calls: list[tuple[Callable[[list[str]], int], tuple[object, ...], str]] = [
        (export, (checkpoint, mine), "holds model.onnx, but no bundle"),
        (
            export,
            (checkpoint, tmp_path / "other"),
            "holds model_int8.onnx, which is a link or is not part",
        ),
        (calibrate, (bundle, "--data", val, "--out", mine), "holds model.onnx, but no bundle"),
        (evaluate, (bundle, "--data", val, "--out", mine), "holds report.html, which evaluate did not write"),
        (paste_objects, ("--data", val, "--objects", objects, "--out", mine), "was not written by paste_objects"),
    ]
    for command, arguments, message in calls:
        assert code_of(command, *arguments) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "config").mkdir()
    assert train(tree, tmp_path / "config", "--out", str(mine)) == 2
    assert "best.pt exists and would be replaced" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "config")
    assert contents(tmp_path) == before


def test_numbers_that_cannot_be_are_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    for value in ("nan", "inf", "-1", "0", "1e400", "x", "9" * 5000):
        for command, arguments in (
            (export, ("a.pt", "b", f"--temperature={value}")),
            (calibrate, ("a", "--data", "camvid:x", f"--temperature={value}")),
            (sample_flow, ("a.pt", "b.png", f"--count={value}")),
        ):
            assert code_of(command, *arguments) == 2
            assert "it must be a" in capsys.readouterr().err


def test_a_full_disk_is_named_by_every_writer_and_leaves_nothing_behind(tree: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk."""
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from ros_ood_perception.camera.image_file import read_image_file\n"
        "read_image_file(Path(sys.argv.pop(1)))\n"  # so that the decoder's process is there before the limit
        "import importlib; main = importlib.import_module(sys.argv[1]).main\n"
        "import training.export, onnxruntime\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))\n"
        "sys.exit(main(sys.argv[3:]))\n"
    )
    out, objects = tmp_path / "pasted", write_objects(tmp_path / "objects")
    arguments = ["--data", f"camvid:{tree}@val", "--objects", str(objects), "--out", str(out)]
    first = str(next((tree / "val" / "images").iterdir()))
    command = [sys.executable, "-c", code, first, "training.paste_objects", "400", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "File too large" in done.stderr
    assert f"{out}/images/" in done.stderr
    assert not [path for path in out.rglob("*") if path.name.endswith(".part")]
