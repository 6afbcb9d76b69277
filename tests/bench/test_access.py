from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import replace

import pytest
from click.testing import CliRunner

from relaymesh.bench import access, access_remb, access_report
from relaymesh.bench.access import AIORTC, OURS, Cell, Cut, Result, cut, grid, run
from relaymesh.bench.access_path import Path
from relaymesh.cli.main import main
from relaymesh.netsim.link_model import LinkConditions, LinkModel
from relaymesh.webrtc.bwe.pacer import Kind

GOOD = Result(Cell(2.0, 50.0, 0.0, "none", OURS), 0.93, 15.0, 35.0, 1.0, (0.95, 0.95), 1.0, 0.95, 40.0)


@pytest.fixture(scope="module")
def small() -> Result:
    return run(Cell(0.5, 50.0, 0.0, "none", OURS))


def test_a_cell_tells_of_one_flow_and_of_two(small: Result) -> None:
    assert 0.85 <= small.used <= 1.0
    assert 0.0 < small.queue_p50_ms <= small.queue_p95_ms <= access.QUEUE_MS
    assert small.settled_s is not None
    assert small.settled_s <= 5.0
    assert small.shared_used == pytest.approx(sum(small.shares_mbps) / 0.5, abs=0.01)
    assert 0.5 <= small.jain <= 1.0


def test_the_same_seed_gives_the_same_result(small: Result) -> None:
    assert run(small.cell) == small


def test_a_cut_is_followed_and_forgotten() -> None:
    found = cut((50.0, 1, OURS))
    assert found.down_s is not None
    assert found.down_s <= access_report.DOWN_S
    assert 0.8 <= found.used_narrow <= 1.0
    assert found.back_s is not None


def test_others_take_what_they_are_said_to_take() -> None:
    model = LinkModel(LinkConditions(rate_bps=1e6), random.Random(1))
    path = Path(model)
    path.cross_traffic(480e3, 0.0, 39.0, 4.0, 4.0)  # 50 packets a second for 20 s of 39
    path.advance(3.99)
    assert model.delivered == 200
    path.advance(7.99)
    assert model.delivered == 200
    path.advance(60.0)
    assert model.delivered == pytest.approx(1000, abs=5)  # one more where a burst begins, by rounding


def test_what_others_leave() -> None:
    assert Cell(2.0, 50.0, 0.05, "none", OURS).left_mbps == pytest.approx(1.9)
    assert Cell(2.0, 50.0, 0.0, "steady", OURS).left_mbps == pytest.approx(1.2)
    assert Cell(2.0, 50.0, 0.0, "bursts", OURS).left_mbps == pytest.approx(1.5)


def test_the_grid_is_whole() -> None:
    cells = grid(quick=False, estimators=(OURS, AIORTC))
    assert len(set(cells)) == len(cells) == 3 * 4 * 2 * 3 * 2
    assert set(grid(quick=True, estimators=(OURS,))) < set(cells)


def test_the_receivers_estimator_leads_without_probes() -> None:
    on = access._path(cell := Cell(0.5, 50.0, 0.0, "none", AIORTC))
    flow = access._flow(on, cell, 0)
    on.advance(20.0)
    assert isinstance(flow, access_remb.RembFlow)
    assert {kind for _, _, kind in flow.seen.delays_ms} == {Kind.AUDIO, Kind.VIDEO}
    assert flow.rembs >= 20
    rates = [bps for at, bps in flow.estimates if at >= 10.0]
    assert 0.3e6 <= min(rates) < max(rates) <= 0.6e6


def test_aiortc_is_not_loaded_before_it_is_asked() -> None:
    program = "import sys, relaymesh.cli.bench, relaymesh.bench.access; sys.exit('aiortc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    "worse",
    [
        {"used": 0.8},
        {"queue_p95_ms": 61.0},
        {"jain": 0.89},
        {"shared_queue_p95_ms": 61.0},
    ],
    ids=lambda worse: next(iter(worse)),
)
def test_the_checks_can_fail(worse: dict[str, float]) -> None:
    assert [check.passed for check in access_report.checks([GOOD], [])] == [True] * 4
    found = access_report.checks([replace(GOOD, **worse)], [])  # type: ignore[arg-type]
    assert [check.passed for check in found].count(False) == 1
    assert "DOES NOT HOLD" in access_report.verdict(found)


def test_a_cut_that_is_not_followed_fails() -> None:
    kept = Cut(50.0, 1, OURS, None, 0.9, None)
    assert [check.passed for check in access_report.checks([], [kept])] == [False]
    assert "never" in access_report.cut_table([kept])
    assert access_report.checks([], [replace(kept, estimator=AIORTC)]) == [], "others are shown, not judged"


def test_the_quick_command() -> None:
    done = CliRunner().invoke(main, ["bench", "access", "--quick", "--processes", "1", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["passed"] is True
    assert {r["cell"]["estimator"] for r in told["metrics"]["grid"]} == {OURS, AIORTC}
    assert {r["cell"]["cross"] for r in told["metrics"]["grid"]} == {"none", "bursts"}
    assert {c["estimator"] for c in told["metrics"]["cuts"]} == {OURS, AIORTC}


def test_without_aiortc_ours_is_measured_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_remb, "find_spec", lambda name: None)
    command = ["bench", "access", "--quick", "--cross", "none", "--cuts", "0", "--processes", "1"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "aiortc is not installed" in done.stderr
    assert AIORTC not in done.stdout
    assert OURS in done.stdout


def test_a_grid_without_cells_is_refused() -> None:
    done = CliRunner().invoke(main, ["bench", "access", "--rate", "17"])
    assert done.exit_code == 2
    assert "no cell is left" in done.stderr
