"""The settings for what happens when an engine fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

AfterFailures = Literal["fallback", "inactive", "retry"]


@dataclass(frozen=True)
class FailurePolicy:
    """What to do when an engine fails.

    Attributes:
        max_failures: consecutive failures, without a good run between them, before `after_failures` applies.
        after_failures: `fallback` takes the next engine and gives up after the last one; `inactive` gives up; `retry`
            keeps trying.
        first_retry_s: pause before the engine is opened again, seconds. Each further failure doubles it.
        longest_retry_s: the longest pause, seconds.
    """

    max_failures: int = 3
    after_failures: AfterFailures = "fallback"
    first_retry_s: float = 1.0
    longest_retry_s: float = 30.0
