"""RTCP: round trips, an independent codec as the oracle in both directions, bounds, hostile bytes."""

from __future__ import annotations

from struct import pack

import pytest
from aiortc import rtp as other
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.webrtc import rtcp
from relaymesh.webrtc.errors import RtpError

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, 0xFFFFFFFFFFFFFFFF)
report_blocks = st.builds(rtcp.ReportBlock, u32, u8, st.integers(-0x800000, 0x7FFFFF), u32, u32, u32, u32)
names = st.text(max_size=60)


def only(data: bytes) -> rtcp.RtcpPacket:
    [packet] = rtcp.parse_rtcp(data)
    return packet


def as_other(block: rtcp.ReportBlock) -> other.RtcpReceiverInfo:
    return other.RtcpReceiverInfo(
        ssrc=block.ssrc,
        fraction_lost=block.fraction_lost,
        packets_lost=block.cumulative_lost,
        highest_sequence=block.highest_sequence,
        jitter=block.jitter,
        lsr=block.last_sender_report,
        dlsr=block.delay_since_last_sender_report,
    )


@given(u32, u64, u32, u32, u32)
def test_sender_report_round_trip(ssrc, ntp, timestamp, packets, octets):
    data = rtcp.build_sender_report(ssrc, ntp, timestamp, packets, octets)
    assert only(data) == rtcp.SenderReport(ssrc, ntp, timestamp, packets, octets)
    info = other.RtcpSenderInfo(ntp, timestamp, packets, octets)
    assert other.RtcpPacket.parse(data) == [other.RtcpSrPacket(ssrc=ssrc, sender_info=info)]


@given(u32, u64, st.lists(report_blocks, max_size=4))
def test_a_sender_report_may_carry_blocks(ssrc, ntp, blocks):
    info = other.RtcpSenderInfo(ntp, 1, 2, 3)
    data = bytes(other.RtcpSrPacket(ssrc=ssrc, sender_info=info, reports=[as_other(b) for b in blocks]))
    assert only(data) == rtcp.SenderReport(ssrc, ntp, 1, 2, 3, tuple(blocks))


@given(u32, st.lists(report_blocks, max_size=5))
def test_receiver_report_round_trip(ssrc, blocks):
    data = rtcp.build_receiver_report(ssrc, blocks)
    assert only(data) == rtcp.ReceiverReport(ssrc, tuple(blocks))
    assert other.RtcpPacket.parse(data) == [other.RtcpRrPacket(ssrc, [as_other(b) for b in blocks])]


def test_more_than_31_blocks_make_more_packets():
    blocks = [rtcp.ReportBlock(i, 0, -1, 0, 0, 0, 0) for i in range(70)]
    packets = rtcp.parse_rtcp(rtcp.build_receiver_report(9, blocks))
    assert [len(p.blocks) for p in packets] == [31, 31, 8]
    assert [b for p in packets for b in p.blocks] == blocks


def test_profile_extensions_of_a_report_are_skipped():
    data = rtcp.build_packet(rtcp.RECEIVER_REPORT, 0, pack("!II", 7, 99))
    assert only(data) == rtcp.ReceiverReport(7)


@given(u32, names.filter(lambda s: len(s.encode()) <= 255))
def test_source_description_round_trip(ssrc, cname):
    data = rtcp.build_sdes(ssrc, cname)
    assert only(data) == rtcp.SourceDescription(((ssrc, cname.encode()),))
    chunk = other.RtcpPacket.parse(data)[0].chunks[0]
    assert (chunk.ssrc, chunk.items) == (ssrc, [(1, cname.encode())])


def test_source_description_of_two_chunks_with_other_items():
    # A NAME, a CNAME and their padding; then a CNAME that ends at a word, so a whole word of zeros.
    body = pack("!I", 1) + b"\2\1n" + b"\1\2ab" + b"\0" + pack("!I", 2) + b"\1\2cd" + bytes(4)
    data = rtcp.build_packet(rtcp.SOURCE_DESCRIPTION, 2, body)
    assert only(data) == rtcp.SourceDescription(((1, b"ab"), (2, b"cd")))


