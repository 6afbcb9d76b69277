"""RTP: vectors, round trips, an independent decoder as the oracle, and hostile bytes."""

from __future__ import annotations

import pytest
from aiortc.rtp import RtpPacket as OtherRtpPacket
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.webrtc.errors import RtpError
from relaymesh.webrtc.rtp import (
    abs_send_time,
    build_extensions,
    build_rtp,
    classify,
    is_rtcp,
    parse_rtp,
    peek_ssrc,
    rtx_unwrap,
)

u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
narrow = st.dictionaries(st.integers(1, 14), st.binary(min_size=1, max_size=16), max_size=14)
wide = st.dictionaries(st.integers(1, 255), st.binary(max_size=255), max_size=5)


def test_reads_a_packet_written_by_hand():
    # Laid out from the figures of RFC 3550 §5.1 and RFC 8285 §4.2: two CSRCs, three elements with padding
    # between and after them, three bytes of padding.
    data = bytes.fromhex(
        "b2e01234 01020304 0a0b0c0d 11111111 22222222bede0003 10aa 00 21bbcc 00 32ddeeff 00c0ffee 000003"
    )
    packet = parse_rtp(data)
    assert (packet.payload_type, packet.marker, packet.sequence) == (96, True, 0x1234)
    assert (packet.timestamp, packet.ssrc) == (0x01020304, 0x0A0B0C0D)
    assert packet.extensions == {1: b"\xaa", 2: b"\xbb\xcc", 3: b"\xdd\xee\xff"}
    assert packet.payload == bytes.fromhex("c0ffee")
    assert not packet.padding_only


@given(st.integers(0, 127), st.booleans(), u16, u32, u32, st.binary(max_size=60), st.one_of(narrow, wide))
def test_parse_undoes_build(payload_type, marker, sequence, timestamp, ssrc, payload, extensions):
    block = build_extensions(extensions.items())
    packet = parse_rtp(build_rtp(payload_type, marker, sequence, timestamp, ssrc, payload, block))
    assert (packet.payload_type, packet.marker, packet.sequence) == (payload_type, marker, sequence)
    assert (packet.timestamp, packet.ssrc, packet.payload) == (timestamp, ssrc, payload)
    assert packet.extensions == extensions
    assert not packet.padding_only
    assert len(block) % 4 == 0


@given(st.integers(0, 127), st.booleans(), u16, u32, u32, st.binary(min_size=1, max_size=60), narrow)
def test_agrees_with_another_decoder(payload_type, marker, sequence, timestamp, ssrc, payload, extensions):
    data = build_rtp(
        payload_type, marker, sequence, timestamp, ssrc, payload, build_extensions(extensions.items())
    )
    other = OtherRtpPacket.parse(data)
    assert (other.payload_type, other.marker, other.sequence_number) == (payload_type, marker, sequence)
    assert (other.timestamp, other.ssrc, other.payload) == (timestamp, ssrc, payload)


def test_extended_numbers_wrap_on_the_wire():
    packet = parse_rtp(build_rtp(96, False, 0x3_0001, 0x1_0000_0002, 1, b"x"))
    assert (packet.sequence, packet.timestamp) == (1, 2)


def padded(payload: bytes, padding: bytes) -> bytes:
    plain = build_rtp(96, False, 1, 2, 3, payload + padding)
    return bytes([plain[0] | 0x20]) + plain[1:]


def test_padding_is_taken_off():
    assert parse_rtp(padded(b"abc", b"\0\0\3")).payload == b"abc"
    probe = parse_rtp(padded(b"", b"\0" * 254 + b"\xff"))
    assert probe.padding_only and probe.payload == b""
    assert not parse_rtp(build_rtp(96, False, 1, 2, 3, b"")).padding_only


@pytest.mark.parametrize("padding", [b"\0", b"\4"])
def test_padding_that_does_not_fit_is_an_error(padding):
    with pytest.raises(RtpError):
        parse_rtp(padded(b"", b"\0\0" + padding))


def with_block(block: str) -> bytes:
    return build_rtp(96, False, 1, 2, 3, b"payload", bytes.fromhex(block))


