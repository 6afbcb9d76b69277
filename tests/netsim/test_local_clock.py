"""A clock that is wrong, and timers that go by it."""

from __future__ import annotations

from random import Random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.netsim.clock import run_virtual
from relaymesh.netsim.direct import NetworkTimer
from relaymesh.netsim.link_model import LinkConditions, LinkModel
from relaymesh.netsim.local_clock import SLEW, LocalClock
from relaymesh.netsim.net import Network

OFFSETS = st.floats(-1e6, 1e6)
DRIFTS = st.floats(-1000, 1000)


def test_a_clock_is_right_until_it_is_wrong() -> None:
    clock = LocalClock()
    assert [clock.read(now) for now in (0.0, 0.1, 7.3)] == [0.0, 0.1, 7.3]
    assert clock.when(7.3) == 7.3
    clock.set(0.0, 1000.0, 500.0)
    assert clock.read(0.0) == 1000.0
    assert clock.read(2.0) == pytest.approx(1002.001)
    assert clock.when(1002.001) == pytest.approx(2.0)
    assert clock.when(3.0) == 0.0  # it showed more from the start


def test_an_offset_is_reached_without_a_jump() -> None:
    clock = LocalClock()
    clock.slew(10.0, -0.1, 100.0)
    assert clock.read(10.0) == 10.0
    assert clock.read(11.0) == pytest.approx(11.0 - SLEW + 100e-6)
    reached = 10.0 + 0.1 / SLEW
    assert clock.read(reached + 10) == pytest.approx(reached + 10 - 0.1 + (reached + 10 - 10) * 100e-6)
    clock.slew(reached + 10, 0.0, 0.0)
    assert clock.read(reached + 50) == pytest.approx(reached + 50)


@given(OFFSETS, DRIFTS, OFFSETS, DRIFTS, st.lists(st.floats(0, 1e4), min_size=2))
def test_it_never_goes_back_and_timeouts_never_come_early(
    first: float, drift: float, second: float, other: float, times: list[float]
) -> None:
    clock = LocalClock()
    clock.set(0.0, first, drift)
    before = clock.read(10.0)
    clock.slew(10.0, second, other)
    shown = [clock.read(10.0 + now) for now in sorted(times)]
    assert [before, *shown] == sorted([before, *shown])
    for deadline in shown:
        assert clock.read(clock.when(deadline)) >= deadline
        assert clock.read(clock.when(deadline)) == pytest.approx(deadline, abs=1e-6)


def test_a_timer_goes_by_its_clock_and_hears_of_changes() -> None:
    network = Network(1, lambda a, b: LinkModel(LinkConditions(), Random(1)))
    clock = LocalClock()
    clock.set(0.0, 100.0, 0.0)
    due: list[float | None] = [101.0]
    fired: list[tuple[float, float]] = []

    def on_timeout(now: float) -> None:
        fired.append((network.now, now))
        due[0] = 103.0 if len(fired) == 1 else None

    async def main(network: Network) -> None:
        timer = NetworkTimer(network, lambda: due[0], on_timeout, clock=clock)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(timer.run)
            await trio.sleep(2)
            clock.slew(network.now, 200.0, 0.0)
            timer.clock_changed()
            await trio.sleep(5)
            timer.clock_changed()  # nothing is due
            nursery.cancel_scope.cancel()

    run_virtual(main, seed=1, network=network)
    assert fired == [(1.0, 101.0), (pytest.approx(2 + 1 / (1 + SLEW)), pytest.approx(103.0))]
