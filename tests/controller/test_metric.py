from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.controller.lsdb import LinkState
from relaymesh.controller.metric import HOP_MS, CostBook, cost_of
from relaymesh.controller.steps import (
    BETTER_CONFIRM_S,
    CLEAR_CONFIRM_S,
    CONFIRM_S,
    IMPRESSION_S,
    JITTER_CONFIRM_S,
    MAX_BETTER_CONFIRM_S,
    RISE_MEMORY_S,
)

LINK = (0, 1)


def state(rtt_ms: float, *, jitter_ms: float = 0.0, loss: float = 0.0, up: bool = True) -> LinkState:
    return LinkState(up, rtt_ms, jitter_ms, loss)


def book(extra_ms: float = 0.0) -> CostBook:
    return CostBook(lambda direction: extra_ms)


def test_each_term_says_what_it_is_for() -> None:
    terms = cost_of(state(80.0, jitter_ms=5.0, loss=0.05), 7.0)
    assert (terms.latency_ms, terms.jitter_ms, terms.extra_ms) == (40.0, 2.5, 7.0)
    assert terms.loss_ms == pytest.approx(21.05, abs=0.01)
    assert terms.total_ms == pytest.approx(40 + 2.5 + 7 + 21.05 + HOP_MS, abs=0.01)


@given(st.floats(0, 60_000), st.floats(0, 60_000), st.floats(0, 1), st.floats(0, 1e6))
def test_whatever_is_reported_the_cost_is_positive_and_finite(
    rtt_ms: float, jitter_ms: float, loss: float, extra_ms: float
) -> None:
    total = cost_of(state(rtt_ms, jitter_ms=jitter_ms, loss=loss), extra_ms).total_ms
    assert HOP_MS <= total < 2e6


def known(first: LinkState) -> CostBook:
    """The link is up for so long that what is known of it is no first impression."""
    costs = book()
    costs.update(LINK, first, -IMPRESSION_S)
    costs.handle_timeout(0.0)
    return costs


def feed(costs: CostBook, measurements: Iterable[LinkState], *, start: float = 0.0) -> list[int]:
    """One measurement each second; the seconds in which the planned cost moved."""
    moved = []
    for second, measured in enumerate(measurements):
        now = start + second
        changed = costs.handle_timeout(now)
        if costs.update(LINK, measured, now) or changed:
            moved.append(second)
    return moved


def test_twenty_percent_noise_around_a_measurement_never_moves_the_plan() -> None:
    rng = random.Random(7)
    noisy = [state(20.0 * rng.uniform(0.8, 1.2)) for _ in range(3600)]
    assert feed(known(state(20.0)), noisy) == []


def test_a_step_moves_the_plan_once_it_lasts() -> None:
    costs = book()
    assert feed(costs, [state(80.0), state(92.0), state(94.0), state(93.0), state(93.0)]) == [0, 4]
    assert costs.planned_ms(LINK) == pytest.approx(46 + HOP_MS), "by the least of what was measured"
    terms = costs.terms(LINK)
    assert terms is not None
    assert terms.latency_ms == 46.5


@pytest.mark.parametrize("worse", [state(240.0), state(80.0, loss=0.05), state(80.0, loss=0.013)])
def test_a_clear_step_needs_no_second_report(worse: LinkState) -> None:
    costs = known(state(80.0))
    costs.update(LINK, worse, 10.0)
    assert costs.next_timeout() == 10.0 + CLEAR_CONFIRM_S
    assert not costs.handle_timeout(10.0)
    assert costs.handle_timeout(10.0 + CLEAR_CONFIRM_S)
    assert costs.planned_ms(LINK) == cost_of(worse, 0.0).total_ms


@pytest.mark.parametrize("loss", [0.03, 0.3])
def test_loss_of_a_new_link_needs_three_reports(loss: float) -> None:
    """Its first late packets may have been told as lost."""
    costs = book()
    for second, told in enumerate((0.0, 0.0, loss, 0.0, 0.0, 0.0)):
        costs.update(LINK, state(80.0, loss=told), float(second))
        assert not costs.handle_timeout(second + 0.9)
    assert costs.planned_ms(LINK) == 40 + HOP_MS
    lossy = book()
    taken = feed(lossy, [state(80.0), *[state(80.0, loss=loss)] * 3])
    assert taken == [0] and lossy.handle_timeout(1.0 + CONFIRM_S) == [LINK]


def test_a_clear_step_that_is_taken_back_at_once_is_none() -> None:
    costs = known(state(80.0))
    costs.update(LINK, state(240.0), 10.0)
    costs.update(LINK, state(80.0), 10.0 + CLEAR_CONFIRM_S / 2)
    assert costs.next_timeout() is None
    assert costs.planned_ms(LINK) == 40 + HOP_MS


def test_jitter_alone_makes_no_step_clear() -> None:
    costs = known(state(10.0))
    costs.update(LINK, state(10.0, jitter_ms=50.0), 10.0)
    assert costs.next_timeout() == 10.0 + JITTER_CONFIRM_S


