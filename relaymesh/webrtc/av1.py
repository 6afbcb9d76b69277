"""A look into AV1 payloads (RTP Payload Format For AV1 v1.0 §4.4): where sequences and frames begin.

In: an RTP payload. Out: what its aggregation header and the types of its OBUs
say. What is inside an OBU is not read; layers come from the dependency
descriptor (:mod:`relaymesh.webrtc.dependency_descriptor`).
"""

from __future__ import annotations

import msgspec

from relaymesh.webrtc.errors import RtpError

#  |Z|Y| W |N|-|-|-|   Z, Y: the first / last OBU is a fragment; W: number of OBUs, 0 when each has a length
#  N: first packet of a coded video sequence
# OBU header: |F| type (4) |X|S|-|   (AV1 §5.3.2)
SEQUENCE_HEADER, TEMPORAL_DELIMITER, FRAME_HEADER, TILE_GROUP, FRAME = 1, 2, 3, 4, 6
_BEGINNINGS = {SEQUENCE_HEADER, TEMPORAL_DELIMITER, FRAME_HEADER, FRAME}
MAX_OBUS = 64  # of one packet; senders write a handful


class Av1Packet(msgspec.Struct, frozen=True, gc=False):
    """The aggregation of one packet."""

    continues: bool  # Z: the first OBU began in an earlier packet
    continued: bool  # Y: the last one goes on in the next
    sequence_start: bool  # N
    types: tuple[int, ...]  # of the OBUs that begin here

    @property
    def keyframe(self) -> bool:
        """A decoder can begin with this packet: as N says, or because a sequence header begins here."""
        return not self.continues and (self.sequence_start or SEQUENCE_HEADER in self.types)

    @property
    def begins_frame(self) -> bool:
        """Probably the first packet of a frame; surely only the dependency descriptor knows."""
        return not self.continues and bool(self.types) and self.types[0] in _BEGINNINGS


def parse_packet(payload: bytes) -> Av1Packet:
    """The aggregation of *payload*.

    Raises:
        RtpError: empty, an OBU that does not fit, or more than ``MAX_OBUS``.
    """
    if not payload:
        raise RtpError("an empty AV1 payload")
    header = payload[0]
    count = header >> 4 & 0x03
    continues = header & 0x80 != 0
    types: list[int] = []
    at, end, number = 1, len(payload), 0
    while at < end:
        number += 1
        if number > MAX_OBUS:
            raise RtpError("too many AV1 OBUs in a packet")
        size = end - at
        if count == 0 or number < count:
            size, at = _leb128(payload, at)
        if size > end - at:
            raise RtpError("an AV1 OBU does not fit")
        if size and not (number == 1 and continues):
            types.append(payload[at] >> 3 & 0x0F)
        at += size
    if number == 0 or number < count:
        raise RtpError("an AV1 packet without its OBUs")
    return Av1Packet(continues, header & 0x40 != 0, header & 0x08 != 0, tuple(types))


def _leb128(payload: bytes, at: int) -> tuple[int, int]:
    """A length and the offset behind it (AV1 §4.10.5)."""
    value = 0
    for shift in range(0, 35, 7):
        if at >= len(payload):
            break
        byte = payload[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise RtpError("a malformed length in an AV1 payload")
