"""RTCP: reports, feedback and goodbyes (RFC 3550 §6, RFC 4585 §6, RFC 5104 §4.3, REMB).

In: one compound or reduced-size RTCP datagram (RFC 5506), after SRTCP. Out:
typed packets; and the other way round, one function per packet we send, whose
results may be joined into a compound. Knows nothing of who sends or wants
what, nor of time: NTP values are passed through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from struct import Struct

from relaymesh.webrtc.errors import RtpError

MAX_PACKETS = 128  # in one datagram; a real compound has a handful
MAX_NACKED = 1024  # sequence numbers taken from one NACK: as much as a sender keeps
MAX_BLOCKS = 31  # report blocks in one packet: five bits

SENDER_REPORT, RECEIVER_REPORT, SOURCE_DESCRIPTION, BYE = 200, 201, 202, 203
TRANSPORT_LAYER_FEEDBACK, PAYLOAD_SPECIFIC_FEEDBACK = 205, 206
_FMT_NACK, _FMT_TRANSPORT_CC = 1, 15  # of transport layer feedback
_FMT_PLI, _FMT_FIR, _FMT_APPLICATION = 1, 4, 15  # of payload-specific feedback
_CNAME = 1  # SDES item

# |V=2|P| count/FMT |      type     |  length in words, minus one   |
_HEADER = Struct("!BBH")
_U32 = Struct("!I")
_TWO_SSRCS = Struct("!II")  # sender, media source: RFC 4585 §6.1
_NACK_ENTRY = Struct("!HH")  # packet identifier, bit mask of the 16 after it: RFC 4585 §6.2.1
# sender SSRC, NTP time, RTP time, packets, octets: RFC 3550 §6.4.1
_SENDER_INFO = Struct("!IQIII")
# SSRC, fraction (8) and total (24) of loss, highest sequence, jitter, LSR, DLSR: RFC 3550 §6.4.1
_BLOCK = Struct("!IIIIII")


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """How one source is received (RFC 3550 §6.4.1)."""

    ssrc: int  # the source reported on
    fraction_lost: int  # since the last report, in 1/256
    cumulative_lost: int  # packets, signed 24 bits: duplicates make it negative
    highest_sequence: int  # extended to 32 bits
    jitter: int  # in units of the RTP timestamp
    last_sender_report: int  # middle 32 bits of its NTP time; 0 before the first
    delay_since_last_sender_report: int  # in 1/65536 s


@dataclass(frozen=True, slots=True)
class SenderReport:
    """A sender's clocks and counters (RFC 3550 §6.4.1)."""

    ssrc: int
    ntp: int  # 64 bits, 32.32 seconds since 1900
    rtp_timestamp: int  # the same instant in RTP units
    packet_count: int
    octet_count: int  # of payload
    blocks: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    """What a peer that sends nothing receives (RFC 3550 §6.4.2)."""

    ssrc: int
    blocks: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """The canonical names of sources (RFC 3550 §6.5); other items are left out."""

    cnames: tuple[tuple[int, bytes], ...]  # (SSRC, name as it came)


@dataclass(frozen=True, slots=True)
class Bye:
    """Sources that stop (RFC 3550 §6.6)."""

    ssrcs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Nack:
    """Packets a receiver misses (RFC 4585 §6.2.1)."""

    sender_ssrc: int
    media_ssrc: int
    sequences: tuple[int, ...]  # 16 bits each, in the order named, at most MAX_NACKED


@dataclass(frozen=True, slots=True)
class PictureLossIndication:
    """A receiver needs a keyframe (RFC 4585 §6.3.1)."""

    sender_ssrc: int
    media_ssrc: int


@dataclass(frozen=True, slots=True)
class FullIntraRequest:
    """Keyframes asked for by command (RFC 5104 §4.3.1)."""

    sender_ssrc: int
    entries: tuple[
        tuple[int, int], ...
    ]  # (media SSRC, command number: 8 bits, a repeated one is no new command)

    @property
    def ssrcs(self) -> tuple[int, ...]:
        """The sources asked."""
        return tuple(ssrc for ssrc, _ in self.entries)


