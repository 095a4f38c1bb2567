"""The page of a fleet shows where, when and how much, and hides no recording that failed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from mined_rows import drive, failed, frame, obstacle, recording, write_tables
from recorded_drive import START_NS

from fleet.page import main
from fleet.report.charts import bars, map_chart
from fleet.report.fleet_figures import FleetFigures
from fleet.tables.mined import MinedTables

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Path:
    """Two drives with positions, one without frames that have obstacles, and a failed one with a hostile reason."""
    folder = tmp_path_factory.mktemp("fleet")
    frames, obstacles, recordings = [], [], []
    for seed, some in ((1, 1), (2, 0)):
        path = drive(folder / f"drive_{seed}", range(4), seed)
        recordings.append(recording(path, bundle, damage=[f"damage of {seed}"]))
        for number in range(4):
            place: dict[str, Any] = {"latitude": 48.0 + number / 1000, "longitude": 11.0 + seed / 1000}
            frames.append(frame(path, number, obstacles=some, road_anomaly_share=0.02 * some, **place))
            obstacles += [obstacle(path, number, (5, 6, 20, 30))] * some
    frames.append(frame(path, 4, fate="malformed", problem="cut off", obstacles=None, doubts=None))
    recordings.append(failed("/drives/broken", HOSTILE))
    return write_tables(folder / "tables", recordings, frames, obstacles)


@pytest.fixture(scope="module")
def text(fleet: Path) -> str:
    file = fleet.parent / "fleet.html"
    assert main([str(fleet), "--report", str(file)]) == 0
    return file.read_text()


def test_the_page_needs_nothing_from_outside(text: str) -> None:
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "url(" not in text


def test_failed_recordings_and_damage_are_named_and_their_words_are_no_markup(text: str) -> None:
    assert "/drives/broken" in text
    assert HOSTILE not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "damage of 1" in text
    assert "damage of 2" in text


def test_the_worst_frames_are_shown_as_pictures_of_frames_with_obstacles(text: str, fleet: Path) -> None:
    # The frames of a drive are 0.1 s apart, so that one is shown; the other drive has no obstacle.
    assert len(re.findall(r"<img [^>]*data:image/jpeg;base64,", text)) == 1
    assert "2.00% of the picture is anomalous" in text.replace("\n", " ")


def test_figures_are_those_of_the_tables(fleet: Path) -> None:
    figures = FleetFigures.of(MinedTables(fleet), "latitude")
    assert dict(figures.fates) == {"published": 8, "malformed": 1}
    assert figures.placed == 8
    assert figures.map_frames is not None
    assert figures.map_anomalous is not None
    assert (figures.map_frames.sum(), figures.map_anomalous.sum()) == (8, pytest.approx(4 * 0.02))
    assert figures.time_frames.sum() == 8
    assert sorted(figures.shares[figures.shares > 0].tolist()) == [4, 4]
    assert figures.shares[0] == 4
    assert figures.peaks.sum() == 8
    assert figures.times is not None
    assert figures.times.least == START_NS


def test_without_positions_the_page_says_so(fleet: Path, tmp_path: Path) -> None:
    assert main([str(fleet), "--report", str(tmp_path / "a.html"), "--place", "none"]) == 0
    assert "No frame has a position" in (tmp_path / "a.html").read_text()


def test_a_fleet_of_failed_recordings_has_a_page_that_names_them(tmp_path: Path) -> None:
    folder = write_tables(tmp_path / "tables", [failed("/drives/a", "is empty")], [])
    assert main([str(folder), "--report", str(tmp_path / "a.html")]) == 0
    text = (tmp_path / "a.html").read_text()
    assert "0 of 1" in text
    assert "is empty" in text


def test_a_report_that_would_replace_a_recording_is_refused(fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(fleet), "--report", str(fleet / "frames" / "x.html")]) == 2
    assert "lies in what is read" in capsys.readouterr().err
    assert main([str(fleet), "--report", "x.mcap"]) == 2


def test_charts_have_a_shape_for_each_cell_and_bar_that_holds_something() -> None:
    import numpy as np

    chart = map_chart(np.array([[3, 0], [2, 1]]), np.array([[0.3, 0], [0, 0]]))
    assert len(chart.findall("rect")) == 3
    assert "10.000% of the picture in 3 frames" in ElementTree.tostring(chart, encoding="unicode")
    assert len(bars([0.0, 2.0, float("nan"), 1.0], ["a", "b", "c", "d"]).findall("rect")) == 2
