"""The report of a campaign: a line for each round, a table and JSON at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmark.faults.verdict.checks import Problem, ProblemKind

TITLES: dict[ProblemKind, str] = {
    "inexact": "sums inexact",
    "wrong": "wrong masks",
    "not_recovered": "not recovered",
    "died": "died",
    "parameters": "wrong answers",
    "memory": "memory",
}


@dataclass(frozen=True)
class RoundResult:
    """One round.

    Attributes:
        faults: names and drawn options.
        recovery_s: camera to seconds from the end of the fault to its first right result.
        ends: process to its exit codes in this round.
        logs: folder of the kept logs, if there was a problem.
    """

    number: int
    title: str
    faults: list[dict[str, Any]]
    seconds: float
    recovery_s: dict[str, float]
    problems: list[Problem]
    ends: dict[str, list[int]] = field(default_factory=dict)
    logs: str | None = None

    def line(self, rounds: int) -> str:
        """The line that is printed after the round."""
        recovery = ", ".join(f"{camera} {seconds:.2f} s" for camera, seconds in self.recovery_s.items())
        text = f"{self.number}/{rounds} {self.title}: recovered in {recovery or '-'}; {self.seconds:.1f} s"
        return "\n".join([text, *(f"    {problem.kind}: {problem.text}" for problem in self.problems)])


def summary(options: dict[str, Any], results: Sequence[RoundResult], checked: dict[str, int]) -> dict[str, Any]:
    """All figures, for JSON."""
    recovery = [seconds for result in results for seconds in result.recovery_s.values()]
    kinds = get_args(ProblemKind)
    return {
        **options,
        "rounds_done": len(results),
        **{kind: sum(problem.kind == kind for r in results for problem in r.problems) for kind in kinds},
        **{f"recovery_s_p{percent}": _percentile(recovery, percent) for percent in (50, 99, 100)},
        "checked": checked,
        "by_fault": _by_fault(results),
        "results": [{**asdict(result), "problems": [asdict(p) for p in result.problems]} for result in results],
    }


def _percentile(values: Sequence[float], percent: float) -> float | None:
    return round(float(np.percentile(values, percent)), 3) if values else None


def _by_fault(results: Sequence[RoundResult]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    # A round of two faults has its own row: the recovery cannot be attributed to one of them.
    titles = sorted({_row(result) for result in results})
    for title in titles:
        of_title = [result for result in results if _row(result) == title]
        recovery = [seconds for result in of_title for seconds in result.recovery_s.values()]
        found[title] = {
            "rounds": len(of_title),
            **{kind: sum(p.kind == kind for r in of_title for p in r.problems) for kind in get_args(ProblemKind)},
            "recovery_s_p50": _percentile(recovery, 50),
            "recovery_s_p99": _percentile(recovery, 99),
        }
    return found


def _row(result: RoundResult) -> str:
    return result.title if len(result.faults) == 1 else "two at once"


def print_table(console: Console, found: dict[str, Any]) -> None:
    """The table at the end."""
    table = Table("fault", "rounds", *TITLES.values(), "p50, s", "p99, s")
    rows = {**found["by_fault"], "all": {**found, "rounds": found["rounds_done"]}}
    for title, row in rows.items():
        numbers = [row["rounds"], *(row[kind] for kind in TITLES), row["recovery_s_p50"], row["recovery_s_p99"]]
        table.add_row(title, *("-" if number is None else str(number) for number in numbers))
    console.print(table)
    checked = found["checked"]
    console.print(
        f"{checked['results']} results compared with the replay, {checked['consumed']} messages of the consumer and "
        f"{checked['recorded']} of the recordings looked at; {checked['sums']} sums; growth held against the cameras' "
        f"own numbers {checked['exact']} times exactly, {checked['bounded']} times within bounds"
    )
