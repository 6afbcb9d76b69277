"""The packet benchmarks for real, in short: processes on loopback, real clients, counters that make sense."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from relaymesh.bench.janus import has_janus

pytestmark = pytest.mark.processes


def bench(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "relaymesh", "bench", *arguments, "--json"],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr  # 1: on a busy machine not all arrived
    told: dict[str, Any] = json.loads(done.stdout)["metrics"]
    return told


@pytest.mark.parametrize(
    ("profile", "feedback", "janus"), [("gcm", "none", has_janus()), ("cm", "twcc", False)]
)
def test_an_edge_beside_the_floor_and_janus_where_it_is(
    tmp_path: Path, profile: str, feedback: str, janus: bool
) -> None:
    page = tmp_path / "edge.html"
    options = ["--players", "2", "--row", "100", "--rounds", "1", "--seconds", "1", "--page", str(page)]
    if janus:
        options.append("--janus")
    (row,) = bench("edge", *options, "--profile", profile, "--feedback", feedback)["rows"]
    assert row["arrived"] == pytest.approx(1.0, abs=0.05)
    assert row["floor_arrived"] == pytest.approx(1.0, abs=0.05)
    assert row["cost_us"] > 0
    assert row["floor_us"] > 0
    if janus:
        assert row["janus_arrived"] == pytest.approx(1.0, abs=0.05)
        assert row["janus_us"] > 0
    assert row["verified"], row["note"]
    assert "<svg" in page.read_text()


def test_a_hop() -> None:
    (row,) = bench("hop", "--row", "100", "--rounds", "1", "--seconds", "1")["rows"]
    assert row["arrived"] == pytest.approx(1.0, abs=0.05)
    assert row["cost_us"] > 0


def test_joins_and_what_is_idle() -> None:
    (join,) = bench("join", "--joins", "2", "--seconds", "0.5")["join"]
    assert join["joins"] == 2
    assert 0 < join["join_ms"] < join["took_ms"] * 2  # of CPU, of two cores' time
    (idle,) = bench("idle", "--links", "1", "--sessions", "2", "--rounds", "1", "--seconds", "0.5")["idle"]
    assert idle["node_ms"] > 0
    assert idle["node_mb"] > 10
    assert idle["still"] == 2
