import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.protocol import acks, arrivals
from relaymesh.protocol.acks import Ack, decode_ack, encode_ack
from relaymesh.protocol.arrivals import ArrivalTracker
from relaymesh.protocol.datagram import MAX_PLAINTEXT_BYTES
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.path_estimate import PathEstimate


def fates(ack: Ack) -> dict[int, bool]:
    """Packet number → whether it came."""
    found: dict[int, bool] = {}
    at = ack.base
    for index, length in enumerate(ack.runs):
        found |= dict.fromkeys(range(at, at + length), index % 2 == 0)
        at += length
    return found


@st.composite
def ack_frames(draw: st.DrawFn) -> Ack:
    runs = (draw(st.integers(0, 50)), *draw(st.lists(st.integers(1, 50), min_size=1, max_size=10)))
    received, covered = sum(runs[::2]), sum(runs)
    deltas = draw(st.lists(st.integers(-0x8000, 0x7FFF), max_size=max(0, received - 1)))
    repaired = draw(st.sets(st.integers(0, covered - 1), max_size=5))
    return Ack(
        draw(st.integers(0, 255)),
        draw(st.integers(0, 2**32 - 1000)),
        runs,
        draw(st.integers(0, 0xFFFF)),
        draw(st.integers(0, 2**32 - 1)),
        tuple(deltas),
        tuple(sorted(repaired)),
    )


@given(ack_frames())
def test_an_ack_comes_back_as_it_was(ack: Ack) -> None:
    assert decode_ack(encode_ack(ack)[3:] + b"more") == ack


@given(st.binary(max_size=80))
def test_whatever_the_bytes_only_a_protocol_error(body: bytes) -> None:
    try:
        ack = decode_ack(body)
    except ProtocolError:
        return
    assert len(fates(ack)) == ack.covered <= acks.MAX_COVERED


@pytest.mark.parametrize(
    "ack",
    [
        Ack(1, 1, (), 0, 0),
        Ack(1, 1, (0,), 0, 0),
        Ack(1, 1, (3, 0, 2), 0, 0),
        Ack(1, 1, (4000, 97), 0, 0),
        Ack(1, 2**32 - 2, (3,), 0, 0),
        Ack(1, 1, (2, 5), 0, 0, (1, 1)),
        Ack(1, 1, (2, 5), 0, 0, (), (7,)),
        Ack(1, 1, (2, 5), 0, 0, (), (3, 3)),
    ],
)
def test_acks_that_cannot_be_are_invalid(ack: Ack) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_ack(encode_ack(ack)[3:])
    assert caught.value.reason == "invalid"


def test_arrival_times_are_differences_to_the_newest() -> None:
    assert Ack(1, 1, (4,), 0, 99, (4, -2, 6)).arrivals() == [-8, -4, -6, 0]


# --- the receiving side ----------------------------------------------------------------------------


def test_on_a_clean_link_acks_are_rare_and_cover_everything() -> None:
    tracker = ArrivalTracker(1)
    told: list[Ack] = []
    for number in range(1, 2001):
        now = number * 0.001
        tracker.note(number, now, True)
        told += [ack] if (ack := tracker.poll(now)) else []
    assert len(told) == 40  # one in ACK_INTERVAL
    assert all(fates(told[-1]).values())
    assert {n for ack in told for n in fates(ack)} == set(range(1, max(fates(told[-1])) + 1))
    assert set(told[-1].deltas) == {4}
    assert 45 <= len(told[-1].deltas) <= 51
    assert told[-1].delay == 0


def test_a_hole_is_told_when_it_is_no_reordering_any_more() -> None:
    tracker = ArrivalTracker(1)
    tracker.note(1, 0.0, True)
    assert tracker.poll(0.0)
    tracker.note(3, 0.02, True)
    assert tracker.poll(0.021) is None
    assert tracker.due == pytest.approx(0.02 + arrivals.REORDERING_MIN)
    ack = tracker.poll(0.0231)
    assert ack is not None
    assert fates(ack) == {1: True, 2: False, 3: True}


def test_reordering_is_learned_and_forgotten() -> None:
    tracker = ArrivalTracker(1)
    tracker.note(1, 0.0, True)
    tracker.note(3, 0.001, True)
    tracker.note(2, 0.031, True)
    assert tracker.reordering == pytest.approx(1.25 * 0.03 + 0.001)
    tracker.note(5, 0.1, True)
    ack = tracker.poll(0.11)
    assert ack is not None
    assert fates(ack) == dict.fromkeys((1, 2, 3), True), "4 may still come"
    for i in range(1000):
        tracker.note(6 + i, 0.2 + i * 0.05, True)
        tracker.poll(0.2 + i * 0.05)
    assert tracker.reordering < 2 * arrivals.REORDERING_MIN