def test_what_the_operator_adds_counts_with_the_next_report_at_the_latest() -> None:
    extra = [0.0]
    costs = CostBook(lambda link: extra[0])
    feed(costs, [state(80.0)] * 10)
    extra[0] = 30.0
    costs.update(LINK, state(80.0), 10.0)
    assert costs.planned_ms(LINK) == 40 + 30 + HOP_MS, "a decision waits for no second report"
    costs.handle_policy([LINK])
    assert costs.planned_ms(LINK) == 40 + 30 + HOP_MS, "and is taken once"
    extra[0] = 0.0
    costs.handle_policy([LINK, (8, 9)])
    assert costs.planned_ms(LINK) == 40 + HOP_MS


def test_a_step_is_taken_in_even_if_nothing_new_is_measured() -> None:
    costs = known(state(20.0))
    costs.update(LINK, state(30.0), 10.0)
    assert costs.next_timeout() == 10.0 + CONFIRM_S
    assert not costs.handle_timeout(12.0)
    assert costs.handle_timeout(10.0 + CONFIRM_S)
    assert costs.planned_ms(LINK) == pytest.approx(15 + HOP_MS)
    assert costs.next_timeout() is None


def test_good_news_waits_the_longer_the_more_often_the_link_got_worse() -> None:
    costs = known(state(80.0))
    now, waits = 0.0, []
    for _ in range(6):
        costs.update(LINK, state(240.0), now)
        now += CLEAR_CONFIRM_S
        assert costs.handle_timeout(now)
        costs.update(LINK, state(80.0), now)
        due = costs.next_timeout()
        assert due is not None
        waits.append(due - now)
        now = due
        assert costs.handle_timeout(now)
    assert waits == pytest.approx(
        [min(BETTER_CONFIRM_S * 2**k, MAX_BETTER_CONFIRM_S) for k in (1, 2, 3, 4, 5)] + [MAX_BETTER_CONFIRM_S]
    )
    now += RISE_MEMORY_S
    costs.update(LINK, state(240.0), now)
    now += CLEAR_CONFIRM_S
    assert costs.handle_timeout(now)
    costs.update(LINK, state(80.0), now)
    assert costs.next_timeout() == pytest.approx(now + 2 * BETTER_CONFIRM_S), "all forgiven"


def test_a_lossy_link_whose_loss_wanders_by_a_third_stays_as_it_is() -> None:
    rng = random.Random(5)
    wandering = [state(100.0, loss=0.05 * rng.uniform(0.67, 1.4)) for _ in range(3600)]
    assert feed(known(state(100.0, loss=0.05)), wandering) == []


def test_small_drifts_add_up_to_a_step() -> None:
    costs = book()
    assert feed(costs, [state(float(rtt)) for rtt in range(180, 230)]) == [0, 22, 42]


def test_spikes_of_a_busy_host_move_nothing() -> None:
    rng = random.Random(3)
    spikes = [state(10.0)]
    for second in range(3600):
        busy = second % 5 < 2  # two reports in a row are bad, then it is quiet again
        spikes.append(state(10.0, jitter_ms=rng.uniform(5, 60) if busy else rng.uniform(0, 1)))
    assert feed(book(), spikes) == [0]


def test_a_first_impression_is_put_right_once() -> None:
    """The first report knows little of the jitter; without this it would be planned with until a step."""
    costs = book()
    costs.update(LINK, state(80.0), 0.0)
    for second, rtt_ms in enumerate((90.0, 89.0, 190.0, 89.0), 1):
        costs.update(LINK, state(rtt_ms), float(second))
    assert costs.handle_timeout(4.9) == [LINK], "three reports make a step, by the least of them"
    assert costs.planned_ms(LINK) == 44.5 + HOP_MS
    costs = book()
    costs.update(LINK, state(80.0), 0.0)
    for second, jitter_ms in enumerate((4.0, 7.0, 90.0, 7.0), 1):
        costs.update(LINK, state(80.0, jitter_ms=jitter_ms), float(second))
    assert costs.planned_ms(LINK) == 40 + HOP_MS
    assert costs.handle_timeout(IMPRESSION_S) == [LINK]
    assert costs.planned_ms(LINK) == 43.5 + HOP_MS, "the middle one: a spike says little"
    assert costs.next_timeout() is None


def test_first_impressions_of_many_links_are_put_right_a_few_at_a_time() -> None:
    costs = book()
    links = [(a, b) for a in range(30) for b in range(30) if a != b]
    for way in links:
        costs.update(way, state(80.0), 0.0)
        costs.update(way, state(80.0, jitter_ms=7.0), 1.0)
    moved: list[tuple[int, int]] = []
    for _ in range(10):
        due = costs.next_timeout()
        if due is None:
            break
        some = costs.handle_timeout(IMPRESSION_S)
        assert due == IMPRESSION_S and 0 < len(some) < len(links) / 3
        moved += some
    assert moved == links


def test_up_and_down_count_at_once() -> None:
    costs = book(3.0)
    assert costs.update(LINK, state(20.0), 0.0)
    assert costs.planned() == {LINK: pytest.approx(13 + HOP_MS)}
    assert costs.update(LINK, state(20.0, up=False), 0.0)
    assert costs.planned() == {} and costs.planned_ms(LINK) is None and costs.terms(LINK) is None
    assert not costs.update(LINK, None, 0.0)
