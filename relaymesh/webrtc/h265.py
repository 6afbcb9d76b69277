"""A look into H265 payloads (RFC 7798): which units begin in a packet, and whether they begin a keyframe.

In: an RTP payload, without DONL fields (``sprop-max-don-diff`` is 0, as WebRTC
has it). Out: what begins in it. Of a slice one bit is read, of a parameter
set its number.
"""

from __future__ import annotations

from relaymesh.webrtc.errors import RtpError
from relaymesh.webrtc.nal import ExpGolomb, NalPacket, Unit, rbsp, split_aggregate

# NAL unit types: of H.265 table 7-1, and of RFC 7798 §4.4 from 48 on
IDR_W_RADL = 19
VPS, SPS, PPS, DELIMITER = 32, 33, 34, 35
PREFIX_SEI = 39
AGGREGATE, FRAGMENT = 48, 49
_HEADERS = {VPS, SPS, PPS, DELIMITER, PREFIX_SEI}
PARAMETER_SETS = (VPS, SPS, PPS)  # in the order in which a decoder wants them
_HEADER_BYTES = 2

#  |F|   Type (6)  | LayerId (6) | TID + 1 (3) |   the header of units and payloads
#  |S|E| FuType (6) |                              of a fragment, behind it


def unit_type(unit: bytes) -> int:
    """The type in the header of a unit, or of a payload."""
    return unit[0] >> 1 & 0x3F


def units(payload: bytes) -> list[Unit]:
    """The units that begin in *payload*: one, those of an aggregate, or the first piece of a fragmented one.

    Raises:
        RtpError: shorter than a header, or an aggregate or fragment that is cut short.
    """
    if len(payload) <= _HEADER_BYTES:
        raise RtpError("an empty H265 payload")
    kind = unit_type(payload)
    if kind == AGGREGATE:
        found = split_aggregate(payload, _HEADER_BYTES)
        if any(len(unit.data) < _HEADER_BYTES for unit in found):
            raise RtpError("an aggregated unit without its header")
        return found
    if kind == FRAGMENT:
        if not payload[2] & 0x80:
            return []
        head = bytes((payload[0] & 0x81 | (payload[2] & 0x3F) << 1, payload[1]))
        return [Unit(head + payload[3:], False)]
    return [Unit(payload, True)]


def fragment(payload: bytes) -> tuple[int, bool, bytes] | None:
    """(type, last, bytes) of a piece that is not a unit's first; ``None`` for any other payload."""
    if len(payload) <= _HEADER_BYTES or unit_type(payload) != FRAGMENT or payload[2] & 0x80:
        return None
    return payload[2] & 0x3F, payload[2] & 0x40 != 0, payload[3:]


def aggregate(parts: list[bytes]) -> bytes:
    """The payload that carries all of *parts* (§4.4.2): layer and temporal id are the lowest of theirs."""
    layer = min((part[0] & 1) << 5 | part[1] >> 3 for part in parts)
    temporal = min(part[1] & 0x07 for part in parts)
    head = bytes((AGGREGATE << 1 | layer >> 5, (layer & 0x1F) << 3 | temporal))
    return head + b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def parse_packet(payload: bytes) -> NalPacket:
    """What begins in *payload*.

    Raises:
        RtpError: as :func:`units`.
    """
    parameter_sets = first_slice = random_access = False
    found = units(payload)
    kinds = [unit_type(unit.data) for unit in found]
    for kind, unit in zip(kinds, found, strict=True):
        if kind == SPS:
            parameter_sets = True
        elif kind < VPS and len(unit.data) > _HEADER_BYTES and unit.data[2] & 0x80:
            # first_slice_segment_in_pic_flag is the first bit behind the header (H.265 §7.3.6.1)
            first_slice = True
            random_access = random_access or 16 <= kind <= 23  # IRAP: BLA, IDR, CRA
    slice_type = _slice_type(payload, kinds)
    temporal = max(payload[1] & 0x07, 1) - 1
    return NalPacket(
        parameter_sets,
        bool(kinds) and kinds[0] in _HEADERS,
        first_slice,
        random_access,
        # An even type below 16 is no reference within its own temporal layer; above layer 0 it may be
        # one for a higher layer, so only a reader that knows the highest can call it discardable.
        slice_type is not None and slice_type < 16 and slice_type % 2 == 0,
        temporal,
        slice_type is not None and slice_type in (2, 3, 4, 5),  # TSA and STSA: temporal sub-layer access
    )


def _slice_type(payload: bytes, kinds: list[int]) -> int | None:
    """The type of the slices in *payload*; ``None`` without any."""
    if unit_type(payload) == FRAGMENT:
        kinds = [payload[2] & 0x3F]
    return next((kind for kind in kinds if kind < VPS), None)


def parameter_set_number(unit: bytes) -> int:
    """The number by which a VPS, SPS or PPS is referred to (H.265 §7.3.2).

    Raises:
        RtpError: truncated, or beyond the standard's bounds.
    """
    kind = unit_type(unit)
    bits = ExpGolomb(rbsp(unit), _HEADER_BYTES * 8)
    if kind == VPS:
        return bits.take(4)
    if kind == SPS:
        bits.take(4)
        sub_layers = bits.take(3)
        bits.take(1)
        _skip_profile_tier_level(bits, sub_layers)
    number = bits.number()
    if number > (15 if kind == SPS else 63):
        raise RtpError("a parameter set beyond H265's bounds")
    return number


def _skip_profile_tier_level(bits: ExpGolomb, sub_layers: int) -> None:
    """Skip profile_tier_level(1, *sub_layers*) (§7.3.3)."""
    bits.take(88)  # general profile
    bits.take(8)  # general level
    if sub_layers == 0:
        return
    present = [(bits.take(1), bits.take(1)) for _ in range(8)][:sub_layers]  # with what is reserved up to 8
    for profile, level in present:
        bits.take(88 * profile + 8 * level)
