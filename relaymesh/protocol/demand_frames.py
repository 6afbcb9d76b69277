"""DEMAND and LAYERS: what an edge wants of a publication, and what its ingress has.

In: frame objects; out: bytes, and back. Both are routed; both are said again while they
hold, and carry a serial, so that a late one changes nothing. Decoders raise
:class:`ProtocolError` and nothing else, whatever the bytes; encoders raise ``ValueError``
for values out of range, and :class:`ProtocolError` ``oversized``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.ids import ParticipantId, TrackId
from relaymesh.protocol.routed import DEMAND, LAYERS, read_route, routed_frame

MAX_WISHES = 64  # of one DEMAND frame
MAX_ENCODINGS = 8  # of one LAYERS frame

_DEMAND = struct.Struct("!QQHIB")  # room, participant, asking edge, serial, number of wishes
_WISH = struct.Struct("!HBB")  # track, encoding, layers
_LAYERS = struct.Struct("!QQHIBB")  # room, participant, track, serial, flags, number of encodings
_ENCODING = struct.Struct("!BBBB")  # number, flags, spatial layers, temporal layers
_MUTED = _LIVE = 1


@dataclass(frozen=True, slots=True)
class Wish:
    """One encoding that an edge wants, up to these layers."""

    track: int  # u16
    encoding: int  # u8
    spatial: int = 7  # 0..7, the highest wanted
    temporal: int = 7  # 0..7, the highest wanted


@dataclass(slots=True)
class DemandFrame:
    """All that an edge wants of a publication; goes to its ingress (the only destination)."""

    participant_id: ParticipantId
    edge: int  # u16, index of the asking node
    serial: int  # u32, one more with each of this edge for this publication
    wishes: tuple[Wish, ...]  # at most MAX_WISHES, each encoding once; empty: nothing any more
    hop_limit: int = 0
    generation: int = 0
    destinations: int = 0


@dataclass(frozen=True, slots=True)
class EncodingLayers:
    """One encoding as its ingress measures it."""

    number: int  # u8
    live: bool  # its packets come
    spatial: int  # 1..8 layers
    temporal: int  # 1..8 layers
    rates_bps: tuple[int, ...]  # u32, of the stream up to each layer: (s, t) at s × temporal + t


@dataclass(slots=True)
class LayersFrame:
    """What there is of a track; goes from its ingress to the edges that may play it."""

    track_id: TrackId
    serial: int  # u32, one more with each of this publication
    muted: bool
    encodings: tuple[EncodingLayers, ...]  # at most MAX_ENCODINGS
    hop_limit: int = 0
    generation: int = 0
    destinations: int = 0


def encode_demand(frame: DemandFrame) -> bytes:
    """The whole frame, with type and length."""
    if len(frame.wishes) > MAX_WISHES:
        raise ValueError(f"a DEMAND has at most {MAX_WISHES} wishes")
    try:
        rest = _DEMAND.pack(*frame.participant_id, frame.edge, frame.serial, len(frame.wishes))
        for wish in frame.wishes:
            if wish.spatial >> 3 or wish.temporal >> 3:
                raise ValueError("a layer is out of range")
            rest += _WISH.pack(wish.track, wish.encoding, wish.spatial << 5 | wish.temporal << 2)
    except struct.error as error:
        raise ValueError(f"demand: {error}") from None
    return routed_frame(DEMAND, frame.hop_limit, frame.generation, frame.destinations, rest)


def decode_demand(body: bytes) -> DemandFrame:
    """The demand in *body*; bytes after it are ignored (room to grow).

    Raises:
        ProtocolError: truncated, or invalid (too many wishes, or two for one encoding).
    """
    route = read_route(body)
    at = route.rest_offset + _DEMAND.size
    if len(body) < at:
        raise ProtocolError("truncated", "demand")
    room, participant, edge, serial, count = _DEMAND.unpack_from(body, route.rest_offset)
    if count > MAX_WISHES:
        raise ProtocolError("invalid", "too many wishes")
    if len(body) < at + count * _WISH.size:
        raise ProtocolError("truncated", "wishes")
    wishes = []
    for place in range(count):
        track, encoding, layers = _WISH.unpack_from(body, at + place * _WISH.size)
        wishes.append(Wish(track, encoding, layers >> 5, layers >> 2 & 7))
    if len({(wish.track, wish.encoding) for wish in wishes}) != count:
        raise ProtocolError("invalid", "two wishes for one encoding")
    return DemandFrame(ParticipantId(room, participant), edge, serial, tuple(wishes), *route[:3])


def encode_layers(frame: LayersFrame) -> bytes:
    """The whole frame, with type and length."""
    if len(frame.encodings) > MAX_ENCODINGS:
        raise ValueError(f"a LAYERS has at most {MAX_ENCODINGS} encodings")
    try:
        rest = _LAYERS.pack(*frame.track_id, frame.serial, _MUTED if frame.muted else 0, len(frame.encodings))
        for encoding in frame.encodings:
            count = encoding.spatial * encoding.temporal
            if not (1 <= encoding.spatial <= 8 and 1 <= encoding.temporal <= 8):
                raise ValueError("a number of layers is out of range")
            if len(encoding.rates_bps) != count:
                raise ValueError("a rate for each layer")
            flags = _LIVE if encoding.live else 0
            rest += _ENCODING.pack(encoding.number, flags, encoding.spatial, encoding.temporal)
            rest += struct.pack(f"!{count}I", *encoding.rates_bps)
    except struct.error as error:
        raise ValueError(f"layers: {error}") from None
    return routed_frame(LAYERS, frame.hop_limit, frame.generation, frame.destinations, rest)


def decode_layers(body: bytes) -> LayersFrame:
    """The layers in *body*; bytes after them are ignored (room to grow).

    Raises:
        ProtocolError: truncated, or invalid (numbers of layers or encodings, or two of one number).
    """
    route = read_route(body)
    at = route.rest_offset + _LAYERS.size
    if len(body) < at:
        raise ProtocolError("truncated", "layers")
    room, participant, track, serial, flags, count = _LAYERS.unpack_from(body, route.rest_offset)
    if count > MAX_ENCODINGS:
        raise ProtocolError("invalid", "too many encodings")
    encodings = []
    for _ in range(count):
        encoding, at = _decode_encoding(body, at)
        encodings.append(encoding)
    if len({encoding.number for encoding in encodings}) != count:
        raise ProtocolError("invalid", "two encodings of one number")
    track_id = TrackId(room, participant, track)
    return LayersFrame(track_id, serial, flags & _MUTED != 0, tuple(encodings), *route[:3])


def _decode_encoding(body: bytes, at: int) -> tuple[EncodingLayers, int]:
    if len(body) < at + _ENCODING.size:
        raise ProtocolError("truncated", "encoding")
    number, flags, spatial, temporal = _ENCODING.unpack_from(body, at)
    if not (1 <= spatial <= 8 and 1 <= temporal <= 8):
        raise ProtocolError("invalid", "number of layers")
    at += _ENCODING.size
    end = at + 4 * spatial * temporal
    if len(body) < end:
        raise ProtocolError("truncated", "rates")
    rates = struct.unpack_from(f"!{spatial * temporal}I", body, at)
    return EncodingLayers(number, flags & _LIVE != 0, spatial, temporal, rates), end
