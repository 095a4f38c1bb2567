"""A stranger's text, shown: names of topics, frames and files come from outside, and terminals obey some characters.

An escape sequence repaints the screen, a line break forges a line of a log, a bidi override turns a name round.
"""

from __future__ import annotations

LONGEST = 4000
"""Characters; a longer text is cut in its middle."""


def printable(text: str, longest: int = LONGEST) -> str:
    """One line of visible characters: every other one as its escape (`\\n`, `\\x1b`, `\\u202e`), and a long text cut.

    Visible is what `str.isprintable` says: no control, format (bidi overrides and zero widths are among them),
    separator, private-use or surrogate character, but the blank.
    """
    if len(text) > longest:
        half = longest // 2
        text = f"{text[:half]}[{len(text) - 2 * half} characters more]{text[-half:]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def printable_lines(text: str, longest: int = LONGEST) -> str:
    """A text of our own in several lines, a stranger's words within: as `printable`, but the line breaks stay."""
    return "\n".join(printable(line, longest) for line in text.split("\n"))


def error_line(error: BaseException) -> str:
    """An error in one line: a library's message may have several."""
    return printable(" ".join(str(error).split()) or type(error).__name__)


def markdown_cell(text: str) -> str:
    """A stranger's text in a cell of a Markdown table: its bars, links, code and HTML are only characters."""
    return "".join(f"\\{c}" if c in "\\`[]<>|" else c for c in printable(text))
