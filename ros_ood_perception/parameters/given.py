"""Values that somebody gives for the node's parameters: each with its source, checked against its declaration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ros_ood_perception.parameters.declarations import DECLARATIONS
from ros_ood_perception.parameters.rcl_yaml import Section, Value, read_sections
from ros_ood_perception.parameters.values import (
    ParameterError,
    is_of_every_node,
    range_problem,
    type_problem,
    unknown_name,
)
from ros_ood_perception.shown_text import nearest, printable

MOST_NAMED = 5
"""Problems, or sections, in one message."""
_DECLARED = {declaration.name: declaration for declaration in DECLARATIONS}


@dataclass(frozen=True)
class Given:
    """One value that somebody gave.

    Attributes:
        source: the file or the option, for errors.
    """

    source: str
    name: str
    value: Value

    @property
    def problem(self) -> str:
        """Why the node cannot have it; empty where it can. A parameter that ROS 2 declares is not checked."""
        if is_of_every_node(self.name):
            return ""
        if self.name not in _DECLARED:
            return f"{self.source}: {unknown_name(self.name)}"
        declaration = _DECLARED[self.name]
        why = type_problem(declaration, self.value) or range_problem(declaration, self.value)
        return f"{self.source}: {why}" if why else ""


def given_in_file(file: Path, node_name: str) -> list[Given]:
    """What a parameter file gives a node, in the order of the file.

    Raises:
        ParameterError: no section of the file applies to the node.
        OSError, SchemaError: the file cannot be read, see `rcl_yaml`.
    """
    sections = read_sections(file)
    matching = [section for section in sections if section.matches(node_name)]
    if not matching:
        raise ParameterError(f"{file}: {_no_section(sections, node_name)}")
    return [Given(str(file), name, value) for section in matching for name, value in section.values.items()]


def check_given(given: Iterable[Given]) -> None:
    """Check every value.

    Raises:
        ParameterError: the node cannot have some of them. The message names the first `MOST_NAMED`.
    """
    problems = [problem for problem in dict.fromkeys(g.problem for g in given) if problem]
    if problems:
        more = [f"and {len(problems) - MOST_NAMED} more"] if len(problems) > MOST_NAMED else []
        raise ParameterError("; ".join([*problems[:MOST_NAMED], *more]))


def _no_section(sections: Sequence[Section], node_name: str) -> str:
    names = [section.name for section in sections]
    if not names:
        return f"it has no parameters of {node_name}; it must contain /**: ros__parameters:"
    shown_names = ", ".join(printable(name, 100) for name in names[:MOST_NAMED])
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return (
        f"it has no parameters of {node_name}, only of {shown_names}{more}{nearest(node_name, names)}; rename the "
        f"section to {node_name} or /**"
    )