@dataclass(frozen=True, slots=True)
class Remb:
    """The bitrate a receiver believes it can take (draft-alvestrand-rmcat-remb-03 §2.2)."""

    sender_ssrc: int
    bitrate: int  # bit/s
    ssrcs: tuple[int, ...]  # the sources that share it


@dataclass(frozen=True, slots=True)
class TransportFeedback:
    """Transport-wide arrival times, undecoded: see ``twcc.parse_transport_feedback``."""

    sender_ssrc: int
    media_ssrc: int
    body: bytes  # what follows the two SSRCs


@dataclass(frozen=True, slots=True)
class Unknown:
    """A well-framed packet of a kind this module does not read."""

    packet_type: int
    count: int  # the five bits of count or format
    body: bytes  # what follows the four-byte header, without padding


RtcpPacket = (
    SenderReport
    | ReceiverReport
    | SourceDescription
    | Bye
    | Nack
    | PictureLossIndication
    | FullIntraRequest
    | Remb
    | TransportFeedback
    | Unknown
)


def parse_rtcp(data: bytes) -> list[RtcpPacket]:
    """The packets of one datagram, in order; a kind not known here comes as :class:`Unknown`.

    Raises:
        RtpError: the framing or one of the known packets is malformed; nothing of the datagram is to be used.
    """
    packets: list[RtcpPacket] = []
    at, size = 0, len(data)
    while True:
        if at + 4 > size:
            raise RtpError("truncated RTCP header")
        if len(packets) == MAX_PACKETS:
            raise RtpError("too many RTCP packets in one datagram")
        first, packet_type, words = _HEADER.unpack_from(data, at)
        end = at + 4 + (words << 2)
        if first >> 6 != 2 or end > size:
            raise RtpError("not RTCP version 2, or truncated")
        body = data[at + 4 : end]
        if first & 0x20:
            padding = body[-1] if body else 0
            if not 0 < padding <= len(body):
                raise RtpError("RTCP padding does not fit")
            body = body[:-padding]
        parse = _PARSERS.get(packet_type)
        count = first & 0x1F
        packets.append(parse(count, body) if parse else Unknown(packet_type, count, body))
        at = end
        if at == size:
            return packets


def _need(body: bytes, size: int) -> None:
    if len(body) < size:
        raise RtpError(f"an RTCP packet of {len(body)} bytes where {size} are needed")


def _parse_blocks(count: int, body: bytes, at: int) -> tuple[ReportBlock, ...]:
    """*count* blocks from *at* on; what follows them is a profile's own (RFC 3550 §6.4.3)."""
    _need(body, at + count * _BLOCK.size)
    blocks = []
    for start in range(at, at + count * _BLOCK.size, _BLOCK.size):
        ssrc, loss, highest, jitter, last, delay = _BLOCK.unpack_from(body, start)
        total = loss & 0xFFFFFF
        if total & 0x800000:
            total -= 0x1000000
        blocks.append(ReportBlock(ssrc, loss >> 24, total, highest, jitter, last, delay))
    return tuple(blocks)


def _parse_sender_report(count: int, body: bytes) -> SenderReport:
    blocks = _parse_blocks(count, body, _SENDER_INFO.size)
    ssrc, ntp, rtp_timestamp, packets, octets = _SENDER_INFO.unpack_from(body)
    return SenderReport(ssrc, ntp, rtp_timestamp, packets, octets, blocks)


def _parse_receiver_report(count: int, body: bytes) -> ReceiverReport:
    blocks = _parse_blocks(count, body, 4)
    return ReceiverReport(_U32.unpack_from(body)[0], blocks)


