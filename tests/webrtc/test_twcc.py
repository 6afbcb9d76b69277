"""Transport-wide feedback: hand-made vectors, round trips with loss and disorder, bounds, hostile bytes."""

from __future__ import annotations

import random

import pytest
from aiortc.rtp import RtcpPacket as OtherRtcpPacket
from aiortc.rtp import RtcpRtpfbPacket
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.webrtc.errors import RtpError
from relaymesh.webrtc.rtcp import TransportFeedback, parse_rtcp
from relaymesh.webrtc.twcc import (
    MAX_STATUSES,
    REORDER_WINDOW,
    ArrivalReport,
    TwccReceiver,
    parse_transport_feedback,
)


def decode(data: bytes) -> ArrivalReport:
    """The report inside one RTCP datagram, which another decoder must frame alike."""
    [packet] = parse_rtcp(data)
    assert isinstance(packet, TransportFeedback)
    [other] = OtherRtcpPacket.parse(data)
    assert isinstance(other, RtcpRtpfbPacket)
    assert (other.fmt, other.ssrc, other.media_ssrc) == (15, packet.sender_ssrc, packet.media_ssrc)
    return parse_transport_feedback(packet.body)


def drain(receiver: TwccReceiver) -> list[ArrivalReport]:
    reports = []
    for _ in range(2 * (REORDER_WINDOW + MAX_STATUSES) + 1):
        data = receiver.feedback(1, 2)
        if data is None:
            return reports
        reports.append(decode(data))
    raise AssertionError("feedback does not come to an end")


# Chunks laid out from the figures of the draft, §3.1.3 to §3.1.5.
@pytest.mark.parametrize(
    ("body", "report"),
    [
        # A run of three small deltas: 1, 2 and 3 ticks after 64 ms × 2.
        (
            "0005 0003 000002 07 2003 010203",
            ArrivalReport(5, 2, 7, [(5, 128_250), (6, 128_750), (7, 129_500)]),
        ),
        # A one-bit vector 1010…: the second and fourth are absent; numbers wrap.
        (
            "fffe 0004 000000 00 a800 0405",
            ArrivalReport(0xFFFE, 0, 0, [(0xFFFE, 1000), (0xFFFF, None), (0, 2250), (1, None)]),
        ),
        # A two-bit vector: small, absent, large (−2 ticks); the reference time is negative.
        (
            "0001 0003 ffffff ff d200 04 fffe",
            ArrivalReport(1, -1, 255, [(1, -63_000), (2, None), (3, -63_500)]),
        ),
        # A run of absent packets, longer than the count, behind a run of none.
        ("0001 0002 000000 00 4000 1fff", ArrivalReport(1, 0, 0, [(1, None), (2, None)])),
        ("0001 0000 000000 00", ArrivalReport(1, 0, 0, [])),
    ],
)
def test_reads_reports_written_by_hand(body, report):
    assert parse_transport_feedback(bytes.fromhex(body)) == report


def test_writes_what_the_draft_lays_out():
    receiver = TwccReceiver()
    receiver.record(5, 0.128250)
    receiver.record(6, 0.128750)
    receiver.record(8, 0.129500)
    data = receiver.feedback(0x0A0A0A0A, 0x0B0B0B0B)
    # A final one-bit vector 1101, then deltas 1, 2 and 3, padded to a word.
    assert data == bytes.fromhex("8fcd0006 0a0a0a0a 0b0b0b0b 0005 0004 000002 00 b400 010203 000000")


@pytest.mark.parametrize(
    "body",
    [
        "",
        "0001 0001 000000",
        "0001 0001 000000 00",  # no chunk
        "0001 0001 000000 00 2001",  # no delta
        "0001 0001 000000 00 4001 00",  # half a delta
        "0001 0001 000000 00 6001 0000",  # the reserved symbol
        "0001 0001 000000 00 f000 0000",
        "0001 ffff 000000 00 1fff 1fff 1fff 1fff 1fff 1fff 1fff 1fff 1fff",
    ],
)
def test_malformed_reports_are_errors(body):
    with pytest.raises(RtpError):
        parse_transport_feedback(bytes.fromhex(body))


def test_nothing_to_report():
    receiver = TwccReceiver()
    assert receiver.feedback(1, 2) is None
    receiver.record(1, 1.0)
    assert receiver.feedback(1, 2) is not None
    assert receiver.feedback(1, 2) is None


def test_duplicates_keep_their_first_arrival():
    receiver = TwccReceiver()
    receiver.record(1, 0.001)
    receiver.record(1, 0.009)
    assert drain(receiver)[0].arrivals == [(1, 1000)]
    receiver.record(1, 0.010)
    assert drain(receiver) == []


def test_a_late_packet_is_reported_again_from_there():
    receiver = TwccReceiver()
    for number in (10, 11, 13):
        receiver.record(number, number / 1000)
    assert [n for n, at in drain(receiver)[0].arrivals if at is None] == [12]
    receiver.record(12, 0.020)
    assert drain(receiver)[0].arrivals == [(12, 20_000), (13, 13_000)]
    receiver.record(14, 0.021)
    assert drain(receiver)[0].arrivals == [(14, 21_000)]