@pytest.mark.parametrize(
    ("block", "extensions"),
    [
        ("bede0000", {}),
        ("bede0002 10aa f0bb 10cc2000", {1: b"\xaa"}),  # 15 ends the list
        ("bede0002 10aa 03bb 20cc0000", {1: b"\xaa"}),  # 0 with a length ends the list too
        ("bede0001 10aa10bb", {1: b"\xaa"}),  # the first counts
        ("10000001 0100 0200", {1: b"", 2: b""}),
        ("100f0001 010100 00", {1: b"\0"}),  # appbits
        ("abcd0001 10aa20bb", {}),  # some other profile
    ],
)
def test_extension_blocks(block, extensions):
    packet = parse_rtp(with_block(block))
    assert packet.extensions == extensions
    assert packet.payload == b"payload"


@pytest.mark.parametrize("block", ["bede0001 10aa0037", "10000001 00000001", "10000001 010300ff", "bedeffff"])
def test_extensions_that_do_not_fit_are_an_error(block):
    with pytest.raises(RtpError):
        parse_rtp(with_block(block))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80" * 11,
        b"\x40" + bytes(20),  # version 1
        b"\x8f" + bytes(20),  # 15 CSRCs promised
        b"\x90" + bytes(13),  # half an extension header
    ],
)
def test_malformed_packets_are_errors(data):
    with pytest.raises(RtpError):
        parse_rtp(data)


@given(st.one_of(st.binary(max_size=80), st.binary(max_size=80).map(lambda tail: b"\xb1\xe0" + tail)))
def test_whatever_the_bytes_only_rtp_error(data):
    try:
        packet = parse_rtp(data)
    except RtpError:
        return
    assert len(packet.payload) <= len(data) - 12


@given(narrow, st.binary(min_size=1, max_size=20), st.data())
def test_mutated_packets_raise_only_rtp_error(extensions, payload, data):
    packet = bytearray(build_rtp(96, True, 1, 2, 3, payload, build_extensions(extensions.items())))
    for _ in range(data.draw(st.integers(1, 4))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_rtp(bytes(packet))
    except RtpError:
        pass


def test_classify_follows_rfc_7983():
    names = {first: classify(bytes((first, 96))) for first in range(256)}
    for first, name in names.items():
        if first <= 3:
            assert name == "stun"
        elif 20 <= first <= 63:
            assert name == "dtls"
        elif 128 <= first <= 191:
            assert name == "rtp"
        else:
            assert name is None
    assert classify(b"") is None
    assert [second for second in range(256) if classify(bytes((0x80, second))) == "rtcp"] == list(
        range(192, 224)
    )
    assert not is_rtcp(b"\x80")


@given(st.integers(0, 0xFFFF), st.binary(max_size=30))
def test_a_retransmission_begins_with_the_original_number(sequence, payload):
    assert rtx_unwrap(sequence.to_bytes(2, "big") + payload) == (sequence, payload)


def test_an_empty_retransmission_is_an_error():
    for payload in (b"", b"\1"):
        with pytest.raises(RtpError):
            rtx_unwrap(payload)


def test_absolute_send_time_is_6_18_fixed_point():
    assert abs_send_time(0.0) == b"\0\0\0"
    assert abs_send_time(1.5) == (3 << 17).to_bytes(3, "big")
    assert abs_send_time(64.0) == b"\0\0\0"
    assert abs_send_time(1e9 + 63.999999) == b"\xff\xff\xff"


@given(st.binary(max_size=40))
def test_an_ssrc_is_peeked_at_or_missing_whatever_the_bytes(data):
    ssrc = peek_ssrc(data)
    assert ssrc is None or (len(data) >= 8 and ssrc.to_bytes(4, "big") in data)


def test_the_ssrc_in_the_clear_of_rtp_and_rtcp():
    assert peek_ssrc(bytes.fromhex("8060000100000001000000ff") + b"media") == 0xFF
    assert peek_ssrc(bytes.fromhex("80c90001000000fe")) == 0xFE
    assert peek_ssrc(bytes.fromhex("8060000100000001000000")) is None
    assert peek_ssrc(bytes.fromhex("0060000100000001000000ff")) is None
