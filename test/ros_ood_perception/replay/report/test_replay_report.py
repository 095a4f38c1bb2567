"""The report of a replay: what the page holds, from its parsed HTML. Nothing in it is trusted, nothing is missing."""

from __future__ import annotations

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from recorded_drive import BUNDLE, image, picture, write_bag

from ros_ood_perception.recordings.bag import Bag
from ros_ood_perception.recordings.results import ResultFrame, result_frames
from ros_ood_perception.replay.command_line.main import main
from ros_ood_perception.replay.report import player, worst_frames
from ros_ood_perception.replay.report.__main__ import main as report_main
from ros_ood_perception.replay.report.figures import FrameFigures, evenly
from ros_ood_perception.replay.report.replay_output import ReplayOutput
from ros_ood_perception.replay.scenes import Scenes

FRAMES = 8
FRONT = "/front</script><b>\u202e/image_raw"
ANOMALOUS = ("--set", "anomaly_threshold=0.3", "--set", "region.drivable_classes=['road', 'pavement', 'building']")
OPTIONS = (*ANOMALOUS, "--threads", "1", "--frames-per-file", "6")
EMPTY = {"br", "col", "hr", "img", "input", "link", "meta"}


class Page(HTMLParser):
    """Elements of a page, each with its attributes and the text below it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self._open: list[tuple[str, dict[str, str], list[str]]] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = (tag, {key: value or "" for key, value in attrs}, list[str]())
        self.elements.append(element)
        if tag not in EMPTY:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for _, _, texts in self._open:
            texts.append(data)

    def texts(self, tag: str, **attributes: str) -> list[str]:
        """The text of every element of a name with these attributes (`class_` is `class`)."""
        wanted = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
        return [
            "".join(texts)
            for name, found, texts in self.elements
            if name == tag and all(found.get(key) == value for key, value in wanted.items())
        ]

    @property
    def data(self) -> dict[str, Any]:
        """What the player reads."""
        [text] = self.texts("script", id="data")
        data: dict[str, Any] = json.loads(text)
        return data


def decoded(text: str) -> Any:
    return cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_COLOR)


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    front: list[Any] = [image(number) for number in range(FRAMES)]
    front[5].step = 1
    rear = [image(number, picture(number + 50, 64, 96)) for number in range(FRAMES)]
    return write_bag(tmp_path_factory.mktemp("drive") / "drive", {FRONT: front, "/rear/image_raw": rear})


@pytest.fixture(scope="module")
def out(drive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "out"
    # A malformed frame is a problem.
    assert main([*BUNDLE, str(drive), "--out", str(folder), "--report", str(folder / "report.html"), *OPTIONS]) == 1
    return folder


@pytest.fixture(scope="module")
def page(out: Path) -> Page:
    return Page((out / "report.html").read_text("utf-8"))


@pytest.mark.parametrize(
    ("parameter", "marked", "road"),
    [
        ([""], [], ("road",)),
        ([""], ["pavement"], ("pavement",)),
        (["building"], ["pavement"], ("building",)),
        (["*"], ["pavement"], ("pavement",)),
    ],
)
def test_the_road_is_what_the_parameter_or_the_bundle_names(
    parameter: list[str], marked: list[str], road: tuple[str, ...], out: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(out, tmp_path / "out"))
    summary = json.loads((own / "summary.json").read_text())
    summary["plan"]["parameters"]["region.drivable_classes"] = parameter
    for known in summary["bundle"]["classes"]:
        assert known.pop("drivable") is (known["name"] == "road")
        # Earlier versions wrote no such key.
        if known["name"] in marked:
            known["drivable"] = True
    (own / "summary.json").write_text(json.dumps(summary))
    assert ReplayOutput.read(own).drivable == road


def test_the_page_needs_no_other_file_and_shows_a_strangers_text_as_text(out: Path, page: Page) -> None:
    text = (out / "report.html").read_text("utf-8")
    assert not re.search(r"(src|href)=\"(?!data:|#)|@import|url\(", text)
    assert "<b>\u202e" not in text
    assert "\u202e" not in text
    assert FRONT.replace("\u202e", "\\u202e") in page.texts("code")
    # A script for the data, and one that plays them.
    assert len(page.texts("script")) == 2
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text


def test_the_player_has_the_frames_of_every_camera_with_pictures_and_figures(out: Path, page: Page) -> None:
    results: dict[str, list[ResultFrame]] = {}
    for frame in result_frames(Bag(out / "bag")):
        results.setdefault(frame.camera, []).append(frame)
    cameras = page.data["cameras"]
    assert [(len(camera["frames"]), camera["size"]) for camera in cameras] == [(7, [128, 96]), (8, [96, 64])]
    assert page.texts("option")[:2] == [camera["name"] for camera in cameras]
    for camera, frames in zip(cameras, results.values(), strict=True):
        for shown, frame in zip(camera["frames"], frames, strict=True):
            above = frame.pictures["anomaly_mask"] > 0
            assert shown["area"] == pytest.approx(above.mean(), abs=1e-6)
            assert shown["peak"] == pytest.approx(frame.pictures["anomaly_score"].max() / 255, abs=1e-4)
            assert [box["id"] for box in shown["obstacles"]] == [box.id for box in frame.obstacles or ()]
            for name in ("camera", "classes", "score"):
                assert decoded(shown[name]).shape == (*above.shape, 3)
    assert cameras[1]["frames"][3]["t"] == pytest.approx(0.3)


def test_it_opens_on_the_frame_with_most_obstacles(page: Page) -> None:
    opened = page.data["open"]
    counts = [[len(frame["obstacles"]) for frame in camera["frames"]] for camera in page.data["cameras"]]
    assert max(max(of_camera) for of_camera in counts) > 0
    assert counts[opened["camera"]][opened["frame"]] == max(max(of_camera) for of_camera in counts)


def test_every_camera_has_a_timeline_of_its_own(page: Page) -> None:
    strips = [attributes for name, attributes, _ in page.elements if name == "svg"]
    assert [strip["data-camera"] for strip in strips] == ["0"] * 4 + ["1"] * 4
    assert {strip["data-span"] for strip in strips} == {"0.7"}
    labels = [text for text in page.texts("div", class_="strip") if text.startswith("frame above")]
    largest = [max(frame["area"] for frame in camera["frames"]) for camera in page.data["cameras"]]
    assert labels == [f"frame above the threshold, at most {share:.2%}" for share in largest]


def test_every_obstacle_has_a_row(out: Path, page: Page) -> None:
    ids = {(frame.camera, box.id) for frame in result_frames(Bag(out / "bag")) for box in frame.obstacles or ()}
    rows = [text for text in page.texts("tr") if re.match(r"(front|rear)\S* \d+\d", text)]
    assert len(ids) > 0
    assert len(page.texts("a")) >= len(ids)
    assert len(rows) == len(ids)


def test_it_says_where_every_frame_went_and_why(out: Path, page: Page) -> None:
    cells = page.texts("tr")
    assert [cell for cell in cells if cell.startswith("Malformed")] == ["Malformed1", "Malformed0"]
    assert [cell for cell in cells if cell.startswith("Results written")] == ["Results written7", "Results written8"]
    [problem] = json.loads((out / "summary.json").read_text())["cameras"][0]["problems"]
    assert any(problem.replace("\u202e", "\\u202e") in text for text in page.texts("li"))
    assert page.texts("ul", class_="problems bad")


def test_the_worst_frames_show_camera_results_and_score_once_for_each_scene(page: Page) -> None:
    headers = page.texts("header")
    # All frames of a camera are less than 2 s apart.
    assert len(headers) == 2
    evidence = [float(re.findall(r"evidence ([\d.]+)", text)[0]) for text in headers]
    assert evidence == sorted(evidence, reverse=True)
    for caption in ("camera", "classes, anomalies and obstacles"):
        assert page.texts("figcaption").count(caption) >= 2
    [legend] = page.texts("p", class_="legend")
    assert legend.endswith("above the thresholdobstacle")
    assert "road" in legend or "building" in legend or "tree" in legend


def test_made_later_or_after_an_interruption_it_is_the_same(out: Path, drive: Path, tmp_path: Path) -> None:
    whole = (out / "report.html").read_bytes()
    assert report_main([str(out), "--report", str(tmp_path / "later.html")]) == 0
    assert (tmp_path / "later.html").read_bytes() == whole
    shutil.copytree(out, tmp_path / "out")
    (tmp_path / "out" / "bag" / "bag_1.mcap").unlink()
    resumed = tmp_path / "resumed.html"
    assert (
        main([*BUNDLE, str(drive), "--out", str(tmp_path / "out"), "--report", str(resumed), "--resume", *OPTIONS]) == 1
    )
    assert resumed.read_bytes() == whole


def test_without_the_recording_it_says_so_and_another_path_can_be_given(out: Path, drive: Path, tmp_path: Path) -> None:
    shutil.copytree(out, tmp_path / "out")
    summary = json.loads((out / "summary.json").read_text())
    summary["plan"]["input"] = str(tmp_path / "moved")
    (tmp_path / "out" / "summary.json").write_text(json.dumps(summary))
    assert report_main([str(tmp_path / "out")]) == 0
    page = Page((tmp_path / "out" / "report.html").read_text("utf-8"))
    assert "camera" not in page.data["cameras"][0]["frames"][0]
    assert any(text.startswith("without camera images: ") for text in page.texts("p", class_="bad"))
    assert report_main([str(tmp_path / "out"), "--recording", str(drive)]) == 0
    assert (tmp_path / "out" / "report.html").read_bytes() == (out / "report.html").read_bytes()


def test_images_that_look_wrong_have_a_tile_and_each_camera_says_whence_its_pose_is(out: Path, tmp_path: Path) -> None:
    shutil.copytree(out, tmp_path / "out")
    summary = json.loads((out / "summary.json").read_text())

    def remade(*counts: dict[str, int]) -> Page:
        for camera, found in zip(summary["cameras"], counts, strict=True):
            camera["implausible"], camera["ground"] = found, "known"
        (tmp_path / "out" / "summary.json").write_text(json.dumps(summary))
        assert report_main([str(tmp_path / "out")]) == 0
        return Page((tmp_path / "out" / "report.html").read_text("utf-8"))

    assert "Findings on images" not in remade({}, {}).texts("span")
    page = remade({"frozen": 2}, {"black": 1, "frozen": 3})
    assert [text for text in page.texts("div", class_="card tile") if text.startswith("Findings on images6")]
    assert [text for text in page.texts("tr") if text.startswith("Pose of the camera")] == ["Pose of the cameratf"] * 2


def test_a_replay_with_a_report_in_its_folder_can_be_replaced(out: Path, drive: Path, tmp_path: Path) -> None:
    shutil.copytree(out, tmp_path / "out")
    assert main([*BUNDLE, str(drive), "--out", str(tmp_path / "out"), "--stop", "0.2", *OPTIONS]) == 0
    assert not (tmp_path / "out" / "report.html").exists()


def test_what_makes_no_report_is_named_before_anything_starts(
    drive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for options, message in (
        (["--report", str(tmp_path / "a.mcap")], "a.mcap: the name of a report ends in .html"),
        (["--report", str(drive / "a.html")], "lies in what is read (the input:"),
        (["--report", "a.html", "--outputs", "semantic_mask"], "--report shows anomaly_mask, which --outputs lacks"),
    ):
        assert main([*BUNDLE, str(drive), "--out", str(tmp_path / "out"), *options]) == 2
        assert message in " ".join(capfd.readouterr().err.split())
    assert report_main([str(tmp_path)]) == 2
    assert "give the --out folder of a replay that has ended" in capfd.readouterr().err
    (tmp_path / "summary.json").write_text('{"plan": {}}')
    assert report_main([str(tmp_path)]) == 2
    assert "is not the summary of a replay of this version" in capfd.readouterr().err


# -- parts ---------------------------------------------------------------------------------------------------------


def figures(number: int, evidence: float = 0.0, camera: str = "/a/") -> FrameFigures:
    return FrameFigures((camera, number, 0), number * 10**9, evidence, None, None, evidence, ())


def test_of_a_long_replay_frames_are_chosen_evenly_and_the_worst_are_among_them() -> None:
    frames = [figures(number, evidence=float(number == 33)) for number in range(1000)]
    chosen = [frame.key[1] for frame in evenly(frames, 11)]
    assert (chosen[0], chosen[-1], len(chosen)) == (0, 999, 11)
    assert set(np.diff(chosen)) <= {99, 100, 101}
    assert [*worst_frames.candidates(frames)] == [("/a/", 33, 0)]


def test_one_frame_of_a_scene_is_shown_by_time_and_by_looks() -> None:
    scenes = Scenes()
    black, grey = np.zeros((90, 160, 3), np.uint8), np.full((90, 160, 3), 40, np.uint8)
    second = 10**9
    assert scenes.add("/a/", 0, black)
    assert not scenes.add("/a/", second, grey)
    assert scenes.add("/b/", second, black)
    assert not scenes.add("/a/", 60 * second, black + np.uint8(4))
    assert scenes.add("/a/", 60 * second, grey)
    street, other_street = picture(1, 90, 160), picture(2, 90, 160)
    assert scenes.add("/a/", 70 * second, street)
    # The same street in less light.
    assert not scenes.add("/a/", 80 * second, (street // 2).astype(np.uint8))
    assert scenes.add("/a/", 80 * second, other_street)
    # The times of a folder of images are made up.
    folder = Scenes(by_time=False)
    assert folder.add("/a/", 0, black)
    assert folder.add("/a/", 1, grey)
    assert not folder.add("/a/", 60 * second, grey)


def test_a_report_without_frames_has_no_player() -> None:
    assert player.player_data([("front", [])]) is None
