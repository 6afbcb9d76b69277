import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaymesh.protocol import arq
from relaymesh.protocol.acks import Ack
from relaymesh.protocol.arq import (
    Retransmission,
    SentPackets,
    decode_retransmission,
    encode_retransmission,
)
from relaymesh.protocol.errors import ProtocolError

KEY = 0x101 << 32  # the upper part of packet ids


def sent(count: int, size: int = 100) -> SentPackets:
    packets = SentPackets()
    for number in range(1, count + 1):
        packets.add(KEY | number, bytes(size), number * 0.001)
    return packets


def ack(base: int, *runs: int, repaired: tuple[int, ...] = (), delay: int = 0) -> Ack:
    return Ack(1, base, runs, delay, 4000, (), repaired)


@given(st.integers(0, 255), st.integers(0, 2**32 - 1), st.binary(min_size=1, max_size=60))
def test_a_retransmission_comes_back_as_it_was(epoch: int, number: int, source: bytes) -> None:
    body = encode_retransmission(epoch, number, source)[3:]
    assert decode_retransmission(body) == Retransmission(epoch, number, source)


@given(st.binary(max_size=10))
def test_whatever_the_bytes_only_a_protocol_error(body: bytes) -> None:
    if len(body) > 5:
        assert decode_retransmission(body).frames == body[5:]
    else:
        with pytest.raises(ProtocolError, match="truncated"):
            decode_retransmission(body)


def test_lost_packets_are_found_once_and_received_ones_let_go() -> None:
    packets = sent(10)
    assert packets.handle_ack(ack(1, 3, 2, 1), KEY, 10, 0.1) == [KEY | 4, KEY | 5]
    assert packets.handle_ack(ack(1, 3, 2, 1), KEY, 10, 0.1) == []
    assert packets.acks_stale == 1
    assert packets.handle_ack(ack(4, 0, 2, 3, 1, 1), KEY, 10, 0.1) == [KEY | 9]
    assert packets.debug_state()["stored"] == 0
    assert packets.estimate.loss == pytest.approx(0.3, abs=0.01)
    assert packets.estimate.burst == pytest.approx(1.5, abs=0.01)


def test_what_was_never_sent_cannot_be_acknowledged() -> None:
    packets = sent(10)
    assert packets.handle_ack(ack(5, 1, 6), KEY, 10, 0.1) == []
    assert packets.acks_invalid == 1
    assert packets.handle_ack(ack(5, 1, 1), 0x202 << 32, 0, 0.1) == []
    assert packets.acks_invalid == 2
    assert packets.estimate.loss == 0.0


def test_a_lost_retransmission_is_found_and_a_received_one_ends_it() -> None:
    packets = sent(3)
    assert packets.handle_ack(ack(1, 1, 1, 1), KEY, 3, 0.1) == [KEY | 2]
    packets.add_retransmission(KEY | 4, KEY | 2)
    assert packets.handle_ack(ack(4, 0, 1), KEY, 4, 0.2) == [KEY | 2]
    assert packets.lost[KEY | 2].tries == 1
    assert packets.retransmission_loss > 0
    packets.add_retransmission(KEY | 5, KEY | 2)
    assert packets.handle_ack(ack(5, 1), KEY, 5, 0.3) == []
    assert packets.lost == {}


def test_what_the_peer_recovered_itself_counts_as_lost_and_is_not_sent_again() -> None:
    packets = sent(5)
    assert packets.handle_ack(ack(1, 1, 2, 2, repaired=(1,)), KEY, 5, 0.1) == [KEY | 3]
    assert packets.estimate.loss == pytest.approx(0.4, abs=0.01)
    packets.handle_ack(ack(1, 1, 2, 2, repaired=(1, 2)), KEY, 5, 0.1)
    assert packets.lost == {}


def test_what_was_only_late_is_taken_back() -> None:
    """Told missing, then told to have come with nothing that repaired it: 3, and of 6 and 7 only 6."""
    packets = sent(12)
    assert packets.handle_ack(ack(1, 2, 1, 2, 2, 1), KEY, 12, 0.1) == [KEY | 3, KEY | 6, KEY | 7]
    estimate = packets.estimate
    assert (estimate.fates, estimate.fates_lost, estimate.fates_bursts) == (8, 3, 2)
    packets.handle_ack(ack(1, 6, 1, 2, repaired=(6,)), KEY, 12, 0.12)
    assert (estimate.fates, estimate.fates_lost, estimate.fates_bursts) == (9, 1, 1)
    assert packets.lost == {}, "the late ones need no repair any more, and 7 had one"
    packets.handle_ack(ack(1, 6, 1, 3, repaired=(6,)), KEY, 12, 0.13)
    assert (estimate.fates, estimate.fates_lost) == (10, 1), "once"


def test_what_came_by_its_retransmission_was_lost() -> None:
    packets = sent(5)
    assert packets.handle_ack(ack(1, 1, 1, 1), KEY, 5, 0.1) == [KEY | 2]
    packets.add_retransmission(KEY | 6, KEY | 2)
    packets.handle_ack(ack(1, 1, 1, 4, repaired=(1,)), KEY, 6, 0.2)
    assert (packets.estimate.fates, packets.estimate.fates_lost) == (6, 1)


def test_rtt_comes_from_the_newest() -> None:
    packets = sent(5)
    packets.handle_ack(ack(1, 5, delay=40), KEY, 5, 0.065)
    assert packets.estimate.rtt == pytest.approx(0.05)


def test_the_store_is_bounded_in_bytes_and_time() -> None:
    packets = sent(2 * arq.STORE_BYTES // 1000, size=1000)
    assert packets.debug_state()["stored_bytes"] <= arq.STORE_BYTES
    packets.forget_before(1e9)
    assert packets.debug_state()["stored_bytes"] == packets.debug_state()["stored"] == 0


def test_packets_too_long_to_travel_again_are_counted() -> None:
    packets = SentPackets()
    packets.add(KEY | 1, bytes(arq.MAX_SOURCE_BYTES + 1), 0.0)
    assert packets.handle_ack(ack(1, 0, 1), KEY, 1, 0.1) == []
    assert packets.unprotected == 1


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 60),
            st.lists(st.integers(1, 20), min_size=1, max_size=6),
            st.lists(st.integers(0, 20), max_size=3, unique=True).map(sorted),
        ),
        max_size=20,
    )
)
def test_hostile_acks_are_bounded(hostile: list[tuple[int, list[int], list[int]]]) -> None:
    packets = sent(50)
    asked: list[int] = []
    number = 50
    for base, runs, repaired in hostile:
        found = packets.handle_ack(ack(base, *runs, repaired=tuple(repaired)), KEY, number, 0.1)
        for original in found:
            assert original in packets.lost
            number += 1
            packets.add_retransmission(KEY | number, original)
        asked += found
    assert all(1 <= packet_id - KEY <= 50 for packet_id in asked)
    assert packets.debug_state()["stored"] >= 0  # type: ignore[operator]
    assert 0.0 <= packets.estimate.loss <= 1.0
    packets.forget_before(1e9)
    assert packets.lost == {}
    assert packets.debug_state()["flying"] == 0
