"""docs/conformance.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROWS = [
    line
    for line in (TESTS.parent / "docs" / "conformance.md").read_text().splitlines()
    if line.startswith("| ") and "---" not in line
]


def named(row: str) -> list[tuple[str, str]]:
    """(file, test) of each reference in a row; ``…`` stands for the file before it."""
    found = []
    file = ""
    for path, test in re.findall(r"`([\w/]+\.py|…)::(\w+)`", row):
        file = file if path == "…" else path
        found.append((file, test))
    return found


@pytest.mark.parametrize("row", [row for row in ROWS if "::" in row])
def test_each_test_that_is_named_exists(row: str) -> None:
    references = named(row)
    assert len(references) == row.count("::")
    for file, test in references:
        assert re.search(rf"(?m)^(async )?def {test}\(", (TESTS / file).read_text()), f"{file}::{test}"


def test_what_names_no_test_says_so() -> None:
    bare = [row for row in ROWS if "::" not in row and not row.startswith(("| § ", "| section ", "| # "))]
    assert bare
    assert all(row.rstrip().endswith("| — |") for row in bare), bare
