from __future__ import annotations

from itertools import groupby, pairwise
from math import inf
from random import Random
from statistics import mean, quantiles
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.netsim.link_model import GilbertElliott, LinkConditions, LinkModel
from relaymesh.netsim.mahimahi import DeliveryTrace

TRACE = DeliveryTrace((1, 2, 4))


def link(seed: int = 1, **conditions: Any) -> LinkModel:
    return LinkModel(LinkConditions(**conditions), Random(seed))


def arrivals(model: LinkModel, count: int, *, pps: float = 1000, size: int = 1000) -> list[tuple[float, ...]]:
    return [model.due(number / pps, size) for number in range(count)]


def late(times: list[float]) -> float:
    """The fraction of packets, in the order sent, that arrive behind a newer one."""
    behind, soonest = 0, inf
    for at in reversed(times):
        behind += at > soonest
        soonest = min(soonest, at)
    return behind / len(times)


def test_a_plain_link_delays_and_loses_nothing() -> None:
    model = link(delay_ms=15.5)
    assert model.due(10.0, 1200) == (10.0155,)
    assert model.due(11.0, 0) == (11.0155,)
    assert (model.delivered, model.lost) == (2, 0)


def test_jitter_is_the_90th_percentile_above_the_median() -> None:
    model = link(2, delay_ms=20, jitter_ms=4)
    delays = [model.due(float(now), 100)[0] - now for now in range(20_000)]
    tenths = quantiles(delays, n=10)
    assert min(delays) >= 0.020
    assert tenths[8] - tenths[4] == pytest.approx(0.004, rel=0.05)


def test_order_is_kept_unless_one_asks_for_disorder() -> None:
    kept = [at for (at,) in arrivals(link(delay_ms=50, jitter_ms=5), 5000, pps=2000)]
    assert kept == sorted(kept)
    free = [at for (at,) in arrivals(link(delay_ms=50, jitter_ms=5, jitter_order="free"), 5000, pps=2000)]
    assert late(free) > 0.5


def test_loss_is_the_fraction_asked_for() -> None:
    model = link(3, delay_ms=1, loss=0.05)
    lost = sum(not due for due in arrivals(model, 20_000))
    assert model.lost == model.lost_random == lost == pytest.approx(1000, rel=0.1)
    assert link(loss=1.0).due(0, 1) == ()


@pytest.mark.parametrize(
    ("burst", "loss", "run"),
    [
        # netem's `loss gemodel 1% 20% 70% 0.1%`: measured there 3.40 % in runs of 2.18
        (GilbertElliott(0.01, 0.2, 0.7, 0.001), 0.0343, 2.2),
        (GilbertElliott.from_mean(0.05, 4), 0.05, 4.0),
        (GilbertElliott.from_mean(0.3, 1.5), 0.3, 1.5),
        (GilbertElliott(0.5, 0.5), 0.5, 2.0),  # without memory: each packet for itself
    ],
)
def test_bursts_lose_as_much_and_last_as_long_as_theory_says(
    burst: GilbertElliott, loss: float, run: float
) -> None:
    assert burst.mean_loss == pytest.approx(loss, rel=0.01)
    assert burst.mean_burst == pytest.approx(run, rel=0.05)
    lost = [not due for due in arrivals(link(5, burst=burst), 200_000)]
    runs = [len(list(group)) for value, group in groupby(lost) if value]
    assert mean(lost) == pytest.approx(burst.mean_loss, rel=0.05)
    assert mean(runs) == pytest.approx(burst.mean_burst, rel=0.05)


def test_bursts_that_never_begin_or_never_end() -> None:
    never, always = GilbertElliott(0, 0.5), GilbertElliott(0.5, 0)
    assert (never.mean_loss, never.mean_burst) == (0, 0)
    assert (always.mean_loss, always.mean_burst) == (1, inf)
    assert all(arrivals(link(burst=never), 100)) and not any(arrivals(link(burst=always), 100))
    turns = arrivals(link(burst=GilbertElliott(1, 1)), 100)
    assert all(bool(a) != bool(b) for a, b in pairwise(turns))


def test_bursts_and_single_losses_add_up() -> None:
    model = link(7, loss=0.1, burst=GilbertElliott.from_mean(0.1, 3))
    assert sum(not due for due in arrivals(model, 50_000)) / 50_000 == pytest.approx(0.19, rel=0.06)


@pytest.mark.parametrize(("loss", "run"), [(1.0, 5), (-0.1, 5), (0.1, 0.5), (0.9, 2), (0.1, inf)])
def test_means_no_model_can_have_are_refused(loss: float, run: float) -> None:
    with pytest.raises(ValueError, match="mean"):
        GilbertElliott.from_mean(loss, run)


