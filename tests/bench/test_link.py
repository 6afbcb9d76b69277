import math
from dataclasses import replace

import pytest

from relaymesh.bench import link, link_page, report
from relaymesh.bench.link import Cell, Result, run
from relaymesh.bench.link_checks import checks
from relaymesh.bench.pool import run_cells


def without_cpu(result: Result) -> dict[str, object]:
    return {name: getattr(result, name) for name in Result.__slots__ if name != "cpu_us"}


def test_on_a_clean_link_every_policy_costs_nothing() -> None:
    for policy in link.POLICY_NAMES:
        result = run(Cell(40.0, 0.0, 1, policy, 2.0))
        assert (result.residual, result.overhead, result.p999_ms, result.duplicates) == (0.0, 0.0, 0.0, 0)
        assert 0 < result.ack_overhead < 0.01


def test_the_same_seed_gives_the_same_result() -> None:
    cell = Cell(40.0, 0.05, 3, "adaptive", 2.0, seed=5)
    assert without_cpu(run(cell)) == without_cpu(run(cell))
    assert without_cpu(run(Cell(40.0, 0.05, 3, "adaptive", 2.0, seed=6))) != without_cpu(run(cell))


def test_adaptive_meets_its_bounds_in_short() -> None:
    for rtt, burst, residual in ((40.0, 1, 2e-4), (160.0, 1, 4e-4), (40.0, 8, 2e-3), (300.0, 8, 4e-3)):
        result = run(Cell(rtt, 0.05, burst, "adaptive", 10.0))
        assert result.residual <= residual  # 10,000 packets: the bounds themselves need more
        assert result.p99_ms <= result.bound_ms
        assert result.overhead <= 2 * 0.05 + 0.02
        assert result.duplicates == 0


def test_nothing_repaired_is_what_was_lost() -> None:
    result = run(Cell(40.0, 0.05, 1, "none", 10.0))
    assert abs(result.residual - 0.05) < 0.01
    assert result.overhead == 0.0


def test_percentiles() -> None:
    assert link.percentile([], 0.5) == 0.0
    assert link.percentile([1.0, 2.0, 3.0], 0.5) == 2.0
    assert link.percentile([1.0, 2.0, 3.0], 0.999) == 3.0


def test_the_grid_is_whole() -> None:
    cells = link.grid()
    assert len(cells) == len(set(cells)) == 5 * (1 + 5 * 3) * 4
    assert {cell.seconds for cell in link.grid(quick=True)} == {3.0}


def test_the_page_stands_alone() -> None:
    results = [run(Cell(40.0, loss, burst, "adaptive", 1.0)) for loss in (0.0, 0.05) for burst in (1, 8)]
    text = link_page.page(results, checks(results))
    assert text.count("<svg") == 1 + 3 * 2  # the legend's, and for each metric random and bursts
    assert "<script" not in text
    assert text.count("http") == text.count('xmlns="http://www.w3.org/2000/svg"')
    assert len(report.table(results).splitlines()) == 2 + len(results)


GOOD = Result(
    rtt_ms=40.0, loss=0.05, burst=1, policy="adaptive", packets=20_000, lost_on_wire=0.05, residual=1e-4,
    residual_audio=0.0, residual_in_time=0.01, p50_ms=0.0, p99_ms=80.0, p999_ms=100.0, p99_audio_ms=50.0,
    overhead=0.12, ack_overhead=0.03, cpu_us=40.0, duplicates=0,
)  # fmt: skip
CLEAN = replace(GOOD, loss=0.0, residual=0.0, p99_ms=0.0, p999_ms=0.0, overhead=0.0)


def failed(*results: Result) -> list[str]:
    return [check.name for check in checks(results) if not check.passed]


def test_what_just_holds() -> None:
    assert failed(GOOD, replace(GOOD, burst=8, residual=1e-3), CLEAN) == []
    assert len(checks([GOOD])) == 4


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (replace(GOOD, residual=1.1e-4), "residual"),
        (replace(GOOD, burst=8, residual=1.1e-3), "residual"),
        (replace(GOOD, p99_ms=80.1), "p99 added delay"),
        (replace(GOOD, overhead=0.121), "overhead"),
        (replace(GOOD, loss=0.01, overhead=0.041), "overhead"),
        (replace(GOOD, duplicates=1), "twice"),
        (replace(CLEAN, overhead=1e-6), "overhead"),
        (replace(CLEAN, p999_ms=0.1), "added delay"),
        (replace(CLEAN, residual=5e-5), "residual"),
    ],
)
def test_each_bound_can_fail(bad: Result, what: str) -> None:
    (name,) = failed(bad)
    assert what in name
    assert name in report.verdict(checks([bad]))


def test_nobody_promised_that() -> None:
    assert checks([replace(GOOD, policy="arq")]) == []
    assert failed(replace(GOOD, loss=0.1, residual=0.01, p99_ms=500.0, overhead=0.5)) == []
    assert failed(replace(GOOD, burst=3, residual=0.01)) == []


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_order(processes: int) -> None:
    assert list(run_cells(math.factorial, [5, 1, 4], processes)) == [120, 1, 24]