@given(st.lists(u32, max_size=31))
def test_bye_round_trip(ssrcs):
    data = rtcp.build_bye(ssrcs)
    assert only(data) == rtcp.Bye(tuple(ssrcs))
    assert other.RtcpPacket.parse(data) == [other.RtcpByePacket(ssrcs)]


def test_a_bye_may_give_a_reason():
    assert only(rtcp.build_packet(rtcp.BYE, 1, pack("!I", 5) + b"\3bye")) == rtcp.Bye((5,))


@given(u32, u32, st.lists(u16, min_size=1, max_size=60, unique=True).map(sorted))
def test_nack_round_trip(sender, media, sequences):
    data = rtcp.build_nack(sender, media, sequences)
    assert only(data) == rtcp.Nack(sender, media, tuple(sequences))
    [parsed] = other.RtcpPacket.parse(data)
    assert [s & 0xFFFF for s in parsed.lost] == sequences
    assert data == bytes(parsed)  # as few entries as the other encoder needs


@given(st.lists(st.integers(0, 0xFFFFF), min_size=1, max_size=40))
def test_nack_in_any_order_names_the_same_packets(sequences):
    parsed = only(rtcp.build_nack(1, 2, sequences))
    assert set(parsed.sequences) == {s & 0xFFFF for s in sequences}


def test_nack_across_the_wrap_takes_one_entry():
    data = rtcp.build_nack(1, 2, [65534, 65535, 65536, 1])
    assert data[12:] == pack("!HH", 65534, 0b111)
    assert only(data).sequences == (65534, 65535, 0, 1)


def test_nack_is_bounded():
    body = pack("!II", 1, 2) + pack("!HH", 0, 0xFFFF) * 300
    assert len(only(rtcp.build_packet(205, 1, body)).sequences) == rtcp.MAX_NACKED


@given(u32, u32)
def test_pli_round_trip(sender, media):
    data = rtcp.build_pli(sender, media)
    assert only(data) == rtcp.PictureLossIndication(sender, media)
    assert other.RtcpPacket.parse(data) == [other.RtcpPsfbPacket(other.RTCP_PSFB_PLI, sender, media)]


def test_fir_names_sources_and_commands():
    fci = pack("!IBxxx", 11, 200) + pack("!IBxxx", 12, 3)
    packet = only(bytes(other.RtcpPsfbPacket(other.RTCP_PSFB_FIR, 1, 0, fci)))
    assert packet == rtcp.FullIntraRequest(1, ((11, 200), (12, 3)))
    assert packet.ssrcs == (11, 12)


@given(u32, st.integers(0, 1 << 48), st.lists(u32, max_size=10))
def test_remb_round_trip(sender, bitrate, ssrcs):
    data = rtcp.build_remb(sender, bitrate, ssrcs)
    fci = other.pack_remb_fci(bitrate, ssrcs)
    assert data == bytes(other.RtcpPsfbPacket(other.RTCP_PSFB_APP, sender, 0, fci))
    packet = only(data)
    assert (packet.sender_ssrc, packet.ssrcs) == (sender, tuple(ssrcs))
    assert packet.bitrate == other.unpack_remb_fci(fci)[0]
    assert packet.bitrate <= bitrate < packet.bitrate + max(1, bitrate >> 17)


@given(u32, u32, st.binary(max_size=40))
def test_transport_feedback_passes_undecoded(sender, media, body):
    packet = only(rtcp.build_transport_feedback(sender, media, body))
    assert (packet.sender_ssrc, packet.media_ssrc) == (sender, media)
    assert packet.body == body + bytes(-len(body) % 4)