def test_reordered_packets_come_later_and_hold_up_nobody() -> None:
    due = [at for (at,) in arrivals(link(4, delay_ms=20, reorder=0.01, reorder_ms=5), 20_000, pps=2000)]
    delays = [at - number / 2000 for number, at in enumerate(due)]
    assert late(due) == pytest.approx(0.01, rel=0.2)
    assert {round(delay, 6) for delay in delays} == {0.020, 0.025}


def test_a_duplicate_is_counted_apart() -> None:
    model = link(6, delay_ms=20, jitter_ms=1, duplicate=0.02)
    due = arrivals(model, 20_000)
    assert {len(times) for times in due} == {1, 2}
    assert model.delivered == 20_000
    assert model.duplicated == sum(len(times) == 2 for times in due) == pytest.approx(400, rel=0.2)
    flat = [at for times in due for at in times]
    assert flat == sorted(flat)


def test_a_rate_spaces_packets_and_an_idle_link_is_fast() -> None:
    model = link(delay_ms=10, rate_bps=8_000_000)  # 1 ms for 1000 bytes
    times = [model.due(0.0, 1000)[0] for _ in range(3)]
    assert times == pytest.approx([0.011, 0.012, 0.013])
    assert model.due(5.0, 500) == pytest.approx((5.0105,))


def test_a_full_queue_is_as_long_as_its_bound_and_drops_the_rest() -> None:
    """8 Mbit/s offered twice as much: half is lost, and what passes waits the bound."""
    model = link(rate_bps=8_000_000, queue_ms=100)
    due = arrivals(model, 8000, pps=2000)
    waits = [times[0] - number / 2000 for number, times in enumerate(due) if times]
    assert model.lost_queue / 8000 == pytest.approx(0.5, abs=0.02)
    assert max(waits) == pytest.approx(0.101, abs=0.0011)  # the bound, and its own time
    assert mean(waits[-1000:]) == pytest.approx(0.1, abs=0.002)


def test_a_new_rate_holds_behind_what_already_waits() -> None:
    model = link(rate_bps=8_000_000)
    model.due(0.0, 10_000)  # busy for 10 ms
    model.apply(0.001, rate_bps=800_000)
    assert model.due(0.002, 1000) == pytest.approx((0.020,))
    model.apply(0.003, rate_bps=None)
    assert model.due(0.004, 1000) == pytest.approx((0.020,))  # the order is kept


def test_what_is_lost_on_the_wire_has_used_the_rate() -> None:
    model = link(rate_bps=8_000_000, loss=1.0)
    model.due(0.0, 1000)
    model.apply(0.0, loss=0.0)
    assert model.due(0.0, 1000) == pytest.approx((0.002,))


def test_packets_over_the_mtu_are_lost() -> None:
    model = link(mtu_bytes=1500)
    assert model.due(0, 1500) == (0,) and model.due(0, 1501) == ()
    assert model.lost_mtu == 1


def test_a_link_that_is_down_loses_everything_and_comes_back() -> None:
    model = link(delay_ms=5)
    model.apply(0, down=True)
    assert model.due(0, 1) == () and model.lost == model.lost_down == 1
    model.apply(0, delay_ms=7)  # changes nothing but the delay
    assert model.conditions == LinkConditions(delay_ms=7, down=True)
    model.apply(0, down=False)
    assert model.due(1.0, 1) == (1.007,)


def test_a_trace_starts_where_it_is_given() -> None:
    model = link(delay_ms=10, trace=TRACE)
    assert model.due(100.0, 1500) == pytest.approx((100.011,))  # with the first packet
    model.apply(200.0, trace=DeliveryTrace((3,)))
    assert model.due(200.001, 1500) == pytest.approx((200.013,))
    model.apply(201.0, trace=None)
    assert model.due(201.0, 1500) == pytest.approx((201.010,))


@pytest.mark.parametrize(
    "values",
    [
        {"delay_ms": -1.0},
        {"delay_ms": float("nan")},
        {"jitter_ms": float("inf")},
        {"reorder_ms": -1.0},
        {"queue_ms": -0.1},
        {"loss": 1.1},
        {"reorder": -0.1},
        {"duplicate": float("nan")},
        {"rate_bps": 0.0},
        {"mtu_bytes": 0},
        {"jitter_order": "chaos"},
        {"trace": TRACE, "rate_bps": 1.0},
    ],
)
def test_impossible_values_are_refused_and_change_nothing(values: dict[str, Any]) -> None:
    model = link(delay_ms=5, jitter_ms=1, loss=0.5)
    before = model.debug_state()
    with pytest.raises(ValueError, match="must"):
        model.apply(0, down=True, **values)
    assert model.debug_state() == before
    with pytest.raises(ValueError, match="must"):
        LinkConditions(**values)


