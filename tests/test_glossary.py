"""docs/glossary.md: every word once, none missing, and every module that it names is there."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([^|]+) \| ([^|]+) \| (`[^|]+`) \|$", PAGE, re.MULTILINE)
WORDS = [word.strip() for terms, _, _ in ROWS for word in terms.split(",")]
# DESIGN's words, those of ADR 0019, and the project's own.
REQUIRED = (
    *(
        "room",
        "participant",
        "session",
        "publisher",
        "subscriber",
        "track",
        "encoding",
        "layer",
        "publication",
    ),
    *("demand", "ingress", "egress", "upstream", "downstream", "node", "site", "region", "link", "adjacency"),
    *("neighbour", "LSDB", "cost", "path", "hop", "detour", "plan", "generation", "probe", "echo"),
    *("retransmission", "ripples", "reign", "seat", "remembered", "presence", "settling", "parts", "fates"),
    *("conduct", "usurper", "crowd", "told"),
)


def test_every_row_is_read() -> None:
    lines = [line for line in PAGE.splitlines() if line.startswith("|")]
    headings = [line for line in lines if line.startswith(("| word", "|---"))]
    assert len(lines) - len(headings) == len(ROWS) > 40


@pytest.mark.parametrize(
    "module", sorted({name for _, _, cell in ROWS for name in re.findall("`([^`]+)`", cell)})
)
def test_a_module_that_is_named_exists(module: str) -> None:
    assert (ROOT / "relaymesh" / module).is_file()


def test_every_word_stands_there_once() -> None:
    assert [word for word, count in Counter(WORDS).items() if count > 1] == []
    assert [word for word in REQUIRED if word not in WORDS] == []


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_it_is_linked(page: str) -> None:
    link = "docs/glossary.md" if page == "README.md" else "glossary.md"
    assert f"]({link})" in (ROOT / page).read_text(encoding="utf-8")