@pytest.mark.parametrize(
    ("packet_type", "count", "body"),
    [(204, 3, b"abcdefgh"), (207, 0, b""), (205, 8, bytes(8)), (206, 15, bytes(12)), (206, 2, bytes(8))],
)
def test_other_kinds_are_kept_as_they_are(packet_type, count, body):
    assert only(rtcp.build_packet(packet_type, count, body)) == rtcp.Unknown(packet_type, count, body)


def test_a_compound_is_split_in_order():
    data = rtcp.build_receiver_report(1, []) + rtcp.build_sdes(1, "me") + rtcp.build_nack(1, 2, [3])
    assert [type(p) for p in rtcp.parse_rtcp(data)] == [
        rtcp.ReceiverReport,
        rtcp.SourceDescription,
        rtcp.Nack,
    ]


def test_padding_is_taken_off():
    plain = rtcp.build_packet(206, 1, pack("!III", 1, 2, 4))
    assert only(bytes([plain[0] | 0x20]) + plain[1:]) == rtcp.PictureLossIndication(1, 2)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\xc9\0",
        b"\x40\xc9\0\1" + bytes(4),  # version 1
        b"\x80\xc9\0\2" + bytes(4),  # longer than it is
        b"\x80\xc9\0\0",  # a receiver report without its SSRC
        b"\x81\xc9\0\1" + bytes(4),  # one block promised
        b"\x80\xc8\0\1" + bytes(4),  # a sender report without sender info
        b"\xa0\xc9\0\0",  # padding of nothing
        b"\xa0\xc9\0\1" + bytes(4),  # padding of zero
        b"\xa0\xc9\0\1\0\0\0\5",  # padding longer than the packet
        b"\x81\xca\0\1" + bytes(4),  # a chunk without end
        b"\x81\xca\0\2" + bytes(4) + b"\1\x09ab",  # an item longer than the chunk
        b"\x82\xcb\0\1" + bytes(4),  # two sources promised
        b"\x81\xcd\0\1" + bytes(4),  # feedback on nothing
        b"\x8f\xce\0\3" + bytes(8) + b"REMB",  # REMB without a bitrate
        b"\x8f\xce\0\4" + bytes(8) + b"REMB\1\0\0\0",  # one source promised
        rtcp.build_pli(1, 2) + b"\0",  # something behind
        rtcp.build_packet(204, 0, b"") * (rtcp.MAX_PACKETS + 1),
    ],
)
def test_malformed_datagrams_are_errors(data):
    with pytest.raises(RtpError):
        rtcp.parse_rtcp(data)


def framed(packet_type: int, count: int, body: bytes) -> bytes:
    return rtcp.build_packet(packet_type, count, body + bytes(-len(body) % 4))


kinds = st.integers(199, 208)
hostile = st.one_of(
    st.binary(max_size=100),
    st.builds(framed, kinds, st.integers(0, 31), st.binary(max_size=80)),
    st.builds(
        framed, st.just(206), st.just(15), st.binary(max_size=20).map(lambda b: bytes(8) + b"REMB" + b)
    ),
)


@given(st.lists(hostile, max_size=3).map(b"".join))
def test_whatever_the_bytes_only_rtp_error(data):
    try:
        rtcp.parse_rtcp(data)
    except RtpError:
        pass


@given(st.lists(report_blocks, max_size=2), st.lists(u16, min_size=1, max_size=5), st.data())
def test_mutated_compounds_raise_only_rtp_error(blocks, sequences, data):
    whole = rtcp.build_receiver_report(1, blocks) + rtcp.build_sdes(1, "name") + rtcp.build_bye([1])
    packet = bytearray(whole + rtcp.build_nack(1, 2, sequences) + rtcp.build_remb(1, 1_000_000, [2]))
    for _ in range(data.draw(st.integers(1, 4))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(u8)
    try:
        rtcp.parse_rtcp(bytes(packet))
    except RtpError:
        pass
