"""RTP packets and their header extensions (RFC 3550 §5.1, RFC 8285), and what a datagram is (RFC 7983).

In: plain bytes, after SRTP. Out: a packet's fields, or bytes. This runs once
per packet, so it copies little and keeps no state. It knows nothing of
codecs, of SDP, or of which extension number stands for which URI here.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Literal

import msgspec

from relaymesh.webrtc.errors import RtpError

MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
RID = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
REPAIRED_RID = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
ABS_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
TRANSPORT_CC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
VIDEO_ORIENTATION = "urn:3gpp:video-orientation"
DEPENDENCY_DESCRIPTOR = (
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
)

#  0                   1                   2                   3
# |V=2|P|X|  CC   |M|     PT      |       sequence number         |
# |                           timestamp                           |
# |           synchronization source (SSRC) identifier            |
_HEADER = Struct("!BBHII")
_EXTENSION_HEADER = Struct("!HH")  # profile, length in 32-bit words

HEADER_BYTES = 12
ONE_BYTE_PROFILE = 0xBEDE  # RFC 8285 §4.2
TWO_BYTE_PROFILE = 0x1000  # RFC 8285 §4.3; the low four bits are "appbits"

NO_EXTENSIONS: dict[int, bytes] = {}  # shared by all packets without any: never written to


class RtpPacket(msgspec.Struct, gc=False):
    """One RTP packet. Its contributing sources (CSRC) are skipped, its padding is taken off.

    Not frozen: a retransmission is unwrapped in place.
    """

    payload_type: int  # 0 … 127
    marker: bool
    sequence: int  # 16 bits
    timestamp: int  # 32 bits, in units of the codec's clock
    ssrc: int
    extensions: dict[int, bytes]  # local identifier → value; empty for profiles other than RFC 8285's
    payload: bytes
    padding_only: bool  # nothing but padding: a bandwidth probe, not media


def parse_rtp(data: bytes) -> RtpPacket:
    """The packet in *data* (RFC 3550 §5.1).

    Raises:
        RtpError: not RTP version 2, truncated, or padding or extensions that do not fit.
    """
    size = len(data)
    if size < HEADER_BYTES:
        raise RtpError("an RTP packet has at least 12 bytes")
    first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(data)
    if first >> 6 != 2:
        raise RtpError("not RTP version 2")
    start = HEADER_BYTES + ((first & 0x0F) << 2)
    extensions = NO_EXTENSIONS
    if first & 0x10:
        if start + 4 > size:
            raise RtpError("truncated extension header")
        profile, words = _EXTENSION_HEADER.unpack_from(data, start)
        begin = start + 4
        start = begin + (words << 2)
        if start > size:
            raise RtpError("truncated extensions")
        extensions = _parse_extensions(data, profile, begin, start)
    end = size
    if first & 0x20:
        padding = data[-1]
        end -= padding
        if padding == 0 or end < start:
            raise RtpError("padding does not fit")
    elif start > size:
        raise RtpError("truncated list of contributing sources")
    return RtpPacket(
        second & 0x7F,
        second > 0x7F,
        sequence,
        timestamp,
        ssrc,
        extensions,
        data[start:end],
        start == end and size > end,
    )


def _parse_extensions(data: bytes, profile: int, at: int, end: int) -> dict[int, bytes]:
    """The elements between *at* and *end*; the first of several with one identifier counts."""
    found: dict[int, bytes] = {}
    if profile == ONE_BYTE_PROFILE:
        while at < end:
            byte = data[at]
            at += 1
            if byte == 0:
                continue
            identifier = byte >> 4
            if identifier in (0, 15):
                break  # RFC 8285 §4.2: what follows either of them is not to be read
            after = at + (byte & 0x0F) + 1
            if after > end:
                raise RtpError("truncated extension element")
            found.setdefault(identifier, data[at:after])
            at = after
    elif profile & 0xFFF0 == TWO_BYTE_PROFILE:
        while at < end:
            identifier = data[at]
            at += 1
            if identifier == 0:
                continue
            if at >= end or (after := at + 1 + data[at]) > end:
                raise RtpError("truncated extension element")
            found.setdefault(identifier, data[at + 1 : after])
            at = after
    return found


def build_rtp(
    payload_type: int,
    marker: bool,
    sequence: int,
    timestamp: int,
    ssrc: int,
    payload: bytes,
    extensions: bytes = b"",
) -> bytes:
    """A packet without contributing sources and padding.

    *sequence* and *timestamp* are taken modulo 2¹⁶ and 2³², so extended numbers
    may be given; *extensions* is a block from :func:`build_extensions`.
    """
    return (
        _HEADER.pack(
            0x90 if extensions else 0x80,
            payload_type | 0x80 if marker else payload_type,
            sequence & 0xFFFF,
            timestamp & 0xFFFFFFFF,
            ssrc,
        )
        + extensions
        + payload
    )


def build_extensions(items: Iterable[tuple[int, bytes]]) -> bytes:
    """The extension block of *items* (identifier 1 … 255, value of up to 255 bytes); ``b""`` for none.

    One-byte elements, unless one needs the two-byte form: an identifier above 14,
    an empty value, or one of more than 16 bytes (RFC 8285 §4.2).
    """
    pairs = list(items)
    if not pairs:
        return b""
    body = bytearray()
    wide = any(identifier > 14 or not 1 <= len(value) <= 16 for identifier, value in pairs)
    for identifier, value in pairs:
        assert 1 <= identifier <= 255, "extension identifiers come from a parsed offer"
        if wide:
            body += bytes((identifier, len(value)))
        else:
            body.append(identifier << 4 | len(value) - 1)
        body += value
    body += bytes(-len(body) % 4)
    return _EXTENSION_HEADER.pack(TWO_BYTE_PROFILE if wide else ONE_BYTE_PROFILE, len(body) >> 2) + body


def is_rtcp(data: bytes) -> bool:
    """Whether an RTP-like datagram is RTCP: by its second byte (RFC 5761 §4)."""
    return len(data) > 1 and 192 <= data[1] <= 223


def classify(data: bytes) -> Literal["stun", "dtls", "rtp", "rtcp"] | None:
    """Which protocol a datagram on the shared port speaks (RFC 7983 §7, RFC 5761 §4), if one of these."""
    if not data:
        return None
    first = data[0]
    if 128 <= first <= 191:
        return "rtcp" if is_rtcp(data) else "rtp"
    if first <= 3:
        return "stun"
    return "dtls" if 20 <= first <= 63 else None


def peek_ssrc(data: bytes) -> int | None:
    """The SSRC of an RTP packet, or of who sent an RTCP packet; None for what is too short for one.

    SRTP and SRTCP leave it in the clear (RFC 3711 §3.1, §3.4), so sessions that share a client's
    address can be told apart before anything is opened. It proves nothing.
    """
    offset = 4 if is_rtcp(data) else 8
    if len(data) < offset + 4 or data[0] >> 6 != 2:
        return None
    return int.from_bytes(data[offset : offset + 4], "big")


def rtx_unwrap(payload: bytes) -> tuple[int, bytes]:
    """(original sequence number, original payload) of a retransmission (RFC 4588 §4).

    Raises:
        RtpError: no room for a sequence number. A probe made of padding is one such.
    """
    if len(payload) < 2:
        raise RtpError("a retransmission names the original sequence number")
    return payload[0] << 8 | payload[1], payload[2:]


def abs_send_time(now: float) -> bytes:
    """The value of the absolute send time extension: *now* in seconds as 6.18 fixed point, modulo 64 s."""
    return (int(now * 262144) & 0xFFFFFF).to_bytes(3, "big")