def test_what_comes_before_the_first_packet_counts():
    receiver = TwccReceiver()
    receiver.record(0, 0.001)
    receiver.record(0xFFFF, 0.002)
    assert drain(receiver)[0].arrivals == [(0xFFFF, 2000), (0, 1000)]


def test_packets_older_than_the_window_are_ignored():
    receiver = TwccReceiver()
    receiver.record(1000, 0.001)
    receiver.record(1000 - REORDER_WINDOW, 0.002)
    assert [len(r.arrivals) for r in drain(receiver)] == [1]


def test_the_feedback_count_wraps():
    receiver = TwccReceiver()
    counts = []
    for number in range(258):
        receiver.record(number, number / 1000)
        counts += [r.feedback_count for r in drain(receiver)]
    assert counts == [*range(256), 0, 1]


def test_a_pause_beyond_the_largest_delta_begins_another_report():
    receiver = TwccReceiver()
    receiver.record(1, 1.0)
    receiver.record(2, 9.0)  # still fits into 16 bits of 250 µs
    receiver.record(3, 18.0)
    reports = drain(receiver)
    assert [r.arrivals for r in reports] == [[(1, 1_000_000), (2, 9_000_000)], [(3, 18_000_000)]]


def test_a_long_backlog_is_split():
    receiver = TwccReceiver()
    for number in range(1000):
        receiver.record(number, number / 10_000)
    reports = drain(receiver)
    assert [len(r.arrivals) for r in reports] == [MAX_STATUSES, MAX_STATUSES, 200]
    assert [n for r in reports for n, _ in r.arrivals] == list(range(1000))


def test_a_jump_is_not_reported_as_loss():
    receiver = TwccReceiver()
    receiver.record(1, 0.001)
    receiver.record(20_000, 0.002)
    assert [r.arrivals for r in drain(receiver)] == [[(1, 1000)], [(20_000, 2000)]]


def test_a_feedback_fits_a_datagram_at_worst():
    receiver = TwccReceiver()
    for number in range(MAX_STATUSES):
        receiver.record(number, number * 0.1)  # every delta takes 16 bits
    assert len(receiver.feedback(1, 2) or b"") <= 20 + 952


def test_without_feedback_only_the_window_is_kept():
    receiver = TwccReceiver()
    for number in range(50_000):
        receiver.record(number & 0xFFFF, number / 1000)
    reports = drain(receiver)
    numbers = [n for r in reports for n, _ in r.arrivals]
    assert numbers[-1] == 49_999
    assert REORDER_WINDOW <= len(numbers) <= 2 * (REORDER_WINDOW + MAX_STATUSES)


def test_numbers_that_jump_about_cost_no_memory():
    receiver = TwccReceiver()
    for step in range(5000):
        receiver.record(step * 30_000, step / 1000)
    arrived = sum(at is not None for r in drain(receiver) for _, at in r.arrivals)
    assert arrived <= 2 * (REORDER_WINDOW + MAX_STATUSES)


@given(st.integers(0, 2**32), st.integers(0, 0xFFFF), st.sampled_from([0.0, 0.05, 0.5]), st.integers(1, 40))
def test_every_arrival_is_reported_under_loss_and_reordering(seed, first, loss, disorder):
    rng = random.Random(seed)
    arrivals = sorted(
        (number / 500 + rng.random() * disorder / 500, number)
        for number in range(first, first + 600)
        if rng.random() >= loss
    )
    receiver = TwccReceiver()
    said: dict[int, int | None] = {}
    for turn, (now, number) in enumerate(arrivals):
        receiver.record(number & 0xFFFF, now)
        if turn % 23 == 0:
            said.update(pair for report in drain(receiver) for pair in report.arrivals)
    said.update(pair for report in drain(receiver) for pair in report.arrivals)
    for now, number in arrivals:
        at = said.pop(number & 0xFFFF)
        assert at is not None
        assert abs(at - now * 1e6 % (2**24 * 64_000)) <= 251
    assert all(at is None for at in said.values())


headers = st.builds(
    lambda count, tail: b"\0\1" + count.to_bytes(2, "big") + tail, st.integers(0, 300), st.binary()
)


@given(st.one_of(st.binary(max_size=100), headers))
def test_whatever_the_bytes_only_rtp_error(body):
    try:
        report = parse_transport_feedback(body)
    except RtpError:
        return
    assert len(report.arrivals) == int.from_bytes(body[2:4], "big")


@given(st.lists(st.tuples(st.integers(0, 600), st.floats(0, 100)), min_size=1, max_size=60), st.data())
def test_mutated_reports_raise_only_rtp_error(arrivals, data):
    receiver = TwccReceiver()
    for number, now in arrivals:
        receiver.record(number, now)
    body = bytearray((receiver.feedback(1, 2) or b"")[12:])
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_transport_feedback(bytes(body))
    except RtpError:
        pass
