"""What a command may write over and delete: nothing but what it has written itself, and nothing that it reads."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ros_ood_perception.files.atomic_files import replacing, write_file
from ros_ood_perception.files.output_folder import LIST_FILE, OutputFolder, OutputFolderError, check_apart


@pytest.fixture
def written(tmp_path: Path) -> OutputFolder:
    """A folder with two files of a program's own."""
    output = OutputFolder.claim(tmp_path / "out", "test")
    output.write("a.txt", "a")
    output.write("deep/er/b.txt", "b")
    return output


def test_an_earlier_runs_files_give_way_and_nothing_is_left(written: OutputFolder) -> None:
    again = OutputFolder.claim(written.path, "test")
    assert sorted(path.name for path in written.path.rglob("*")) == [LIST_FILE]
    assert again.names() == []


@pytest.mark.parametrize(
    "put",
    [
        lambda out: (out / "thesis.txt").write_text("years"),
        lambda out: (out / "deep" / "thesis.txt").write_text("years"),
        lambda out: (out / "deep" / "er" / ".thesis.txt.12.part").write_text("years"),
        lambda out: (out / "empty").mkdir(),
        lambda out: (out / "link").symlink_to("/etc"),
        lambda out: ((out / "a.txt").unlink(), (out / "a.txt").symlink_to("/etc/passwd")),
        lambda out: os.mkfifo(out / "pipe"),
    ],
    ids=["file", "file below", "like a temporary one", "folder", "link", "link for a file", "pipe"],
)
def test_a_folder_with_anything_else_in_it_stays_whole(written: OutputFolder, put: Callable[[Path], object]) -> None:
    put(written.path)
    before = sorted(written.path.rglob("*"))
    with pytest.raises(OutputFolderError, match="did not write"):
        OutputFolder.claim(written.path, "test")
    assert sorted(written.path.rglob("*")) == before


def test_a_file_that_only_looks_like_a_record_makes_no_folder_ours(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"format": 3, "complete": true}')
    (tmp_path / "thesis.txt").write_text("years")
    for text in (None, "", "thesis.txt\n", '# other\n"thesis.txt"\n'):
        if text is not None:
            (tmp_path / LIST_FILE).write_text(text)
        with pytest.raises(OutputFolderError, match="was not written by test"):
            OutputFolder.claim(tmp_path, "test")
    assert (tmp_path / "thesis.txt").read_text() == "years"


