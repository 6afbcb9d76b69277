from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.protocol.lossiness import Lossiness


class Chain:
    """Gilbert's: losses of mean *loss* in bursts of mean *burst*, told in lots as ACKs tell them."""

    def __init__(self, seed: int, loss: float, burst: float = 1.0) -> None:
        self.rng = random.Random(seed)
        self.end = 1 / burst if burst > 1 else 1 - loss
        self.begin = self.end * loss / (1 - loss)
        self.bad = False

    def lot(self, size: int) -> tuple[int, int, int]:
        lost = bursts = 0
        for _ in range(size):
            was, self.bad = self.bad, self.rng.random() < (1 - self.end if self.bad else self.begin)
            lost += self.bad
            bursts += self.bad and not was
        return size, lost, bursts


def datagrams_until_step(tracker: Lossiness, chain: Chain, at_most: int, lot: int = 10) -> int | None:
    for sent in range(0, at_most, lot):
        if tracker.note(*chain.lot(lot)):
            return sent + lot
    return None


@pytest.mark.parametrize("lot", [1, 10, 150])  # datagrams an ACK tells of; the last on a busy link
@pytest.mark.parametrize("seed", range(20))
def test_five_percent_after_a_clean_time_are_noticed_within_a_few_losses(seed: int, lot: int) -> None:
    tracker = Lossiness()
    assert datagrams_until_step(tracker, Chain(seed, 0.0), 20_000, lot) is None
    found = datagrams_until_step(tracker, Chain(seed, 0.05), 1000, lot)
    assert found is not None and found <= 250 + lot
    assert 0.01 < tracker.loss < 0.2


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("loss", "burst"), [(0.002, 1.0), (0.01, 1.0), (0.05, 1.0), (0.05, 3.0), (0.1, 4.0)])
def test_loss_that_stays_the_same_is_learned_and_makes_no_more_steps(
    seed: int, loss: float, burst: float
) -> None:
    tracker, chain = Lossiness(), Chain(seed, loss, burst)
    for _ in range(500):
        tracker.note(*chain.lot(10))
    known = tracker.steps
    worst = 0.0
    for _ in range(20_000):  # at 140 datagrams a second, 24 minutes
        tracker.note(*chain.lot(10))
        worst = max(worst, abs(tracker.loss - loss) / loss)
    assert tracker.steps - known <= 1
    assert worst < 1.2
    assert tracker.burst == pytest.approx(burst, rel=0.35)


@pytest.mark.parametrize("seed", range(10))
def test_a_link_that_recovers_is_known_to_be_clean_again(seed: int) -> None:
    tracker = Lossiness()
    datagrams_until_step(tracker, Chain(seed, 0.05), 1000)
    chain = Chain(seed, 0.05)
    for _ in range(100):
        tracker.note(*chain.lot(10))
    assert datagrams_until_step(tracker, Chain(seed, 0.0), 1000) is not None
    assert tracker.loss == 0.0


def test_one_outage_is_one_burst_and_no_step() -> None:
    tracker = Lossiness()
    tracker.note(1000, 0, 0)
    assert not tracker.note(60, 40, 1)
    assert not tracker.note(1000, 0, 0)
    assert tracker.steps == 0


def test_what_was_only_late_is_taken_back() -> None:
    tracker = Lossiness()
    tracker.note(100, 0, 0)
    for _ in range(1000):
        assert not tracker.note(2, 1, 1)
        assert not tracker.note(0.0001, -1, -1)
    assert tracker.loss == 0.0


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(-1e3, 1e6), st.floats(-1e3, 1e6)), max_size=50))
def test_whatever_is_noted_the_figures_are_in_range(notes: list[tuple[float, float, float]]) -> None:
    tracker = Lossiness()
    for note in notes:
        tracker.note(*note)
        assert 0.0 <= tracker.loss <= 1.0
        assert tracker.burst >= 1.0