def _parse_source_description(count: int, body: bytes) -> SourceDescription:
    cnames = []
    at = 0
    for _ in range(count):
        _need(body, at + 4)
        ssrc = _U32.unpack_from(body, at)[0]
        at += 4
        while True:
            _need(body, at + 1)
            item = body[at]
            if item == 0:  # the end of a chunk, padded to a word
                at = (at + 4) & ~3
                break
            _need(body, at + 2)
            end = at + 2 + body[at + 1]
            _need(body, end)
            if item == _CNAME:
                cnames.append((ssrc, body[at + 2 : end]))
            at = end
    return SourceDescription(tuple(cnames))


def _parse_bye(count: int, body: bytes) -> Bye:
    _need(body, 4 * count)
    return Bye(tuple(_U32.unpack_from(body, 4 * i)[0] for i in range(count)))


def _parse_transport_layer_feedback(count: int, body: bytes) -> RtcpPacket:
    _need(body, 8)
    sender, media = _TWO_SSRCS.unpack_from(body)
    if count == _FMT_NACK:
        return Nack(sender, media, _parse_nacked(body))
    if count == _FMT_TRANSPORT_CC:
        return TransportFeedback(sender, media, body[8:])
    return Unknown(TRANSPORT_LAYER_FEEDBACK, count, body)


def _parse_nacked(body: bytes) -> tuple[int, ...]:
    sequences: list[int] = []
    for at in range(8, len(body) - 3, 4):
        sequence, mask = _NACK_ENTRY.unpack_from(body, at)
        sequences.append(sequence)
        while mask:
            sequence += 1
            if mask & 1:
                sequences.append(sequence & 0xFFFF)
            mask >>= 1
        if len(sequences) >= MAX_NACKED:
            break
    return tuple(sequences[:MAX_NACKED])


def _parse_payload_specific_feedback(count: int, body: bytes) -> RtcpPacket:
    _need(body, 8)
    sender, media = _TWO_SSRCS.unpack_from(body)
    if count == _FMT_PLI:
        return PictureLossIndication(sender, media)
    if count == _FMT_FIR:
        entries = (_TWO_SSRCS.unpack_from(body, at) for at in range(8, len(body) - 7, 8))
        return FullIntraRequest(sender, tuple((ssrc, number >> 24) for ssrc, number in entries))
    if count == _FMT_APPLICATION and body[8:12] == b"REMB":
        return _parse_remb(sender, body)
    return Unknown(PAYLOAD_SPECIFIC_FEEDBACK, count, body)


def _parse_remb(sender: int, body: bytes) -> Remb:
    _need(body, 16)
    value = int.from_bytes(body[13:16], "big")  # exponent: 6 bits, mantissa: 18 bits
    count = body[12]
    _need(body, 16 + 4 * count)
    ssrcs = tuple(_U32.unpack_from(body, 16 + 4 * i)[0] for i in range(count))
    return Remb(sender, (value & 0x3FFFF) << (value >> 18), ssrcs)


_PARSERS: dict[int, Callable[[int, bytes], RtcpPacket]] = {
    SENDER_REPORT: _parse_sender_report,
    RECEIVER_REPORT: _parse_receiver_report,
    SOURCE_DESCRIPTION: _parse_source_description,
    BYE: _parse_bye,
    TRANSPORT_LAYER_FEEDBACK: _parse_transport_layer_feedback,
    PAYLOAD_SPECIFIC_FEEDBACK: _parse_payload_specific_feedback,
}


def build_packet(packet_type: int, count: int, body: bytes) -> bytes:
    """Any RTCP packet: *body*, of whole words, behind a header."""
    assert len(body) % 4 == 0, "RTCP counts in words"
    return _HEADER.pack(0x80 | count, packet_type, len(body) >> 2) + body


def _pack_block(block: ReportBlock) -> bytes:
    return _BLOCK.pack(
        block.ssrc,
        block.fraction_lost << 24 | block.cumulative_lost & 0xFFFFFF,
        block.highest_sequence,
        block.jitter,
        block.last_sender_report,
        block.delay_since_last_sender_report,
    )