def test_no_name_on_a_list_leads_out_of_the_folder(written: OutputFolder, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("p")
    with (written.path / LIST_FILE).open("a") as file:
        file.write('"../precious"\n"/etc/passwd"\n"deep/../../precious"\n[1]\n"\\u0000"\nnot json\n"cut off')
    OutputFolder.claim(written.path, "test")
    assert (tmp_path / "precious").exists()


def test_a_temporary_file_of_a_killed_run_is_its_own(written: OutputFolder) -> None:
    (written.path / ".a.txt.4711.part").write_text("half")
    OutputFolder.claim(written.path, "test")
    assert [path.name for path in written.path.iterdir()] == [LIST_FILE]


def test_a_folder_of_another_programs_is_refused(written: OutputFolder) -> None:
    with pytest.raises(OutputFolderError, match="was not written by other"):
        OutputFolder.claim(written.path, "other")


def test_a_folder_within_with_a_list_of_its_own_is_emptied_by_that(written: OutputFolder) -> None:
    written.add("inner/")
    inner = OutputFolder.claim(written.path / "inner", "another")
    inner.write("c.txt", "c")
    (inner.path / "notes").write_text("n")
    with pytest.raises(OutputFolderError, match="inner/notes"):
        OutputFolder.claim(written.path, "test")
    assert (inner.path / "c.txt").exists()
    (inner.path / "notes").unlink()
    OutputFolder.claim(written.path, "test")
    assert not inner.path.exists()


def test_a_link_in_the_place_of_a_file_of_ours_ends_going_on(written: OutputFolder, tmp_path: Path) -> None:
    (written.path / "deep" / "er" / "b.txt").unlink()
    (written.path / "deep" / "er").rmdir()
    (written.path / "deep" / "er").symlink_to(tmp_path)
    with pytest.raises(OutputFolderError, match="a link has replaced a file of this program"):
        OutputFolder.reopen(written.path, "test")


# -- apart ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data" / "images" / "0.png").write_text("image")
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("output", "prepare"),
    [
        ("data", None),
        ("data/out", None),
        (".", None),
        ("data/../data/images", None),
        ("data/images/0.png", None),
        ("link", lambda p: (p / "link").symlink_to("data")),
        ("link/out", lambda p: (p / "link").symlink_to("data/images")),
        ("hard", lambda p: (p / "hard").hardlink_to(p / "data/images/0.png")),
        ("out", lambda p: ((p / "out").mkdir(), (p / "out/x").hardlink_to(p / "data/images/0.png"))),
        ("out", lambda p: ((p / "out").mkdir(), (p / "out/x").touch(), (p / "data/more").symlink_to(p / "out/x"))),
        ("out", lambda p: ((p / "out").mkdir(), (p / "data/more").symlink_to(p / "out"))),
    ],
    ids=[
        "the same",
        "inside",
        "above",
        "the same by another way",
        "a file of it",
        "by a link",
        "inside by a link",
        "hard link",
        "holds a hard link",
        "the input links to a file of it",
        "the input links to it",
    ],
)
def test_an_output_that_overlaps_what_is_read_is_refused(
    output: str, prepare: Callable[[Path], object] | None, data: Path, tmp_path: Path
) -> None:
    if prepare is not None:
        prepare(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputFolderError, match="what is read"):
        check_apart("--out", tmp_path / output, {"--data": data})
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bind_mount_of_what_is_read_is_noticed(data: Path, tmp_path: Path) -> None:
    (tmp_path / "mounted").mkdir()
    done = subprocess.run(["mount", "--bind", data, tmp_path / "mounted"], check=False, capture_output=True)
    if done.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        for output in ("mounted", "mounted/images", "mounted/images/new", "mounted/new"):
            with pytest.raises(OutputFolderError, match="what is read"):
                check_apart("--out", tmp_path / output, {"--data": data})
    finally:
        subprocess.run(["umount", tmp_path / "mounted"], check=True)


def test_neighbours_and_what_is_not_there_are_apart(data: Path, tmp_path: Path) -> None:
    check_apart("--out", tmp_path / "data2", {"--data": data, "--bundle": None, "--params": tmp_path / "none"})
    check_apart("--json", tmp_path / "x.json", {"--data": data})


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "circle"])
def test_what_can_be_no_path_is_named(name: str, data: Path, tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    for output, read in ((tmp_path / name, data), (tmp_path / "out", tmp_path / name)):
        try:
            check_apart("--out", output, {"--data": read})
        except OutputFolderError as error:
            said = str(error)
        else:
            # Newer Pythons resolve a circle to itself.
            said = "is not a path" if name == "circle" else ""
        assert "is not a path" in said


# -- whole or not at all -------------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_written_is_named_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    """Of a disk that is full only the first bytes are taken: a limit on the size of files does the same."""
    write_file(tmp_path / "a", b"old")
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from ros_ood_perception.files.atomic_files import write_file\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_file(Path(sys.argv[1]), b'x' * 100_000)\n"
        "except OSError as error: print(type(error).__name__, error.errno, error.filename)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["OSError", "27", str(tmp_path / "a")]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_an_error_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    write_file(tmp_path / "a", "old")

    def fail() -> None:
        with replacing(tmp_path / "a") as file:
            file.write(b"new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


@pytest.mark.parametrize("folder", ["none", "file", "a" * 300])
def test_a_place_where_nothing_can_be_written_is_named(folder: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=f"{folder[:50]}.*x.json"):
        write_file(tmp_path / folder / "x.json", "x")


def test_the_limit_is_the_tests_own() -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