def test_acks_and_probes_alone_elicit_nothing() -> None:
    tracker = ArrivalTracker(1)
    for number in range(1, 3 * acks.MAX_COVERED):
        tracker.note(number, number * 0.001, False)
        assert tracker.poll(number * 0.001) is None


def test_a_repaired_packet_is_told_so_and_taken_once() -> None:
    tracker = ArrivalTracker(1)
    tracker.note(1, 0.0, True)
    tracker.note(4, 0.001, True)
    assert tracker.repair(2, 0.002)
    assert not tracker.repair(2, 0.002)
    assert not tracker.repair(1, 0.002)
    assert tracker.repair(6, 0.002), "the end of what was sent"
    assert set(tracker.holes) == {3, 5}
    ack = tracker.poll(0.1)
    assert ack is not None
    assert fates(ack) == {1: True, 2: False, 3: False, 4: True, 5: False, 6: False}
    assert ack.repaired == (1, 5)


def test_an_outage_is_not_enumerated() -> None:
    tracker = ArrivalTracker(1)
    tracker.note(1, 0.0, True)
    tracker.note(1 << 31, 0.1, True)
    assert not tracker.holes
    assert tracker.outages == 1
    ack = tracker.poll(1.0)
    assert ack is not None
    assert fates(ack) == {1 << 31: True}


@given(st.lists(st.tuples(st.integers(1, 60), st.booleans()), max_size=60), st.integers(0, 1000))
def test_whatever_comes_acks_tell_the_truth_and_fit(arrivals: list[tuple[int, bool]], seed: int) -> None:
    rng = random.Random(seed)
    tracker = ArrivalTracker(1)
    came: set[int] = set()
    now = 0.0
    for number, eliciting in arrivals:
        now += rng.random() * 0.01
        if number not in came:
            tracker.note(number, now, eliciting)
            came.add(number)
        ack = tracker.poll(now)
        if ack is not None:
            encoded = encode_ack(ack)
            assert decode_ack(encoded[3:]) == ack
            assert {n: fate for n, fate in fates(ack).items() if n in came} == {
                n: True for n in fates(ack) if n in came
            }
            assert not any(fate for n, fate in fates(ack).items() if n not in came)


def test_the_largest_ack_fits_a_datagram() -> None:
    tracker = ArrivalTracker(1)
    rng = random.Random(3)
    sizes = []
    for number in range(1, 20_000):
        now = number * 1e-5
        if rng.random() > 0.4:
            tracker.note(number, now, True)
        elif rng.random() < 0.5 and tracker.holes:
            tracker.repair(rng.choice(list(tracker.holes)), now)
        if (ack := tracker.poll(now)) is not None:
            sizes.append(len(encode_ack(ack)))
    assert max(sizes) > 700
    assert max(sizes) <= MAX_PLAINTEXT_BYTES
    assert len(sizes) <= 0.2 / arrivals.ACK_INTERVAL_MIN + 1, "a bounded rate"


# --- the sending side ------------------------------------------------------------------------------


def test_loss_and_bursts_are_estimated() -> None:
    estimate = PathEstimate()
    assert (estimate.loss, estimate.burst) == (0.0, 1.0)
    for _ in range(400):
        estimate.note_fate(100, 8, 2)
    assert estimate.loss == pytest.approx(0.08)
    assert estimate.burst == pytest.approx(4.0)
    for _ in range(400):
        estimate.note_fate(100, 0, 0)
    assert estimate.loss < 1e-6
    assert estimate.burst == 1.0


def test_rtt_and_queueing() -> None:
    estimate = PathEstimate()
    for i in range(100):
        queue = 0.02 if i >= 50 else 0.0
        arrival = round((1000.0 + i * 0.1 + 0.03 + queue) / acks.TICK)
        estimate.note_newest(i * 0.1, Ack(1, 1, (1,), 8, arrival), i * 0.1 + 0.062 + queue)
    assert estimate.rtt == pytest.approx(0.08, abs=0.001)
    assert estimate.queueing == pytest.approx(0.02, abs=0.001)
    estimate.forget()
    assert estimate.debug_state()["rtt_ms"] == 0.0
