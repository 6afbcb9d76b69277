"""The rows of the packet benchmarks and the packets of their feed.

In: text like ``400b8``. Out: a :class:`Row`; RTP packets of a VP8 stream that every part of a relay
forwards, stamped so that a receiver can tell loss and delay. It knows no clock and no socket.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from struct import Struct

from relaymesh.netsim.synthetic_rtp import PAYLOAD_TYPES, VP8_HEAD, vp8_head
from relaymesh.webrtc.rtp import build_extensions, build_rtp

PAYLOAD_BYTES = 1200
KEYFRAME_EVERY_S = 2.0
CLOCK_RATE = 90_000  # of video's RTP timestamps
SSRC, RTX_SSRC = 0x10F0, 0x10F1
_STAMP = Struct("!Qd")  # index of the packet, time of sending (seconds since 1970)
_PADDING = bytes(PAYLOAD_BYTES - VP8_HEAD.size - _STAMP.size)
MEDIA_BYTES = 1000  # an RTP packet that is longer is one of ours, and no probe of padding


@dataclass(frozen=True, slots=True)
class Row:
    """How the feed is paced: *rate* packets a second, in bursts of *burst*; a burst is a frame."""

    rate: int
    burst: int = 1

    def __str__(self) -> str:
        return f"{self.rate}/s" if self.burst == 1 else f"{self.rate}/s b{self.burst}"

    @property
    def interval(self) -> float:
        """Seconds between bursts."""
        return self.burst / self.rate


ROWS = (Row(100), Row(400), Row(400, 8), Row(1000, 16))
HOP_ROWS = (Row(400, 8), Row(5000, 16))


def parse_row(text: str) -> Row:
    """``RATE`` or ``RATEbBURST``, as in 400 and 400b8.

    Raises:
        ValueError: it is neither, or out of range.
    """
    found = re.fullmatch(r"(\d{1,6})(?:b(\d{1,3}))?", text.strip())
    rate, burst = (int(found[1]), int(found[2] or 1)) if found else (0, 0)
    if not (rate >= 1 and 1 <= burst <= 256 and burst <= rate):
        raise ValueError(f"{text!r} is no row; write 400 for 400 packets/s, 400b8 for bursts of 8")
    return Row(rate, burst)


class Feed:
    """A VP8 stream without end: one temporal layer, a keyframe now and then."""

    def __init__(self, transport_id: int | None = None) -> None:
        """*transport_id*: of the header extension of transport-wide sequence numbers, if there is one."""
        self.packets = 0  # so far
        self.octets = 0  # of payload
        self.timestamp = 0  # of the next frame
        self.wants_keyframe = True
        self._transport_id = transport_id
        self._frames = 0
        self._last_keyframe = 0.0

    def frame(self, row: Row, sent_at: float) -> list[bytes]:
        """The RTP packets of the next burst, sent at *sent_at* (seconds since 1970)."""
        keyframe = self.wants_keyframe or sent_at - self._last_keyframe >= KEYFRAME_EVERY_S
        if keyframe:
            self.wants_keyframe, self._last_keyframe = False, sent_at
        packets = []
        for place in range(row.burst):
            head = vp8_head(self._frames, place, keyframe, self._frames, 0)
            payload = head + _STAMP.pack(self.packets, sent_at) + _PADDING
            extensions = b""
            if self._transport_id is not None:
                number = (self.packets & 0xFFFF).to_bytes(2, "big")
                extensions = build_extensions([(self._transport_id, number)])
            packets.append(
                build_rtp(
                    PAYLOAD_TYPES["VP8"], place == row.burst - 1, self.packets, self.timestamp, SSRC,
                    payload, extensions,
                )
            )  # fmt: skip
            self.packets += 1
            self.octets += len(payload)
        self._frames += 1
        self.timestamp = self.timestamp + round(CLOCK_RATE * row.interval) & 0xFFFFFFFF
        return packets


def read_stamp(payload: bytes) -> tuple[int, float] | None:
    """(index of the packet, time of sending) in a payload of the feed; ``None``: it is none."""
    if len(payload) != PAYLOAD_BYTES:
        return None
    index, sent_at = _STAMP.unpack_from(payload, VP8_HEAD.size)
    return index, sent_at


def header_extension(packet: bytes | bytearray, identifier: int) -> int | None:
    """The two-byte value of a header element (RFC 8285 §4.2, one-byte form); SRTP leaves it in clear."""
    if not packet[0] & 0x10:
        return None
    at = 12 + (packet[0] & 0x0F) * 4
    if packet[at] != 0xBE or packet[at + 1] != 0xDE:
        return None
    end = at + 4 + 4 * (packet[at + 2] << 8 | packet[at + 3])
    at += 4
    while at < end:
        element = packet[at]
        if element >> 4 == identifier:
            return packet[at + 1] << 8 | packet[at + 2]
        at += 1 if element == 0 else 2 + (element & 0x0F)
    return None
