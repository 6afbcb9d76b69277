"""A look into H264 payloads (RFC 6184): which units begin in a packet, and whether they begin a keyframe.

In: an RTP payload. Out: what begins in it. Of a slice one bit is read, of a
parameter set its number.
"""

from __future__ import annotations

from relaymesh.webrtc.errors import RtpError
from relaymesh.webrtc.nal import ExpGolomb, NalPacket, Unit, rbsp, split_aggregate

# NAL unit types: of H.264 table 7-1, and of RFC 6184 §5.2 from 24 on
SLICE, PARTITION_A, PARTITION_B, PARTITION_C, IDR, SEI, SPS, PPS, DELIMITER = range(1, 10)
STAP_A, FU_A = 24, 28
_SLICES = {SLICE, PARTITION_A, IDR}
_HEADERS = {SEI, SPS, PPS, DELIMITER}
PARAMETER_SETS = (SPS, PPS)  # in the order in which a decoder wants them


def unit_type(unit: bytes) -> int:
    """The type in the header of a unit, or of a payload."""
    return unit[0] & 0x1F


def units(payload: bytes) -> list[Unit]:
    """The units that begin in *payload*: one, those of an aggregate, or the first piece of a fragmented one.

    Raises:
        RtpError: empty, or an aggregate or fragment that is cut short.
    """
    if not payload:
        raise RtpError("an empty H264 payload")
    kind = unit_type(payload)
    if kind == STAP_A:
        return split_aggregate(payload, 1)
    if kind == FU_A:
        #  |S|E|R|  Type   |   RFC 6184 §5.8
        if len(payload) < 2:
            raise RtpError("a fragment without its header")
        if not payload[1] & 0x80:
            return []
        return [Unit(bytes((payload[0] & 0xE0 | payload[1] & 0x1F,)) + payload[2:], False)]
    return [Unit(payload, True)]


def fragment(payload: bytes) -> tuple[int, bool, bytes] | None:
    """(type, last, bytes) of a piece that is not a unit's first; ``None`` for any other payload."""
    if len(payload) < 2 or unit_type(payload) != FU_A or payload[1] & 0x80:
        return None
    return payload[1] & 0x1F, payload[1] & 0x40 != 0, payload[2:]


def aggregate(parts: list[bytes]) -> bytes:
    """The payload that carries all of *parts* (STAP-A, §5.7.1)."""
    importance = max(part[0] & 0x60 for part in parts)
    return bytes((importance | STAP_A,)) + b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def parse_packet(payload: bytes) -> NalPacket:
    """What begins in *payload*.

    Raises:
        RtpError: as :func:`units`.
    """
    parameter_sets = first_slice = random_access = False
    found = units(payload)
    for unit in found:
        kind = unit.data[0] & 0x1F
        if kind == SPS:
            parameter_sets = True
        elif kind in _SLICES and len(unit.data) > 1 and unit.data[1] & 0x80:
            # first_mb_in_slice is 0: in Exp-Golomb a single set bit (H.264 §7.3.3)
            first_slice = True
            random_access = random_access or kind == IDR
    # nal_ref_idc of every unit: an aggregate's header has the highest of its units, a fragment's its own
    kind = unit_type(payload)
    headers = bool(found) and found[0].data[0] & 0x1F in _HEADERS
    discardable = payload[0] & 0x60 == 0 and kind not in _HEADERS and not headers
    return NalPacket(parameter_sets, headers, first_slice, random_access, discardable)


def is_keyframe(payload: bytes) -> bool:
    """Whether *payload* begins an IDR picture, or the parameter sets (SPS) that come before one.

    Both a keyframe's SPS and its first slice say yes when they come in two packets.

    Raises:
        RtpError: as :func:`units`.
    """
    packet = parse_packet(payload)
    return packet.parameter_sets or packet.random_access


def parameter_set_number(unit: bytes) -> int:
    """The number by which an SPS or PPS is referred to (H.264 §7.3.2).

    Raises:
        RtpError: truncated, or beyond the standard's bounds.
    """
    kind = unit_type(unit)
    # An SPS has profile_idc, constraint flags and level_idc before it.
    number = ExpGolomb(rbsp(unit), 32 if kind == SPS else 8).number()
    if number > (31 if kind == SPS else 255):
        raise RtpError("a parameter set beyond H264's bounds")
    return number
