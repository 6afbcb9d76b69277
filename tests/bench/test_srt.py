"""The comparison with SRT: what it runs, its arithmetic, what it prints; for real: tests/netsim/emulate."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.bench import srt, srt_report
from relaymesh.bench.srt_cells import (
    DEFAULT_CELLS,
    HIGHEST_LOSS,
    RELAYMESH,
    SRT,
    SRT_SHORT,
    BadCell,
    Cell,
    parse_cell,
    recommended_latency_ms,
)
from relaymesh.bench.srt_measure import Offer, Spent, SrtResult, checks, conclude, difference
from relaymesh.bench.srt_relay import header_bytes
from relaymesh.bench.srt_traffic import arrivals_of
from relaymesh.netsim.emulate.emulator import Counters

CELL = Cell(40.0, 0.05, 1.0)
OFFER = Offer(rate=1000, payload_bytes=1000, first=10, count=4)
NOTHING = Counters(0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("rtt_ms", "loss", "latency_ms"),
    [
        # SRT Deployment Guide: the RTT multipliers, and the least latencies for an RTT up to 20 ms.
        (100.0, 0.0, 300),
        (100.0, 0.01, 300),
        (100.0, 0.03, 400),
        (100.0, 0.05, 500),
        (100.0, 0.07, 500),
        (100.0, 0.1, 600),
        (20.0, 0.01, 60),
        (5.0, 0.01, 60),
        (5.0, 0.03, 80),
        (5.0, 0.07, 100),
        (5.0, 0.1, 120),
        (16.506, 0.0, 60),
        (33.4, 0.01, 101),
    ],
)
def test_the_recommended_latency(rtt_ms: float, loss: float, latency_ms: int) -> None:
    assert recommended_latency_ms(rtt_ms, loss) == latency_ms


def test_more_loss_than_anybody_recommends_for() -> None:
    with pytest.raises(ValueError, match="nothing"):
        recommended_latency_ms(40.0, 0.11)


@given(st.floats(1, 1000), st.floats(0, HIGHEST_LOSS), st.floats(0, HIGHEST_LOSS))
def test_more_loss_never_asks_for_less(rtt_ms: float, a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert 3 * rtt_ms <= recommended_latency_ms(rtt_ms, low) <= recommended_latency_ms(rtt_ms, high)


def test_cells_are_read_and_written_alike() -> None:
    assert parse_cell("80:5:1") == Cell(80.0, 0.05, 1.0)
    assert [parse_cell(str(cell)) for cell in DEFAULT_CELLS] == list(DEFAULT_CELLS)


@pytest.mark.parametrize(
    "text",
    ["", "80", "80:5", "80:5:1:1", "80:5:x", "0:5:1", "2000:5:1", "80:11:1", "80:-1:1", "80:5:0", "nan:5:1"],
)
def test_cells_that_cannot_be(text: str) -> None:
    with pytest.raises(BadCell):
        parse_cell(text)


@given(st.text(max_size=20))
def test_any_text_is_a_cell_or_a_bad_one(text: str) -> None:
    try:
        cell = parse_cell(text)
    except BadCell:
        return
    assert cell.conditions.delay_ms == cell.rtt_ms / 2


def test_losses_are_random_or_in_bursts() -> None:
    assert (CELL.conditions.loss, CELL.conditions.burst) == (0.05, None)
    burst = Cell(40.0, 0.05, 8.0).conditions.burst
    assert burst is not None
    assert burst.mean_loss == pytest.approx(0.05)
    assert burst.mean_burst == pytest.approx(8.0)
    assert Cell(40.0, 0.0, 8.0).conditions.burst is None


def test_both_systems_get_the_same_link() -> None:
    first, second = srt.Pair(CELL, 7).wires(), srt.Pair(CELL, 7).wires()
    assert first == second
    assert first[0].seed != first[1].seed
    assert first != srt.Pair(CELL, 8).wires()


def test_srt_is_told_its_latency_at_both_ends() -> None:
    for system, latency in ((SRT, "latency=200"), (SRT_SHORT, "latency=80")):
        near, far = srt.commands(system, CELL)
        assert near.program == far.program == (srt.PROGRAM,)
        assert near.arguments[1].endswith(latency)
        assert "mode=caller" in near.arguments[1]
        assert far.arguments[0].endswith(latency)
        assert "mode=listener" in far.arguments[0]


def test_our_ends_mirror_each_other_and_share_fresh_keys() -> None:
    near, far = srt.commands(RELAYMESH, CELL)
    assert near.arguments[:4] == (*far.arguments[1::-1], *far.arguments[3:1:-1])
    assert near.environment == far.environment
    assert near.environment != srt.commands(RELAYMESH, CELL)[0].environment
    assert not any(key in near.arguments for key in near.environment.values())


def test_header_bytes() -> None:
    # docs/protocol.md: short header, COMPACT to the end in its full form, tag
    assert header_bytes() == 6 + 10 + 16


def test_flat_triples_become_arrivals() -> None:
    assert arrivals_of([3.0, 1.0, 1.5, 4.0, 2.0, 2.5]) == [(3, 1.0, 1.5), (4, 2.0, 2.5)]


def test_what_passed_between_two_readings() -> None:
    assert difference(Counters(5, 50, 4, 3, 30, 1), Counters(2, 20, 2, 1, 10, 0)) == Counters(
        3, 30, 2, 2, 20, 1
    )
    assert difference(Counters(5, 50, 4, 3, 30, 1), None) == Counters(5, 50, 4, 3, 30, 1)
    assert difference(None, None) == NOTHING


def result_of(*came: tuple[int, float], **changes: float | str) -> SrtResult:
    """Of packets (index, delay in ms)."""
    forth, back = Counters(5, 5000, 4, 4, 4900, 1), Counters(2, 100, 2, 0, 0, 0)
    spent = Spent(forth, back, cpu_s=0.001, header_bytes=50)
    arrivals = [(index, 7.0, 7.0 + ms / 1e3) for index, ms in came]
    return conclude(CELL, RELAYMESH, OFFER, arrivals, spent, **changes)  # type: ignore[arg-type]


def test_the_arithmetic() -> None:
    # One-way delay 20 ms; 10 … 13 count, 12 never came, 13 came twice and the first time counts.
    result = result_of((9, 20.0), (10, 20.5), (11, 140.0), (13, 70.0), (13, 90.0), (14, 20.0))
    assert result.packets == 4
    assert (result.residual, result.duplicates) == (0.25, 1)
    assert result.late == 0.25  # 200 ms and 20 ms are recommended
    assert result.late_bound == 0.5  # 1.5 × 40 + 20, and 20 ms: 120 ms added is over it
    assert (result.p50_ms, result.p999_ms) == (50.0, 120.0)
    assert result.lost_on_wire == 0.25
    assert result.overhead == pytest.approx(5100 / 4000 - 1)
    assert result.overhead_repair == pytest.approx(5100 / 4000 - 1 - 0.05)
    assert result.cpu_us == pytest.approx(250.0)
    assert result.invalid == ""


def test_nothing_came() -> None:
    result = result_of()
    assert (result.residual, result.late, result.late_bound, result.p99_ms) == (1.0, 1.0, 1.0, 0.0)


def test_a_late_sender_makes_the_run_invalid() -> None:
    assert "sender" in result_of((10, 20.0), sender_late_ms=6.0).invalid
    assert result_of((10, 20.0), sender_late_ms=6.0, invalid="the emulator").invalid == "the emulator"


def pair(**ours: float) -> list[SrtResult]:
    theirs = replace(result_of(*((i, 220.0) for i in OFFER.counted)), system="srt", latency_ms=200)
    mine = replace(theirs, system="relaymesh", latency_ms=None, p99_ms=50.0, late=0.0, residual=0.0)
    return [theirs, replace(mine, **ours)]


def test_what_is_to_hold_can_fail() -> None:
    assert len(checks(pair())) == 3
    assert srt_report.passed(pair())
    for wrong in ({"p99_ms": 250.0}, {"residual": 0.01}, {"late": 0.01}):
        assert sum(not held for held in checks(pair(**wrong)).values()) == 1
        assert not srt_report.passed(pair(**wrong))
        assert "DOES NOT HOLD" in srt_report.verdict(pair(**wrong))
    theirs, ours = pair()
    assert not srt_report.passed([theirs, replace(ours, invalid="the emulator was late")])
    assert checks([theirs]) == {}


def test_json_says_what_held_and_what_is_invalid() -> None:
    theirs, ours = pair()
    said = json.loads(srt_report.to_json([theirs, replace(ours, invalid="late")], seconds=4, seed=1))
    assert said["passed"] is False
    assert [check["passed"] for check in said["checks"]] == [True, True, True, True, False]
    assert [result["system"] for result in said["metrics"]["results"]] == ["srt", "relaymesh"]


def test_the_table_lines_up_and_the_page_stands_alone() -> None:
    results = pair()
    head, units, *lines = srt_report.table(results).splitlines()
    assert len({len(head), len(units), *map(len, lines)}) == 1
    text = srt_report.page(results)
    assert text.count("<svg") == 5
    assert "<script" not in text
    assert text.count("http") == text.count('xmlns="http://www.w3.org/2000/svg"')
