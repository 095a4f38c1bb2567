"""The pages and the tree agree: links, anchors, file names and commands of every Markdown file exist."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

FOLDERS = sorted(path.name for path in ROOT.iterdir() if path.is_dir() and re.fullmatch(r"[a-z_]+", path.name))
GENERATED = {"build", "install", "log", "out", "runs"}
"""Folders of the checkout that commands make."""
EXAMPLES = {"models/mine", "models/old", "models/new"}
"""Names that a page gives to a file of the reader."""

FENCE = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
MODULE = re.compile(r"python3? -m ([a-z_]+(?:\.[a-z_0-9]+)*)")
SCRIPT = re.compile(r"python3? ((?:[a-z_0-9]+/)*[a-z_0-9]+\.py)")
CONFIG = re.compile(r"--config (training/\S+)")


OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
COMMAND = re.compile(
    r"(?:python3? -m (?:ros_ood_perception|training|demo|sample_drive|fleet|benchmark)[a-z_.]*"
    r"|python3? \S+\.py|\./demo\.sh"
    r"|ros2 run ros_ood_perception (?:replay|build_engine))\b([^`\n]*)"
)
LAUNCH = re.compile(r"ros2 launch ros_ood_perception (\S+\.launch\.py)((?:[^`\n]|\\\n)*)")


def without_fences(text: str) -> str:
    return FENCE.sub("", text)


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?)\s*$", without_fences(page.read_text()), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        number = next(n for n in range(100) if (f"{slug}-{n}" if n else slug) not in found)
        found.add(f"{slug}-{number}" if number else slug)
    return found


def named_paths(text: str) -> Iterator[str]:
    """Names in backticks that are paths of this repository: below one of its folders, or the end of one."""
    for code in CODE.findall(without_fences(text)):
        for word in code.split() if code.startswith(("python", "pytest", "./")) else [code]:
            below = re.fullmatch(rf"(?:{'|'.join(FOLDERS)})/[\w./*-]*", word)
            bare = re.fullmatch(r"(?:[a-z_0-9]+/)*[a-z_0-9]+\.(?:py|sh)", word)
            if (below and word.split("/")[0] not in GENERATED and word not in EXAMPLES) or bare:
                yield word


def exists(name: str) -> bool:
    """A path or pattern from the root, or the end of the path of a file below one of the folders."""
    if any(ROOT.glob(name.rstrip("/"))):
        return True
    return not name.startswith(tuple(FOLDERS)) and any(any((ROOT / folder).rglob(name)) for folder in FOLDERS)


def commands(text: str) -> Iterator[str]:
    """Files that the commands of a page name: modules, scripts, configurations."""
    for module in MODULE.findall(text):
        if module.split(".")[0] in FOLDERS:
            yield module.replace(".", "/")
    yield from SCRIPT.findall(text)
    yield from (path for path in CONFIG.findall(text) if "$" not in path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(without_fences(page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: no such file"
        assert target.is_relative_to(ROOT), f"{link} leads out of the repository"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    missing = [name for name in named_paths(page.read_text()) if not exists(name)]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_runs_a_file_that_is_there(page: Path) -> None:
    for name in commands(page.read_text()):
        path = ROOT / name
        module = path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
        assert path.is_file() or module, name


def test_every_option_of_a_command_is_one_that_the_code_parses() -> None:
    parsed = {"--help"}
    for folder in ("ros_ood_perception", "training", "demo", "sample_drive", "fleet", "benchmark", "test"):
        for path in (ROOT / folder).rglob("*.py"):
            parsed |= set(re.findall(r"""["'](--[a-z][a-z0-9-]*)["']""", path.read_text()))
    for page in PAGES:
        for rest in COMMAND.findall(page.read_text().replace("\\\n", " ")):
            for option in OPTION.findall(rest.split("#")[0]):
                # argparse makes --no-NAME itself.
                assert option in parsed or option.replace("--no-", "--") in parsed, f"{page.name}: {option}"


def test_every_launch_argument_of_a_page_is_one_of_the_launch_file() -> None:
    of_both_files = (ROOT / "ros_ood_perception" / "launching" / "launch_arguments.py").read_text()
    for page in PAGES:
        for file, rest in LAUNCH.findall(page.read_text()):
            source = (ROOT / "launch" / file).read_text() + of_both_files
            for argument in re.findall(r"([a-z_]+):=", rest):
                assert f'"{argument}"' in source, f"{page.name}: {file} has no argument {argument}"


def test_the_readme_leads_to_every_page() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in LINK.findall((ROOT / "README.md").read_text())}
    assert [str(page) for page in PAGES if page not in linked and page != ROOT / "README.md"] == []


def test_the_pictures_of_the_pages_are_valid_svg() -> None:
    for picture in (ROOT / "docs" / "images").glob("*.svg"):
        root = ElementTree.parse(picture).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg", picture
        assert root.get("viewBox"), picture
