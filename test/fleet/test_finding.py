"""Recordings found by path, pattern, folder, list and URI; tables written where a URI says."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed (requirements/fleet.txt)")

from fleet.storage.place import PlaceError, on_this_machine, open_place
from fleet.storage.recordings import NoRecordingError, find_recordings


@pytest.fixture
def drives(tmp_path: Path) -> Path:
    """Two bags, a folder of images, a video, labels, and a file that is no recording."""
    for name in (
        "a/bag/metadata.yaml",
        "a/bag/bag_0.mcap",
        "b/images/1.png",
        "b/labels/1.png",
        "c/x.mp4",
        "c/note.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    (tmp_path / "d").mkdir()
    for name in ("monday.mcap", "tuesday.mcap", ".hidden.mcap"):
        (tmp_path / "d" / name).write_bytes(b"123")
    return tmp_path


def names(folder: Path, *given: str) -> list[str]:
    return [str(Path(recording.name).relative_to(folder)) for recording in find_recordings(given).recordings]


def test_a_folder_gives_the_recordings_below_it_and_names_what_is_none(drives: Path) -> None:
    found = find_recordings([str(drives)])
    shown = {str(Path(recording.name).relative_to(drives)): recording.bytes for recording in found.recordings}
    assert shown == {"a/bag": 10, "b/images": 5, "c/x.mp4": 5, "d/monday.mcap": 3, "d/tuesday.mcap": 3}
    assert [Path(other).name for other in found.others] == ["labels", "note.txt"]


def test_files_of_a_folder_are_one_bag_if_they_are_numbered_as_the_parts_of_it(drives: Path) -> None:
    for number in range(2):
        (drives / "d" / f"d_{number}.mcap").write_bytes(b"1")
    assert "d" not in names(drives, str(drives))
    for name in ("monday.mcap", "tuesday.mcap"):
        (drives / "d" / name).unlink()
    assert names(drives, str(drives / "d")) == ["d"]


def test_patterns_lists_and_uris_name_the_same_recordings_once(drives: Path) -> None:
    file = drives / "list.txt"
    file.write_text(f"# of this week\n{drives}/d/mon*.mcap\n\nfile://{drives}/a/bag # the first\n")
    assert names(drives, f"{drives}/?/*.mcap") == ["d/monday.mcap", "d/tuesday.mcap"]
    assert names(drives, f"@{file}", f"{drives}/a/bag") == ["a/bag", "d/monday.mcap"]


@pytest.mark.parametrize("given", ["{}/nothing", "{}/*.bag", "{}/c/note*", "@{}/no_list", "@{}/c/note.txt"])
def test_what_names_no_recording_is_refused(drives: Path, given: str) -> None:
    if given.endswith("c/note.txt"):
        (drives / "c" / "note.txt").write_text("# nothing\n")
    with pytest.raises(NoRecordingError, match=r"no recording there|list (cannot be read|names no recording)"):
        find_recordings([given.format(drives)])


def test_a_recording_elsewhere_is_copied_for_its_replay_and_the_copy_deleted(tmp_path: Path) -> None:
    pytest.importorskip("fsspec", reason="fsspec is not installed (requirements/fleet.txt)")
    for name in ("metadata.yaml", "bag_0.mcap"):
        open_place(f"memory://drives/monday/{name}").write(b"of monday")
    (recording,) = find_recordings(["memory://drives"]).recordings
    assert (recording.name, recording.bytes) == ("memory://drives/monday", 18)
    assert find_recordings(["memory://drives/m*"]).recordings == [recording]
    with on_this_machine(open_place(recording.name), tmp_path) as copy:
        assert sorted(path.name for path in copy.iterdir()) == ["bag_0.mcap", "metadata.yaml"]
    with (
        pytest.raises(PlaceError, match="no such file or folder"),
        on_this_machine(open_place("memory://drives/friday"), tmp_path),
    ):
        pass


def test_files_are_replaced_read_and_deleted_alike_here_and_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 10_000_000)
    for place in (open_place(str(tmp_path / "out")), open_place("memory://out")):
        place.child("frames", "a").write(b"old")
        place.child("frames", "a").write(b"new")
        place.child("frames", "b").put(tmp_path / "large")
        assert place.child("frames", "a").read() == b"new"
        assert place.child("frames", "b").size() == 10_000_000
        assert place.child("frames").entries() == {"a": False, "b": False}
        place.child("frames", "a").delete_file()
        place.child("frames").delete_folder()
        assert not place.child("frames").is_folder()
        assert place.child("frames").entries() == {}


def test_a_scheme_that_nothing_knows_is_refused_with_what_to_give() -> None:
    with pytest.raises(PlaceError, match=r"nowhere://x: cannot be opened .*give a local path, or a URI"):
        open_place("nowhere://x")
