from __future__ import annotations

import random
from dataclasses import dataclass

from relaymesh.controller.load import LEVELS, RELEASE_S, LoadGauges

LINK = (0, 1)


@dataclass(frozen=True)
class Rates:
    """A link report, as far as load goes."""

    used_kbps: float
    available_kbps: float = 10_000.0
    shed_kbps: float = 0.0
    queue_ms: float = 20.0  # the lack of room shows
    peer: int = 1


def gauges(capacity_kbps: float = 0.0) -> LoadGauges:
    return LoadGauges(lambda direction: capacity_kbps)


def feed(load: LoadGauges, *reports: Rates, start: float = 0.0) -> int:
    """One report each second; how often the level changed."""
    return sum(
        len(load.handle_report(0, [report], start + second))  # type: ignore[list-item]
        for second, report in enumerate(reports)
    )


def test_a_full_link_costs_more_once_two_reports_agree() -> None:
    load = gauges()
    assert feed(load, Rates(9_900.0)) == 0
    assert load.load_ms(LINK) == 0.0
    assert feed(load, Rates(9_900.0)) == 1
    assert load.load_ms(LINK) == LEVELS[1][1]
    assert load.load_ms((1, 0)) == 0.0


def test_it_is_trusted_again_step_by_step_long_after_it_emptied() -> None:
    load = gauges()
    feed(load, *[Rates(20_000.0)] * 2)
    assert load.load_ms(LINK) == LEVELS[2][1]
    emptied = [Rates(0.0)] * int(RELEASE_S)
    assert feed(load, *emptied, start=10.0) == 0
    assert feed(load, Rates(0.0), start=10.0 + RELEASE_S) == 1
    assert load.load_ms(LINK) == LEVELS[1][1]
    assert feed(load, *[Rates(0.0)] * 70, start=11.0 + RELEASE_S) == 2
    assert load.load_ms(LINK) == 0.0 and load.debug_state() == {}


def test_noise_around_a_level_does_not_flap() -> None:
    load, rng = gauges(), random.Random(1)
    assert feed(load, *[Rates(rng.uniform(7_600, 9_400)) for _ in range(3600)]) == 1


def test_what_the_operator_says_is_a_limit_too_and_nothing_known_is_no_load() -> None:
    load = gauges(capacity_kbps=1_000.0)
    feed(load, *[Rates(900.0)] * 2)
    assert load.load_ms(LINK) == LEVELS[0][1]
    unknown = gauges()
    feed(unknown, *[Rates(1e9, available_kbps=0.0)] * 5)
    assert unknown.load_ms(LINK) == 0.0
    queue = gauges()
    feed(queue, *[Rates(1.0, queue_ms=200.0)] * 2)
    assert queue.load_ms(LINK) == LEVELS[2][1], "a standing queue says more than rates"
    load.forget(1)
    assert load.debug_state() == {}


def test_a_rate_that_is_a_guess_counts_only_where_the_lack_of_room_shows() -> None:
    """Delays that vary make a sender guess too low; nothing waits and nothing is left out."""
    load = gauges()
    assert feed(load, *[Rates(120.0, available_kbps=128.0, queue_ms=2.0)] * 60) == 0
    assert load.load_ms(LINK) == 0.0
    told = gauges(capacity_kbps=128.0)  # what the operator says is no guess
    assert feed(told, *[Rates(120.0, queue_ms=2.0)] * 2) == 1


def test_what_is_left_out_for_want_of_room_counts() -> None:
    load = gauges()
    feed(load, *[Rates(9_000.0, shed_kbps=3_000.0)] * 2)
    assert load.load_ms(LINK) == LEVELS[2][1]
