"""What is wrong with a topology file, and where.

A file is judged whole: every problem is found before any is reported, each
with its place, so that one reading repairs the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Problems kept of one file. A file with more is not a topology with mistakes
# but something else, and nobody reads the rest.
MAX_PROBLEMS = 200


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a topology file, as a compiler would say it."""

    source: str  # the file's name
    line: int  # from 1
    column: int  # from 1
    path: str  # "links[3].between[1]"; empty for the file as a whole
    message: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        path = f"{self.path}: " if self.path else ""
        return f"{self.source}:{self.line}:{self.column}: {self.severity}: {path}{self.message}"


class TopologyError(Exception):
    """The file is no topology. ``problems`` holds every reason, in the file's order."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems
