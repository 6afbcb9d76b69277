"""``relaymesh simulate``: exit codes, JSON, replay lines, seeds, comparisons."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relaymesh.cli.main import main

ROOT = Path(__file__).parent.parent.parent
SMALL = f"""
version: 1
name: small
topology: {ROOT}/topologies/square.yaml
duration_s: 4
warmup_s: 2
traffic:
  rooms:
    - name: room
      participants:
        - {{name: alice, at: a, publish: [audio], play: none}}
        - {{name: bob, at: c}}
expect:
  - {{metric: streams_played, equals: 1}}
"""


def simulate(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["simulate", *map(str, arguments)])


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def test_a_run_that_holds(small: Path) -> None:
    result = simulate(small)
    assert result.exit_code == 0
    assert "small  seed 1  passed" in result.stdout
    assert "ok    streams_played 1" in result.stdout
    assert result.stderr == ""


def test_json_is_one_result(small: Path) -> None:
    result = simulate(small, "--json", "--seed", "7")
    found = json.loads(result.stdout)
    assert found["seed"] == 7
    assert found["passed"] is True
    assert len(found["metrics"]["trace_sha256"]) == 64


def test_a_folder_seeds_and_a_comparison_are_many_results(small: Path) -> None:
    result = simulate(
        small.parent,
        "--seeds", "3..4", "--compare", "settings.dead_after_ms=400,800", "--jobs", "1", "--json",
    )  # fmt: skip
    found = json.loads(result.stdout)
    assert [(one["overrides"]["settings.dead_after_ms"], one["seed"]) for one in found] == [
        ("400", 3),
        ("400", 4),
        ("800", 3),
        ("800", 4),
    ]


def test_a_failing_seed_is_told_with_the_command_that_repeats_it(small: Path) -> None:
    small.write_text(SMALL + "  - {metric: sent_packets, max: 0}\n")
    first = simulate(small, "--seed", "9", "--set", "duration_s=3")
    assert first.exit_code == 1
    line = first.stderr.strip()
    assert line == (f"failed; to repeat it: relaymesh simulate {small} --seed 9 --set duration_s=3")
    again = CliRunner().invoke(main, shlex.split(line.partition(": ")[2])[1:])
    assert again.exit_code == 1
    assert again.stdout == first.stdout


def test_known_failures_are_good_unless_strict(small: Path) -> None:
    known = "  - {metric: sent_packets, max: 0}\nexpected_fail: {reason: not yet}\n"
    small.write_text(SMALL + known)
    assert simulate(small).exit_code == 0
    assert "expected-fail" in simulate(small).stdout
    assert simulate(small, "--strict").exit_code == 1


def test_a_wrong_scenario_is_told_before_anything_runs(small: Path) -> None:
    small.write_text(SMALL.replace("at: c", "at: mars").replace("duration_s: 4", "duration_s: -4"))
    result = simulate(small)
    assert result.exit_code == 2
    assert "duration_s" in result.stderr
    assert "mars" in result.stderr
    assert f"{small}:" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--seeds", "4"),
        ("--seeds", "5..4"),
        ("--seeds", "1..999999999"),
        ("--seed", "1", "--seeds", "1..2"),
        ("--set", "nothing"),
        ("--compare", "key=one"),
    ],
)
def test_options_that_make_no_sense_are_refused(small: Path, arguments: tuple[str, ...]) -> None:
    assert simulate(small, *arguments).exit_code == 2


def test_a_folder_without_scenarios_is_refused(tmp_path: Path) -> None:
    assert simulate(tmp_path).exit_code == 2


def test_a_report_is_written(small: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    result = simulate(small, "--report", page)
    assert result.exit_code == 0
    assert "small" in page.read_text()
