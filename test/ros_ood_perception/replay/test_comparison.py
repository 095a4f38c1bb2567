"""Comparisons of bags with results, frame by frame: nothing that both have is left out, whatever one of them lacks."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from math import inf, nan
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from recorded_drive import IMAGE, header, image, write_bag

from ros_ood_perception.bundle.model_bundle import BundleDescription, read_bundle
from ros_ood_perception.files.output_folder import OutputFolder
from ros_ood_perception.recordings.message_types import message_types
from ros_ood_perception.replay.comparison.__main__ import main as comparison_main
from ros_ood_perception.replay.comparison.limits import ComparisonError, Limits
from ros_ood_perception.replay.comparison.opened_run import RunClasses, open_run
from ros_ood_perception.replay.comparison.printing import print_comparison
from ros_ood_perception.replay.comparison.runs import check_other, compare
from ros_ood_perception.replay.comparison.settings_differences import settings_differences
from ros_ood_perception.replay.inputs import Input, open_input

MASK = "/perception_node/output/semantic/mask"
ANOMALY_MASK = "/perception_node/output/anomaly/mask"


@pytest.fixture(scope="module")
def description(shipped_bundle: Path) -> BundleDescription:
    return read_bundle(shipped_bundle).description


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Input:
    return open_input(write_bag(tmp_path_factory.mktemp("drive") / "drive", {"/front/image_raw": [image(0)]}), (), 10.0)


def masks(numbers: Sequence[int], lost: Collection[int] = ()) -> list[Any]:
    """Small masks with the stamps of these frames, None in place of those that were lost."""
    pixels = np.zeros(4, np.uint8)
    return [
        None
        if number in lost
        else message_types()(IMAGE, header=header(number), height=2, width=2, encoding="mono8", step=2, data=pixels)
        for number in numbers
    ]


def compared_runs(
    out: Path, other: Path, source: Input, description: BundleDescription, limits: Limits
) -> dict[str, Any]:
    """Bags with masks alone do not name their classes: they are those of the bundle."""
    classes = RunClasses.of_bundle(description)
    runs = open_run(out, classes), open_run(other, classes)
    return compare(OutputFolder(out, "replay"), *runs, source, "/perception_node", limits)


def compared(
    ours: Mapping[str, Sequence[Any]],
    theirs: Mapping[str, Sequence[Any]],
    folder: Path,
    source: Input,
    description: BundleDescription,
) -> tuple[int, int, int]:
    """How many frames were compared, are only here, and only there."""
    write_bag(folder / "out" / "bag", ours)
    other = write_bag(folder / "other", theirs)
    found = compared_runs(folder / "out", other, source, description, Limits())
    return found["frames"], found["only_here"], found["only_there"]


def test_a_frame_without_its_semantic_mask_counts_as_missing_where_it_lacks_it(
    tmp_path: Path, source: Input, description: BundleDescription
) -> None:
    anomaly = masks(range(8))
    ours = {MASK: masks(range(8), lost=[6, 7]), ANOMALY_MASK: anomaly}
    theirs = {MASK: masks(range(8), lost=[3, 5, 7]), ANOMALY_MASK: anomaly}
    assert compared(ours, theirs, tmp_path, source, description) == (4, 2, 1)


@pytest.mark.parametrize(
    ("ours", "theirs", "pairs"),
    [
        pytest.param(range(1000), range(0, 1000, 2), 500, id="a live node that replaced frames unread"),
        pytest.param(range(1000), range(100, 1000), 900, id="a recorder that was started late"),
        pytest.param(range(70, 170), range(1000), 100, id="a replay of a part"),
        pytest.param([0, *range(100, 400)], [*range(1, 400)], 300, id="a gap after a frame that only one has"),
        pytest.param([*range(300), 9999, *range(300, 600)], range(600), 600, id="a stamp far in the future in one"),
        pytest.param([*range(400, 700), *range(300)], [*range(400, 700, 2), *range(300)], 450, id="a clock set back"),
    ],
)
def test_every_frame_that_both_have_is_compared_whatever_either_lacks(
    ours: Sequence[int],
    theirs: Sequence[int],
    pairs: int,
    tmp_path: Path,
    source: Input,
    description: BundleDescription,
) -> None:
    found = compared({MASK: masks(ours)}, {MASK: masks(theirs)}, tmp_path, source, description)
    assert found == (pairs, len(ours) - pairs, len(theirs) - pairs)


def test_several_cameras_with_equal_and_late_stamps_are_compared_frame_by_frame(
    tmp_path: Path, source: Input, description: BundleDescription
) -> None:
    front, rear, late = (f"/perception_node/{name}/output/semantic/mask" for name in ("front", "rear", "late"))
    ours = {front: masks(range(20, 320)), rear: masks(range(20, 320)), late: masks(range(300))}
    theirs = {
        late: masks(range(300), lost=range(0, 300, 2)),
        front: masks(range(20, 320), lost=range(20, 220)),
        rear: masks(range(20, 320)),
    }
    assert compared(ours, theirs, tmp_path, source, description) == (150 + 100 + 300, 150 + 200, 0)


def test_frames_of_which_a_recorder_lost_another_output_are_compared(
    tmp_path: Path, source: Input, description: BundleDescription
) -> None:
    # They are given out late, when it is clear that the output does not come.
    ours = {MASK: masks(range(900)), ANOMALY_MASK: masks(range(900))}
    theirs = {MASK: masks(range(900)), ANOMALY_MASK: masks(range(900), lost=range(0, 900, 3))}
    assert compared(ours, theirs, tmp_path, source, description) == (900, 0, 0)


def test_frames_that_come_in_another_order_are_given_up_and_the_others_are_compared(
    tmp_path: Path, source: Input, description: BundleDescription
) -> None:
    # Played twice: what was dropped in the first round has its first occurrence in the second.
    ours = {MASK: masks([*range(300), *range(300)])}
    theirs = {MASK: masks([*range(0, 300, 2), *range(300)])}
    frames, only_here, only_there = compared(ours, theirs, tmp_path, source, description)
    assert frames >= 300
    assert (frames + only_here, frames + only_there) == (600, 450)


# -- damaged results -----------------------------------------------------------------------------------------------

DETECTIONS = "/perception_node/output/anomaly/detections"
SCORE = "/perception_node/output/anomaly/score"
Box = tuple[float, float, float, float]
GOOD_BOX = (5.0, 5.0, 4.0, 4.0)


def detections(number: int, boxes: Sequence[Box]) -> Any:
    """An obstacle each: centre and size, pixels."""
    types = message_types()

    def detection(box: Box) -> Any:
        x, y, width, height = box
        position = types("vision_msgs/msg/Point2D", x=x, y=y)
        centre = types("vision_msgs/msg/Pose2D", position=position)
        return types(
            "vision_msgs/msg/Detection2D",
            header=header(number),
            bbox=types("vision_msgs/msg/BoundingBox2D", center=centre, size_x=width, size_y=height),
        )

    return types(
        "vision_msgs/msg/Detection2DArray", header=header(number), detections=[detection(box) for box in boxes]
    )


def picture(number: int, height: int = 2, width: int = 2, encoding: str = "mono8", data: bytes | None = None) -> Any:
    values = np.frombuffer(bytes(height * width) if data is None else data, np.uint8)
    step = width * (4 if encoding == "32FC1" else 1)
    return message_types()(
        IMAGE, header=header(number), height=height, width=width, encoding=encoding, step=step, data=values
    )


def both(
    folder: Path, theirs: Mapping[str, Sequence[Any]], source: Input, description: BundleDescription
) -> dict[str, Any]:
    """A good run of three frames against another, and what is said of it."""
    ours = {
        MASK: masks(range(3)),
        ANOMALY_MASK: masks(range(3)),
        SCORE: masks(range(3)),
        DETECTIONS: [detections(number, [GOOD_BOX]) for number in range(3)],
    }
    write_bag(folder / "out" / "bag", ours)
    other = write_bag(folder / "other", {**ours, **theirs})
    found = compared_runs(folder / "out", other, source, description, Limits(max_obstacles_gained=9))
    said: list[str] = []
    assert print_comparison(found, lambda text, style=None: said.append(text)) == (1 if found["damage"] else 0)
    # Strict JSON: no NaN.
    json.loads((folder / "out" / "comparison.json").read_text(), parse_constant=pytest.fail)
    return found


@pytest.mark.parametrize(
    "box",
    [
        (nan, 5, 4, 4),
        (5, inf, 4, 4),
        (5, 5, nan, 4),
        (5, 5, -inf, 4),
        (5, 5, -4, 4),
        (5, 5, 0, 0),
        (1e308, 5, 1e308, 4),
        (-1e300, 5, 4, 4),
    ],
)
def test_a_box_that_no_obstacle_can_have_is_named_and_the_other_frames_are_compared(
    box: Box, tmp_path: Path, source: Input, description: BundleDescription
) -> None:
    boxes = [detections(0, [GOOD_BOX]), detections(1, [GOOD_BOX, box]), detections(2, [GOOD_BOX])]
    found = both(tmp_path, {DETECTIONS: boxes}, source, description)
    assert (found["frames"], found["obstacles_gained"], found["obstacles_lost"]) == (3, 0, 0)
    assert len(found["damage"]) == 1
    assert "which no obstacle can have" in found["damage"][0]
    assert str(header(1).stamp.sec) in found["damage"][0]


def test_boxes_that_are_there_twice_and_very_many_are_counted_one_to_one(
    tmp_path: Path, source: Input, description: BundleDescription
) -> None:
    many = [(float(5 + 10 * i), 5.0, 4.0, 4.0) for i in range(1024)]
    boxes = [detections(0, [GOOD_BOX] * 3), detections(1, many), detections(2, many * 5)]
    found = both(tmp_path, {DETECTIONS: boxes}, source, description)
    assert (found["obstacles_lost"], found["obstacles_gained"]) == (2 + 1023, 0)
    assert [text.rpartition(": ")[2] for text in found["damage"]] == ["has 5120 obstacles; a frame has at most 4096"]


@pytest.mark.parametrize(
    ("topic", "bad", "frames"),
    [
        (MASK, {"height": 0, "width": 0}, 2),
        (MASK, {"data": b"123"}, 2),
        (MASK, {"encoding": "32FC1", "data": bytes(16)}, 2),
        (MASK, {"encoding": "\x1b[2J"}, 2),
        (MASK, {"height": 4}, 2),
        (ANOMALY_MASK, {"height": 4}, 2),
        (ANOMALY_MASK, {"encoding": "rgb8", "data": bytes(12)}, 3),
        (SCORE, {"encoding": "32FC1", "data": np.array([0, 1, nan, 0.5], "<f4").tobytes()}, 3),
        (SCORE, {"encoding": "32FC1", "data": np.array([0, 1, inf, 0.5], "<f4").tobytes()}, 3),
        (SCORE, {"encoding": "32FC1", "data": np.array([0, -3, 0, 0.5], "<f4").tobytes()}, 3),
        (SCORE, {"height": 1}, 2),
    ],
)
def test_a_damaged_result_is_named_and_the_other_frames_are_compared(
    topic: str, bad: dict[str, Any], frames: int, tmp_path: Path, source: Input, description: BundleDescription
) -> None:
    found = both(tmp_path, {topic: [picture(0), picture(1, **bad), picture(2)]}, source, description)
    assert found["frames"] == frames
    assert (found["class_agreement"], found["score_difference"]) == (1.0, 0.0)
    assert len(found["damage"]) == 1


def test_a_message_that_is_no_message_is_named_and_the_other_frames_are_compared(
    tmp_path: Path, source: Input, description: BundleDescription
) -> None:
    class Broken:
        __msgtype__ = IMAGE

    types = message_types()
    serialized = types.serialized
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(types), "serialized", lambda _, m: b"\0\1" if isinstance(m, Broken) else serialized(m))
        found = both(tmp_path, {MASK: [picture(0), Broken(), picture(2)]}, source, description)
    assert (found["frames"], found["only_there"]) == (2, 0)
    assert "cannot be read as sensor_msgs/msg/Image" in found["damage"][0]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"topics": 3}', '{"topics": {"a": {}}}', "[" * 100_000, "\xff"]
)
def test_a_summary_that_is_none_is_bad_input(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text, encoding="latin-1")
    with pytest.raises(ComparisonError, match=r"a\.json: is not the summary\.json of a replay"):
        check_other(tmp_path / "a.json", RunClasses(("road",), ((0, 0, 0),)))


def test_a_summary_that_is_no_file_is_bad_input(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("pipe.json", "none.json"):
        with pytest.raises(ComparisonError, match=r"is not the summary\.json of a replay"):
            check_other(tmp_path / name, RunClasses(("road",), ((0, 0, 0),)))


# -- classes, settings, cameras ------------------------------------------------------------------------------------


def label_info(names: Sequence[str]) -> Any:
    types = message_types()
    entries = [*enumerate(names), (254, "anomaly")]
    classes = [types("vision_msgs/msg/VisionClass", class_id=i, class_name=name) for i, name in entries]
    return types("vision_msgs/msg/LabelInfo", header=header(0), class_map=classes, threshold=0.5)


def run_with_classes(folder: Path, names: Sequence[str], ids: Sequence[int]) -> Path:
    """A bag with one mask of 2x2 pixels, and the names of its classes."""
    data = bytes(ids)
    topics = {MASK: [picture(0, data=data)], MASK.replace("mask", "label_info"): [label_info(names)]}
    return write_bag(folder, topics)


def test_classes_are_matched_by_their_names(tmp_path: Path, source: Input) -> None:
    here = run_with_classes(tmp_path / "out" / "bag", ["road", "sky", "car"], [0, 1, 1, 2])
    there = run_with_classes(tmp_path / "other", ["sky", "tree", "road"], [2, 0, 0, 1])
    runs = open_run(here), open_run(there)
    found = compare(OutputFolder(tmp_path / "out", "replay"), *runs, source, "/perception_node", Limits())
    # Road and sky are where they were; a car has become a tree.
    assert found["class_agreement"] == 0.75
    assert found["iou_by_class"] == {"road": 1.0, "sky": 1.0}
    assert (found["classes_only_here"], found["classes_only_there"]) == (["car"], ["tree"])
    said: list[str] = []
    print_comparison(found, lambda text, style=None: said.append(text))
    assert "  classes only in the other run: tree" in said


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["ground", "thing"], "the runs have no class in common: this one has road, sky; the other ground, thing"),
        ([], "the other run does not name its classes, so its masks cannot be compared"),
    ],
)
def test_runs_whose_classes_cannot_be_matched_are_refused_before_a_replay(
    names: Sequence[str], message: str, tmp_path: Path
) -> None:
    classes = RunClasses(("road", "sky"), ((0, 0, 0), (1, 1, 1)))
    with pytest.raises(ComparisonError, match=message):
        check_other(run_with_classes(tmp_path / "other", names, [0, 0, 0, 0]), classes)


def test_a_bag_that_names_only_its_model_has_the_classes_of_that_model_and_of_no_other(tmp_path: Path) -> None:
    types = message_types()
    fact = types("diagnostic_msgs/msg/KeyValue", key="model_sha256", value="a1")
    status = types("diagnostic_msgs/msg/DiagnosticStatus", level=0, name="n", message="", hardware_id="", values=[fact])
    array = types("diagnostic_msgs/msg/DiagnosticArray", header=header(0), status=[status])
    bag = write_bag(tmp_path / "live", {MASK: [picture(0, data=bytes(4))], "/diagnostics": [array]})
    check_other(bag, RunClasses(("road", "sky"), ((0, 0, 0), (1, 1, 1)), "a1"))
    for model in ("b2", ""):
        with pytest.raises(ComparisonError, match="the other run does not name its classes"):
            check_other(bag, RunClasses(("road", "sky"), ((0, 0, 0), (1, 1, 1)), model))


def test_a_bag_beside_another_programs_summary_is_read_without_it(tmp_path: Path) -> None:
    bag = run_with_classes(tmp_path / "demo" / "bag", ["road", "sky"], [0, 0, 0, 1])
    (tmp_path / "demo" / "summary.json").write_text('{"accounting": {}}')
    assert open_run(bag).summary is None
    with pytest.raises(ComparisonError, match=r"is not the summary\.json of a replay"):
        open_run(tmp_path / "demo")


def test_every_setting_that_differs_is_listed() -> None:
    plan = {"threads": 1, "bundle": "a", "parameters": {"anomaly_threshold": 0.5, "engine": "auto"}}
    here = {"bundle": {"name": "new", "model_sha256": "a"}, "engine": "onnxruntime", "plan": plan}
    there = {
        "bundle": {"name": "old", "model_sha256": "b"},
        "engine": "tensorrt",
        "plan": {"threads": 1, "bundle": "b", "parameters": {"anomaly_threshold": 0.25, "engine": "auto", "more": 1}},
    }
    found = settings_differences(here, there)
    assert found == [
        {"setting": "bundle", "this": "new", "other": "old"},
        {"setting": "model SHA-256", "this": "a", "other": "b"},
        {"setting": "engine", "this": "onnxruntime", "other": "tensorrt"},
        {"setting": "parameter anomaly_threshold", "this": 0.5, "other": 0.25},
        {"setting": "parameter more", "this": "(missing)", "other": 1},
    ]
    assert settings_differences(here, here) == []
    assert settings_differences(here, None) is None


def test_obstacles_are_counted_for_each_camera(tmp_path: Path, source: Input, description: BundleDescription) -> None:
    def topics(front: int, rear: int) -> dict[str, Sequence[Any]]:
        boxes = [(float(5 + 10 * i), 5.0, 4.0, 4.0) for i in range(9)]
        of_cameras = {"front": front, "rear": rear}
        return {
            topic.replace("/output", f"/{camera}/output"): [message]
            for camera, count in of_cameras.items()
            for topic, message in ((MASK, picture(0)), (DETECTIONS, detections(0, boxes[:count])))
        }

    write_bag(tmp_path / "out" / "bag", topics(3, 1))
    other = write_bag(tmp_path / "other", topics(2, 5))
    found = compared_runs(tmp_path / "out", other, source, description, Limits())
    assert found["obstacles_by_camera"] == {
        "/perception_node/front/": {"frames": 1, "here": 3, "there": 2, "gained": 1, "lost": 0},
        "/perception_node/rear/": {"frames": 1, "here": 1, "there": 5, "gained": 0, "lost": 4},
    }
    assert (found["obstacles_gained"], found["obstacles_lost"]) == (1, 4)


def test_two_runs_are_compared_without_replaying(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    here = run_with_classes(tmp_path / "new", ["road", "sky"], [0, 1, 1, 1])
    there = run_with_classes(tmp_path / "old", ["sky", "road"], [1, 0, 0, 1])
    out = tmp_path / "comparison"
    options = [str(here), str(there), "--out", str(out)]
    assert comparison_main(options) == 0
    found = json.loads((out / "comparison.json").read_text())
    assert (found["class_agreement"], found["this"], found["other"]) == (0.75, str(here), str(there))
    [worst] = found["worst_frames"]
    shown = cv2.imread(str(out / worst["picture"]))
    assert shown.shape[1] == 2 * 640
    assert comparison_main([*options, "--min-class-agreement", "0.9"]) == 1
    assert "--min-class-agreement is 0.9, but the value is 0.75" in capfd.readouterr().err
    assert comparison_main([str(here), str(tmp_path / "none"), "--out", str(out)]) == 2
    assert comparison_main([str(here), str(there), "--out", str(here)]) == 2
