"""Rows of what a session sends: one packet for one player, less what is known only when its turn comes.

In: a sender's numbers, a payload. Out: the RTP packet, once its transport-wide number and the time are given.
Knows nothing of encodings, layers or pacing.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Literal

import msgspec

from relaymesh.webrtc.rtp import ONE_BYTE_PROFILE, abs_send_time, build_extensions, build_rtp

RTP_OVERHEAD = 20  # bytes of header and extension
PADDING_BYTES = 255  # as much as one packet can say
U16 = Struct("!H")
# RFC 8285 §4.2: profile, words, id and length − 1, the number, one byte of padding.
TRANSPORT_NUMBER_ONLY = Struct("!HHBHx")


@dataclass(frozen=True, slots=True)
class EgressNumbers:
    """What identifies this copy of the track towards the player; all random but the ids."""

    ssrc: int
    rtx_ssrc: int | None
    first_sequence: int  # 16 bits
    first_rtx_sequence: int  # 16 bits
    transport_id: int | None  # RTP extension id for the transport-wide sequence number
    extension_ids: dict[int, int]  # frame extension kind → the player's RTP extension id
    send_time_id: int | None = None  # RTP extension id for the absolute send time
    block_type: int | None = None  # payload type of what is inside, where the player takes RED

    @property
    def tells_path(self) -> bool:
        """Whether packets carry what their player needs to tell of the path."""
        return self.transport_id is not None or self.send_time_id is not None


Sent = Literal["audio", "video", "retransmission", "padding"]


class EgressRow(msgspec.Struct, gc=False):
    """One packet as a player is to get it, less what is known only when its turn comes.

    That is the transport-wide sequence number, which must rise in the order of sending, and the time.
    """

    kind: Sent
    payload_type: int
    marker: bool
    sequence: int  # 16 bits
    timestamp: int  # 32 bits, RTP units
    ssrc: int
    payload: bytes
    extensions: tuple[tuple[int, bytes], ...]  # (the player's identifier, value)
    transport_id: int | None  # identifier for the transport-wide sequence number
    send_time_id: int | None = None  # identifier for the absolute send time
    padding_bytes: int = 0

    @property
    def size_bytes(self) -> int:
        """Payload and RTP header, roughly: for pacing."""
        return len(self.payload) + self.padding_bytes + RTP_OVERHEAD

    def build(self, transport_sequence: int | None, sent_at: float) -> bytes:
        """The RTP packet, sent at *sent_at* (s); *transport_sequence* where it has an identifier for one."""
        items = list(self.extensions)
        if self.send_time_id is not None:
            items.append((self.send_time_id, abs_send_time(sent_at)))
        if transport_sequence is None or self.transport_id is None:
            extensions = build_extensions(items)
        elif not items:  # nearly every video packet
            extensions = TRANSPORT_NUMBER_ONLY.pack(
                ONE_BYTE_PROFILE, 1, self.transport_id << 4 | 1, transport_sequence
            )
        else:
            extensions = build_extensions((*items, (self.transport_id, U16.pack(transport_sequence))))
        packet = build_rtp(
            self.payload_type,
            self.marker,
            self.sequence,
            self.timestamp,
            self.ssrc,
            self.payload,
            extensions,
        )
        if not self.padding_bytes:
            return packet
        # RFC 3550 §5.1: P, and the last byte says how many there are.
        return (
            bytes((packet[0] | 0x20,))
            + packet[1:]
            + bytes(self.padding_bytes - 1)
            + bytes((self.padding_bytes,))
        )
