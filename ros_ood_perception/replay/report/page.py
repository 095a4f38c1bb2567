"""A self-contained HTML page as a tree of elements. Text is escaped when the tree is written.

The vehicle has no template library, so the standard library's ElementTree is used.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from ros_ood_perception.shown_text import printable

ASSETS = Path(__file__).resolve().parent
"""The folder of `page.css` and `player.js`, which the reports of demo and evaluation use as well."""

Content = Element | str | None
"""What an element holds; None is left out."""


def tag(name: str, /, *contents: Content, **attributes: object) -> Element:
    """An element.

    Args:
        attributes: `class_` is `class`, and `data_x` is `data-x`. A value of True stands for the name alone; None and
            False leave the attribute out.

    >>> ElementTree.tostring(tag("b", "a < b", class_="n"), encoding="unicode", method="html")
    '<b class="n">a &lt; b</b>'
    """
    element = Element(name)
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        shown = key.rstrip("_").replace("_", "-")
        element.set(shown, shown if value is True else printable(str(value), len(str(value))))
    last: Element | None = None
    for content in contents:
        if isinstance(content, Element):
            element.append(content)
            last = content
        elif content is not None:
            text = printable(content)
            if last is None:
                element.text = (element.text or "") + text
            else:
                last.tail = (last.tail or "") + text
    return element


def table(heads: list[Content], rows: list[list[Content]], numbers: range | list[int] = range(0)) -> Element:
    """A table in a box that scrolls where the screen is narrow.

    Args:
        numbers: indices of the columns that hold numbers.
    """

    def row(kind: str, cells: list[Content]) -> Element:
        return tag("tr", *(tag(kind, cell, class_="n" if i in numbers else None) for i, cell in enumerate(cells)))

    head = [row("th", heads)] if heads else []
    return tag("div", tag("table", *head, *(row("td", cells) for cells in rows)), class_="scroll")


def page(title: str, body: list[Element], data: Any = None) -> str:
    """A whole page with the style of the reports.

    Args:
        data: plain values for `player.js`, which is then a part of the page; None leaves it out.
    """
    if data is not None:
        # "<" would end the script early. Within strings of JSON the escape is the same character.
        text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
        json_block = tag("script", type="application/json", id="data")
        script = tag("script")
        json_block.text, script.text = text, (ASSETS / "player.js").read_text("utf-8")
        body = [*body, json_block, script]
    style = tag("style")
    style.text = (ASSETS / "page.css").read_text("utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        style,
    )
    document = tag("html", head, tag("body", tag("main", *body)), lang="en")
    return "<!doctype html>\n" + ElementTree.tostring(document, encoding="unicode", method="html") + "\n"
