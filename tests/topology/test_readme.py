"""Every example in topologies/README.md is run, and does what the page says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from relaymesh.cli.topology import command
from relaymesh.topology.schema import LinkEntry, TopologyFile

TOPOLOGIES = Path(__file__).parents[2] / "topologies"
README = (TOPOLOGIES / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)(?: title=(\S+))?\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[tuple[str, str]]:
    return [(title, text) for found, title, text in BLOCKS if found == language]


def commands() -> list[tuple[str, str]]:
    """(command line, what it prints) for every `$ …` of the console blocks."""
    found = []
    for _, text in blocks("console"):
        for example in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            line, _, output = example.partition("\n")
            found.append((line, output))
    return found


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(TOPOLOGIES, tmp_path / "topologies")
    for title, text in blocks("yaml"):
        (tmp_path / title).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def test_the_page_has_examples() -> None:
    assert len(blocks("yaml")) == 4 and len(blocks("python")) == 1 and len(commands()) == 7


@pytest.mark.parametrize(("line", "expected"), commands())
def test_commands_print_what_the_page_says(workplace: Path, line: str, expected: str) -> None:
    program, group, *arguments = line.split()
    assert (program, group) == ("relaymesh", "topology")
    result = CliRunner().invoke(command, arguments)
    printed = [text.rstrip() for text in result.output.splitlines()]
    assert printed == expected.splitlines()
    assert result.exit_code == (1 if "mistakes" in line else 0)


def test_python_examples_run(workplace: Path) -> None:
    for _, text in blocks("python"):
        exec(compile(text, "README.md", "exec"), {})


@pytest.mark.parametrize("model", [TopologyFile, LinkEntry])
def test_every_key_of_the_format_is_explained(model: type[TopologyFile]) -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE))
    assert set(model.model_fields) <= rows
