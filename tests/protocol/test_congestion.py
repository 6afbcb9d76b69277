"""The rate of a link, against a path that is computed by hand: a queue before a rate."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.protocol.congestion import CALM, HOLD, MIN_RATE, RateControl

STEP = 0.025  # seconds from ACK to ACK


class Path:
    """Carries *capacity* bytes/s with a queue; the sender offers *offer*, and obeys."""

    def __init__(self, *, rtt: float = 0.05, seed: int = 1) -> None:
        self.control = RateControl()
        self.rtt = rtt
        self.now = 0.0
        self.capacity = math.inf
        self.queue = 0.0  # bytes
        self.extra = 0.0  # seconds of delay that are no queue
        self.jitter = 0.0  # seconds
        self.loss = 0.0
        self.skew = 0.0  # seconds that the peer's clock is ahead
        self.rebased = 0
        self.longest = 0.0  # seconds of queue, since it was last set
        self._rng = random.Random(seed)

    def run(self, seconds: float, offer: float) -> None:
        for _ in range(round(seconds / STEP)):
            self.now += STEP
            sent = min(offer, self.control.rate) * STEP
            self.queue += sent
            carried = min(self.queue, self.capacity * STEP)
            self.queue -= carried
            wait = self.queue / self.capacity if self.capacity != math.inf else 0.0
            self.longest = max(self.longest, wait)
            delay = wait + self.extra + self.jitter * self._rng.expovariate(1.0)
            if self.control.handle_ack(
                delivered=int(carried * (1 - self.loss)),
                lost=int(carried * self.loss),
                arrival=self.now + self.skew,
                queueing=delay,
                rtt=self.rtt + delay,
                wanting=offer > self.control.rate,
                needed=0.0,
                now=self.now,
            ):
                self.extra = 0.0  # as PathEstimate.rebase
                self.rebased += 1


def test_a_path_that_is_never_full_has_no_limit() -> None:
    path = Path()
    path.jitter = 0.008
    path.loss = 0.1
    path.run(600.0, 1e6)
    assert not path.control.limited


@pytest.mark.parametrize("rtt", [0.01, 0.1, 0.3])
def test_a_full_path_is_drained_soon_then_used(rtt: float) -> None:
    path = Path(rtt=rtt)
    path.run(2.0, 1e6)
    path.capacity = 5e5
    path.run(2.0, 1e6)
    assert path.queue / path.capacity < 0.05
    path.longest = 0.0
    before = path.control.fillings
    path.run(20.0, 1e6)
    assert path.longest < 0.12, "it probes, without harm"
    assert 0.8 * path.capacity < path.control.rate < 1.1 * path.capacity
    assert path.control.fillings > before


def test_a_path_that_gets_narrow_is_known_at_its_first_losses() -> None:
    path = Path()
    path.run(2.0, 1e6)
    carried = int(2e5 * STEP)
    for lost, queueing in ((0, 0.05), (0, 0.1), (20_000, 0.1)):  # there is no more room
        path.now += STEP
        assert not path.control.limited
        path.control.handle_ack(
            delivered=carried,
            lost=lost,
            arrival=path.now,
            queueing=queueing,
            rtt=path.rtt,
            wanting=False,
            needed=0.0,
            now=path.now,
        )
    assert path.control.draining
    assert path.control.capacity == pytest.approx(2e5), "what came before the queue does not count"


def test_a_freed_path_is_used_within_five_seconds() -> None:
    path = Path()
    path.capacity = 5e5
    path.run(10.0, 1e6)
    path.capacity = 2e6
    path.run(5.0, 1e6)
    assert path.control.rate > 0.9e6


@pytest.mark.parametrize("jitter", [0.0, 0.002, 0.005])
@pytest.mark.parametrize("step", [0.02, 0.05, 0.08, 0.2])
@pytest.mark.parametrize("seed", range(3))
def test_a_step_of_the_delay_is_no_queue(step: float, jitter: float, seed: int) -> None:
    path = Path(seed=seed)
    path.jitter = jitter
    path.run(5.0, 1e6)
    path.extra = step
    path.run(10.0, 1e6)
    assert not path.control.limited
    assert path.rebased >= 1


def test_a_queue_that_is_not_ours_is_accepted_after_some_tries() -> None:
    path = Path()
    path.capacity = 5e5
    path.run(3.0, 1e6)
    path.extra = 0.1
    path.run(10.0, 1e6)
    assert path.rebased <= 1
    assert path.control.rate > 0.6 * path.capacity


def test_loss_alone_is_a_full_path_only_when_it_is_heavy_and_lasts() -> None:
    path = Path()
    path.loss = 0.3
    path.run(10.0, 1e6)
    assert not path.control.limited
    path.loss = 0.6
    path.run(0.25, 1e6)
    assert not path.control.limited
    path.run(1.0, 1e6)
    assert path.control.limited


def test_a_clock_that_is_set_fills_no_path() -> None:
    path = Path()
    path.run(2.0, 1e6)
    path.skew = 1e5
    path.run(2.0, 1e6)
    path.skew = -1e5
    path.run(2.0, 1e6)
    assert not path.control.limited


def test_a_limit_far_above_the_need_is_forgotten() -> None:
    path = Path()
    path.capacity = 5e5
    path.run(5.0, 1e6)
    path.capacity = math.inf
    path.queue = 0.0
    path.run(10.0, 1e6)
    path.run(2 * CALM, 1e5)
    assert not path.control.limited


reports = st.lists(
    st.tuples(
        st.integers(0, 1 << 40),
        st.integers(0, 1 << 40),
        st.floats(0, 1e9),
        st.floats(0, 60),
        st.floats(0, 60),
    ),
    max_size=60,
)


@given(reports)
def test_no_claim_breaks_it_or_starves_audio(claims: list[tuple[int, int, float, float, float]]) -> None:
    control = RateControl()
    now = 0.0
    for delivered, lost, arrival, queueing, rtt in claims:
        now += 0.05
        control.handle_ack(
            delivered=delivered, lost=lost, arrival=arrival, queueing=queueing, rtt=rtt, wanting=True,
            needed=1e5, now=now,
        )  # fmt: skip
        assert control.rate >= MIN_RATE * HOLD
        assert not math.isnan(control.rate)
