"""What is wrong with a topology file, and where.

A file is judged whole: every problem is found before any is reported, each
with its place, so that one reading repairs the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from relaymesh.topology.source import Path

# Problems kept of one file. A file with more is not a topology with mistakes
# but something else, and nobody reads the rest.
MAX_PROBLEMS = 200

# `key:` with nothing after it is an edit that was not finished, not a wish for the default.
EMPTY_VALUE = "has no value"


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


def shown(value: object) -> str:
    """Write *value* as a short, printable word of an error message."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if value is None or isinstance(value, bool):
        return {None: "empty", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return ascii(value) if len(value) <= 64 else f"text of {len(value)} characters"
    return f"{value:g}" if isinstance(value, float) else str(value)


def path_text(path: Path) -> str:
    """Write the path ("links", 3, "between", 1) as `links[3].between[1]`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            word = step if step.isidentifier() and len(step) <= 64 else shown(step)
            text += f".{word}" if text else word
    return text