def build_sender_report(ssrc: int, ntp: int, rtp_timestamp: int, packets: int, octets: int) -> bytes:
    """A sender report without report blocks: *ntp* 64 bits, *packets* and *octets* 32 bits."""
    return build_packet(SENDER_REPORT, 0, _SENDER_INFO.pack(ssrc, ntp, rtp_timestamp, packets, octets))


def build_receiver_report(ssrc: int, blocks: Sequence[ReportBlock]) -> bytes:
    """Receiver reports from *ssrc*: one packet, or one more for every 31 blocks (RFC 3550 §6.1)."""
    packets = []
    for start in range(0, max(len(blocks), 1), MAX_BLOCKS):
        part = blocks[start : start + MAX_BLOCKS]
        body = _U32.pack(ssrc) + b"".join(map(_pack_block, part))
        packets.append(build_packet(RECEIVER_REPORT, len(part), body))
    return b"".join(packets)


def build_sdes(ssrc: int, cname: str) -> bytes:
    """The canonical name of *ssrc*, at most 255 bytes of UTF-8."""
    name = cname.encode()
    chunk = _U32.pack(ssrc) + bytes((_CNAME, len(name))) + name
    return build_packet(SOURCE_DESCRIPTION, 1, chunk + bytes(4 - len(chunk) % 4))


def build_bye(ssrcs: Sequence[int]) -> bytes:
    """A goodbye of at most 31 sources."""
    return build_packet(BYE, len(ssrcs), b"".join(map(_U32.pack, ssrcs)))


def build_nack(sender_ssrc: int, media_ssrc: int, sequences: Iterable[int]) -> bytes:
    """Ask again for *sequences* (taken modulo 2¹⁶), at least one; oldest first they need the fewest bytes."""
    entries: list[tuple[int, int]] = []
    for sequence in sequences:
        if entries:
            first, mask = entries[-1]
            distance = (sequence - first) & 0xFFFF
            if distance <= 16:
                entries[-1] = (first, mask | 1 << distance >> 1)
                continue
        entries.append((sequence & 0xFFFF, 0))
    assert entries, "a NACK names at least one packet"
    body = b"".join(_NACK_ENTRY.pack(*entry) for entry in entries)
    return build_packet(TRANSPORT_LAYER_FEEDBACK, _FMT_NACK, _TWO_SSRCS.pack(sender_ssrc, media_ssrc) + body)


def build_pli(sender_ssrc: int, media_ssrc: int) -> bytes:
    """Ask for a keyframe."""
    return build_packet(PAYLOAD_SPECIFIC_FEEDBACK, _FMT_PLI, _TWO_SSRCS.pack(sender_ssrc, media_ssrc))


def build_remb(sender_ssrc: int, bitrate: int, ssrcs: Sequence[int]) -> bytes:
    """Cap *ssrcs* (at most 255) at *bitrate* bit/s together, rounded down to 18 significant bits."""
    exponent = max(bitrate.bit_length() - 18, 0)
    value = exponent << 18 | bitrate >> exponent
    body = _TWO_SSRCS.pack(sender_ssrc, 0) + b"REMB" + bytes((len(ssrcs),)) + value.to_bytes(3, "big")
    body += b"".join(map(_U32.pack, ssrcs))
    return build_packet(PAYLOAD_SPECIFIC_FEEDBACK, _FMT_APPLICATION, body)


def build_transport_feedback(sender_ssrc: int, media_ssrc: int, body: bytes) -> bytes:
    """Transport-wide feedback around *body*, of any length; padded with zeros as its draft has it."""
    whole = _TWO_SSRCS.pack(sender_ssrc, media_ssrc) + body
    return build_packet(TRANSPORT_LAYER_FEEDBACK, _FMT_TRANSPORT_CC, whole + bytes(-len(whole) % 4))
