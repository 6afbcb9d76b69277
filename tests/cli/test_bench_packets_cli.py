"""The commands of the packet benchmarks: what they refuse, and `simulate`, which needs no quiet machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relaymesh.cli.bench_packets import repeated
from relaymesh.cli.main import main

ROOT = Path(__file__).parent.parent.parent
SMALL = f"""
version: 1
name: small
topology: {ROOT}/topologies/square.yaml
duration_s: 3
warmup_s: 2
traffic:
  rooms:
    - name: room
      participants:
        - {{name: alice, at: a, publish: [audio], play: none}}
        - {{name: bob, at: c}}
"""


def bench(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


@pytest.mark.parametrize("name", ["edge", "hop", "idle", "join", "simulate"])
def test_each_is_there(name: str) -> None:
    done = bench(name, "--help")
    assert done.exit_code == 0
    assert "--json" in done.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("edge", "--row", "quick"),
        ("edge", "--players", "0"),
        ("edge", "--profile", "des"),
        ("edge", "--saturate", "--row", "400"),
        ("edge", "--saturate", "--janus"),
        ("hop", "--row", "8b16"),
        ("simulate", "--seconds", "1"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_starts(arguments: tuple[str, ...]) -> None:
    assert bench(*arguments).exit_code == 2


def test_a_scenario_is_simulated(tmp_path: Path) -> None:
    scenario, summary = tmp_path / "small.yaml", tmp_path / "summary.md"
    scenario.write_text(SMALL)
    done = bench("simulate", "--scenario", scenario, "--rounds", "1", "--json", "--summary", summary)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    (cost,) = told["metrics"]["scenarios"]
    assert (cost["scenario"], cost["seed"]) == ("small", 1)
    assert cost["cpu_s"] > 0
    assert "| small, seed 1 |" in summary.read_text()


def test_a_scenario_that_is_none_is_told(tmp_path: Path) -> None:
    scenario = tmp_path / "bad.yaml"
    scenario.write_text("version: 1\nname: bad\n")
    done = bench("simulate", "--scenario", scenario)
    assert done.exit_code == 2
    assert "bad.yaml" in done.output


def test_the_command_that_repeats_a_run_leaves_out_where_results_go() -> None:
    told = ["bench", "edge", "--json", "--players", "2", "--page", "x.html", "--summary=y.md", "--row", "100"]
    assert repeated(told) == "relaymesh bench edge --players 2 --row 100"
