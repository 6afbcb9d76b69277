"""The feed of the packet benchmarks, and what is counted of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.bench.arrivals import Arrivals, tally
from relaymesh.bench.packet_rows import (
    KEYFRAME_EVERY_S,
    MEDIA_BYTES,
    PAYLOAD_BYTES,
    Feed,
    Row,
    header_extension,
    parse_row,
    read_stamp,
)
from relaymesh.webrtc.rtp import build_extensions, build_rtp, parse_rtp
from relaymesh.webrtc.vp8 import parse_descriptor


@pytest.mark.parametrize(
    ("text", "row"), [("100", Row(100)), ("400b8", Row(400, 8)), (" 1000b16 ", Row(1000, 16))]
)
def test_rows_are_written_as_rate_and_burst(text: str, row: Row) -> None:
    assert parse_row(text) == row
    assert parse_row(str(row).replace("/s", "").replace(" ", "")) == row


@pytest.mark.parametrize("text", ["", "0", "400b0", "8b16", "400b257", "fast", "-4", "400b8b8", "1e3"])
def test_other_text_is_no_row(text: str) -> None:
    with pytest.raises(ValueError, match="no row"):
        parse_row(text)


def test_a_burst_is_a_frame_and_the_feed_goes_on_without_a_gap() -> None:
    feed, row = Feed(), Row(400, 8)
    frames = [[parse_rtp(packet) for packet in feed.frame(row, 50.0 + n * row.interval)] for n in range(200)]
    packets = [packet for frame in frames for packet in frame]
    assert [packet.sequence for packet in packets] == list(range(1600))
    assert {len(packet.payload) for packet in packets} == {PAYLOAD_BYTES}
    assert [read_stamp(packet.payload) for packet in frames[3]] == [(24 + n, 50.06) for n in range(8)]
    for frame in frames:
        assert len({packet.timestamp for packet in frame}) == 1
        assert [packet.marker for packet in frame] == [False] * 7 + [True]
    assert frames[1][0].timestamp - frames[0][0].timestamp == 90_000 * 8 // 400
    read = [parse_descriptor(frame[0].payload) for frame in frames]
    keyframes = [number for number, one in enumerate(read) if one.keyframe]
    assert keyframes == [0, round(KEYFRAME_EVERY_S / row.interval)], "first, and now and then"


def test_a_keyframe_comes_when_it_is_asked_for() -> None:
    feed = Feed()
    feed.frame(Row(100), 1.0)
    feed.wants_keyframe = True
    assert parse_descriptor(parse_rtp(feed.frame(Row(100), 1.01)[0]).payload).keyframe
    assert not parse_descriptor(parse_rtp(feed.frame(Row(100), 1.02)[0]).payload).keyframe


def test_transport_wide_numbers_stand_where_the_answer_says() -> None:
    feed = Feed(transport_id=4)
    packets = [packet for _ in range(3) for packet in feed.frame(Row(100, 2), 1.0)]
    assert [header_extension(packet, 4) for packet in packets] == list(range(6))
    assert header_extension(packets[0], 5) is None
    assert all(len(packet) > MEDIA_BYTES for packet in packets)


@given(
    st.lists(
        st.tuples(st.integers(1, 14), st.binary(min_size=2, max_size=16)), unique_by=lambda item: item[0]
    ),
    st.integers(1, 14),
)
def test_an_extension_is_found_as_the_parser_finds_it(items: list[tuple[int, bytes]], wanted: int) -> None:
    packet = build_rtp(96, False, 1, 2, 3, bytes(1200), build_extensions(items))
    value = dict(items).get(wanted)
    assert header_extension(packet, wanted) == (None if value is None else int.from_bytes(value[:2], "big"))


# --- arrivals ----------------------------------------------------------------------------------------


def received(numbers: list[int], *, late: float = 0.002) -> Arrivals:
    feed, arrivals = Feed(), Arrivals()
    packets = [feed.frame(Row(100), n / 100)[0] for n in range(max(numbers) + 1)]
    for number in numbers:
        arrivals.media += 1
        arrivals.look_into(packets[number], number / 100 + late)
    return arrivals


def test_what_comes_whole_is_verified() -> None:
    found = tally([received(list(range(300))), received(list(range(50, 150)), late=0.004), Arrivals()])
    assert found.verified
    assert (found.arrived, found.watched, found.gaps, found.refused) == (400, 400, 0, 0)
    assert (found.p50_ms, found.p99_ms) == (pytest.approx(2.0), pytest.approx(4.0))


@pytest.mark.parametrize("numbers", [[0, 1, 3, 4], [0, 1, 1, 2], [0, 2, 1, 3]])
def test_a_hole_a_repetition_and_another_order_are_gaps(numbers: list[int]) -> None:
    assert received(numbers).gaps > 0
    assert not tally([received(numbers)]).verified


def test_what_cannot_be_read_is_refused() -> None:
    arrivals = received([0, 1])
    arrivals.look_into(b"\x80", 1.0)
    arrivals.look_into(build_rtp(96, False, 2, 0, 1, b"short"), 1.0)
    assert arrivals.refused == 2
    assert not tally([arrivals]).verified
    arrivals.clear()
    assert tally([arrivals]) == tally([]), "nothing is left of the run before"
    assert not tally([]).verified, "nothing was looked into"
