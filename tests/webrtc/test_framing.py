import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.webrtc.errors import FramingError
from relaymesh.webrtc.framing import MAX_PACKET_BYTES, Deframer, frame

PACKETS = st.lists(st.binary(max_size=40), max_size=12)


def test_a_packet_stands_behind_its_length() -> None:
    """RFC 4571 §2."""
    assert frame(b"abc") == b"\x00\x03abc"


@given(PACKETS, st.lists(st.integers(0, 60), max_size=20))
def test_however_a_stream_is_cut_the_packets_are_the_same(packets: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(frame(packet) for packet in packets)
    deframer, got, at = Deframer(), [], 0
    for size in cuts:
        got += deframer.feed(stream[at : at + size])
        at += size
    got += deframer.feed(stream[at:])
    assert got == [packet for packet in packets if packet]


def test_the_longest_packet_is_taken_and_one_byte_more_is_refused() -> None:
    longest = bytes(MAX_PACKET_BYTES)
    assert Deframer().feed(frame(longest)) == [longest]
    deframer = Deframer()
    with pytest.raises(FramingError):
        deframer.feed((MAX_PACKET_BYTES + 1).to_bytes(2))  # at once: nothing is kept for it


@given(st.binary(max_size=300))
def test_any_bytes_are_packets_or_refused(data: bytes) -> None:
    try:
        Deframer().feed(data)
    except FramingError:
        pass
