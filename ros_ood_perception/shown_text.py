"""Escapes a stranger's text before it is shown. Names of topics, frames and files come from outside.

An escape sequence can repaint a terminal, a line break can forge a line of a log, a bidi override can reverse a name.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST = 4000
"""Characters; the middle of a longer text is left out."""
LONGEST_COMPARED = 200
"""Characters of a name that is compared with others."""


def printable(text: str, longest: int = LONGEST) -> str:
    """One line of visible characters: all others are escaped (`\\n`, `\\x1b`, `\\u202e`), and a long text is shortened.

    Visible is what `str.isprintable` says: the space, and no control, format (bidi overrides and zero widths are among
    them), separator, private-use or surrogate character.

    >>> printable("front\\x1b[2J")
    'front\\\\x1b[2J'
    """
    if len(text) > longest:
        half = longest // 2
        text = f"{text[:half]}[{len(text) - 2 * half} characters more]{text[-half:]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def printable_lines(text: str, longest: int = LONGEST) -> str:
    """As `printable`, but the line breaks stay: for our own text of several lines with a stranger's words in it."""
    return "\n".join(printable(line, longest) for line in text.split("\n"))


def error_line(error: BaseException) -> str:
    """The message of an error in one line: that of a library may have several."""
    return printable(" ".join(str(error).split()) or type(error).__name__)


def markdown_cell(text: str) -> str:
    """A stranger's text for a cell of a Markdown table, with bars, links, code and HTML escaped.

    >>> markdown_cell("a|b")
    'a\\\\|b'
    """
    return "".join(f"\\{c}" if c in "\\`[]<>|" else c for c in printable(text))


def nearest(name: str, names: Iterable[str]) -> str:
    """The names that are most like one that is not there, in brackets; empty where none is.

    >>> nearest("anomaly_treshold", ["anomaly_threshold", "bundle"])
    " (nearest: 'anomaly_threshold')"
    """
    found = difflib.get_close_matches(name[:LONGEST_COMPARED], list(names), n=3)
    return f" (nearest: {', '.join(map(repr, found))})" if found else ""