@pytest.mark.parametrize(
    "values", [(1.1, 0.5), (0.5, -1), (0, 0), (0.5, 0.5, 2), (0.5, 0.5, 1, float("nan"))]
)
def test_impossible_bursts_are_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="must"):
        GilbertElliott(*values)


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(TypeError):
        link().apply(0, colour=1)


def test_its_state_is_for_people() -> None:
    model = link(delay_ms=5, loss=1.0)
    model.due(0, 1)
    assert model.debug_state() == {
        "delay_ms": 5,
        "loss": 1.0,
        "delivered": 0,
        "duplicated": 0,
        "lost_random": 1,
        "lost_queue": 0,
        "lost_down": 0,
        "lost_mtu": 0,
    }


fractions = st.one_of(st.just(0.0), st.just(1.0), st.floats(0, 1))
bursts = st.builds(GilbertElliott, st.floats(0.01, 1), st.floats(0.01, 1), fractions, fractions)
any_conditions = st.builds(
    LinkConditions,
    delay_ms=st.floats(0, 500),
    jitter_ms=st.one_of(st.just(0.0), st.floats(0, 100)),
    jitter_order=st.sampled_from(["keep", "free"]),
    loss=fractions,
    burst=st.none() | bursts,
    reorder=fractions,
    reorder_ms=st.floats(0, 50),
    duplicate=fractions,
    rate_bps=st.none() | st.floats(1e3, 1e9),
    queue_ms=st.floats(0, 500),
    mtu_bytes=st.none() | st.integers(1, 9000),
    down=st.booleans(),
)
steps = st.lists(st.tuples(st.floats(0, 0.1), st.integers(0, 3000), any_conditions), min_size=1, max_size=30)


def fields_of(conditions: LinkConditions) -> dict[str, Any]:
    return {name: getattr(conditions, name) for name in LinkConditions.__dataclass_fields__}


@given(st.integers(0, 2**32), steps)
def test_whatever_changes_every_packet_is_accounted_for(
    seed: int, steps: list[tuple[float, int, LinkConditions]]
) -> None:
    def run() -> list[tuple[float, ...]]:
        model, now, answers = link(seed), 0.0, []
        for pause, size, conditions in steps:
            now += pause
            model.apply(now, **fields_of(conditions))
            due = model.due(now, size)
            assert len(due) <= 2 and all(at >= now for at in due)
            answers.append(due)
        assert model.delivered + model.lost == len(steps)
        assert model.delivered + model.duplicated == sum(map(len, answers))
        return answers

    assert run() == run()  # the same seed, the same link


def test_another_seed_is_another_link() -> None:
    lossy = {"delay_ms": 5, "jitter_ms": 2, "loss": 0.2}
    assert arrivals(link(7, **lossy), 200) != arrivals(link(8, **lossy), 200)


@given(
    st.integers(0, 2**32),
    st.lists(st.tuples(st.floats(0, 0.01), st.floats(0, 100), st.floats(0, 50)), min_size=1, max_size=50),
)
def test_order_is_kept_whatever_changes(seed: int, steps: list[tuple[float, float, float]]) -> None:
    model, now, last = link(seed, delay_ms=10, jitter_ms=5), 0.0, 0.0
    for pause, delay_ms, jitter_ms in steps:
        now += pause
        model.apply(now, delay_ms=delay_ms, jitter_ms=jitter_ms)
        (at,) = model.due(now, 100)
        assert at >= max(last, now)
        last = at


@given(st.integers(0, 2**32), st.floats(0, 0.5), st.floats(0, 20))
def test_the_short_way_and_the_long_way_agree(seed: int, loss: float, jitter_ms: float) -> None:
    """A limit nothing reaches must change nothing."""
    plain = link(seed, delay_ms=3, loss=loss, jitter_ms=jitter_ms)
    limited = link(seed, delay_ms=3, loss=loss, jitter_ms=jitter_ms, mtu_bytes=65_535)
    assert arrivals(plain, 50) == arrivals(limited, 50)


def test_whole_conditions_may_be_replaced_without_restarting_their_trace() -> None:
    model = link(trace=DeliveryTrace((10,)))
    assert model.due(0.0, 1500) == pytest.approx((0.010,))
    model.adopt(0.005, LinkConditions(delay_ms=1, trace=DeliveryTrace((10,))))
    assert model.due(0.006, 1500) == pytest.approx((0.021,))
    model.adopt(0.006, LinkConditions())
    assert model.conditions == LinkConditions()
