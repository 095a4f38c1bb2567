"""Text of strangers, shown: one line, visible characters, whatever they put into a name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded_drive import BUNDLE, image, write_bag

from ros_ood_perception.replay.command_line.main import main
from ros_ood_perception.shown_text import markdown_cell, printable
from training.evaluation.report_page import write_page

HOSTILE = "/a\x1b[2J\x1b]0;title\x07\nproblem: none\r\u202egnp.\u2028\x00\u200b\x9b31m\ud800"


@given(st.text(st.characters()))
def test_any_text_becomes_one_visible_line(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")
    cell = markdown_cell(text)
    assert cell.isprintable()
    assert "|" not in cell.replace("\\|", "")


def test_what_is_shown_says_what_was_there_and_is_not_long() -> None:
    assert printable(HOSTILE) == (
        "/a\\x1b[2J\\x1b]0;title\\x07\\nproblem: none\\r\\u202egnp.\\u2028\\x00\\u200b\\x9b31m\\ud800"
    )
    assert printable("ordinary names: été, 日本") == "ordinary names: été, 日本"
    assert printable("x" * 10**6, 100) == "x" * 50 + "[999900 characters more]" + "x" * 50


def test_names_of_topics_and_frames_neither_obey_nor_forge_lines_in_a_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hostile = HOSTILE.replace("\ud800", "").replace("\x00", "")
    frames = [image(number) for number in range(2)]
    frames[0].header.frame_id = hostile
    frames[1].encoding = hostile
    bag = write_bag(tmp_path / "bag", {f"{hostile}/image_raw": frames, f"/other{hostile}": [image(0)]})
    assert (
        main([*BUNDLE, str(bag), "--out", str(tmp_path / "out"), "--with-input", "--camera", f"{hostile}/image_raw"])
        == 1
    )
    assert main([*BUNDLE, str(bag), "--out", str(tmp_path / "out2"), "--camera", f"/no{hostile}"]) == 2
    said = capfd.readouterr()
    assert "\\x1b[2J" in said.err
    for line in (said.out + said.err).split("\n"):
        assert line.isprintable(), repr(line)
        assert not line.startswith("problem: none")
    for file in ("summary.json", "state.json"):
        text = (tmp_path / "out" / file).read_text("utf-8")
        assert text.isascii()
        json.loads(text)


def test_a_page_shows_names_without_obeying_them(tmp_path: Path) -> None:
    (tmp_path / "page.html.jinja").write_text("<p>{{ name }}</p>\n<script>{{ data|tojson }}</script>\n{{ lines }}")
    write_page(tmp_path / "page.html", tmp_path / "page.html.jinja", name=HOSTILE, data={"a": "<\n"}, lines="1\n2")
    text = (tmp_path / "page.html").read_text("utf-8")
    assert text.split("\n")[-2:] == ["1", "2"]
    assert all(line.isprintable() for line in text.split("\n"))
    assert '{"a": "\\u003c\\n"}' in text
