"""DEMAND and LAYERS: what an edge wants of a publication, and what its ingress has.

In: frame objects; out: bytes, and back. Both are whole sets, not changes, so that the newest is all
that counts. How long they hold and who keeps them, nodes know.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from relaymesh.protocol.bitstring import MAX_INDEX
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.frames.kinds import DEMAND, LAYERS
from relaymesh.protocol.frames.routed import encode_routed, read_route
from relaymesh.protocol.ids import ParticipantId, TrackId

MAX_WISHES = 64  # in one DEMAND
MAX_ENCODINGS = 8  # in one LAYERS
MAX_LAYERS_EACH = 8  # spatial, and temporal, of an encoding

_DEMAND = struct.Struct("!QQHIB")  # room, participant, edge, serial, count
_WISH = struct.Struct("!HBB")  # track, encoding, layers
_LAYERS = struct.Struct("!QQHIBB")  # room, participant, track, serial, flags, count
_ENCODING = struct.Struct("!BBBB")  # number, flags, spatial layers, temporal layers
_FLAG_MUTED = _FLAG_LIVE = 1


@dataclass(frozen=True, slots=True)
class Wish:
    """An encoding that somebody at the edge takes, and its highest layers wanted."""

    track: int  # u16
    encoding: int  # u8
    spatial: int = 7  # 0..7, the highest wanted
    temporal: int = 7  # 0..7, the highest wanted


@dataclass(slots=True)
class DemandFrame:
    """All that one edge wants of one publication; said to its ingress node, the only destination."""

    participant_id: ParticipantId
    edge: int  # node index
    serial: int  # u32, rises with each of this edge for this publication
    wishes: tuple[Wish, ...]  # at most MAX_WISHES, one for each track and encoding; none withdraws all
    hop_limit: int = 0
    generation: int = 0
    destinations: int = 0


@dataclass(frozen=True, slots=True)
class EncodingLayers:
    """One encoding of a track as its ingress sees it."""

    number: int  # u8, as in MEDIA
    live: bool  # packets of it come
    spatial: int  # how many layers, 1..8
    temporal: int  # how many layers, 1..8
    rates_bps: tuple[int, ...]  # u32 each, up to and including (spatial s, temporal t), s-major

    def rate_bps(self, spatial: int, temporal: int) -> int:
        """The rate up to and including these layers, or the highest there are below."""
        return self.rates_bps[
            min(spatial, self.spatial - 1) * self.temporal + min(temporal, self.temporal - 1)
        ]


@dataclass(slots=True)
class LayersFrame:
    """All encodings of one track; said by its ingress node to the edges that may take it."""

    track_id: TrackId
    serial: int  # u32, rises with each of this track
    muted: bool
    encodings: tuple[EncodingLayers, ...]  # at most MAX_ENCODINGS
    hop_limit: int = 0
    generation: int = 0
    destinations: int = 0


def encode_demand(frame: DemandFrame) -> bytes:
    """The whole frame, with type and length. Raises ``ValueError`` for a field out of its range."""
    wishes = frame.wishes
    if not 0 <= frame.edge <= MAX_INDEX or len(wishes) > MAX_WISHES:
        raise ValueError("demand: the edge is no node index, or there are too many wishes")
    if len({(wish.track, wish.encoding) for wish in wishes}) < len(wishes):
        raise ValueError("demand: an encoding is wished for twice")
    if any(wish.spatial >> 3 or wish.temporal >> 3 for wish in wishes):
        raise ValueError("demand: a layer is out of range")
    try:
        rest = _DEMAND.pack(*frame.participant_id, frame.edge, frame.serial, len(wishes)) + b"".join(
            _WISH.pack(wish.track, wish.encoding, wish.spatial << 5 | wish.temporal << 2) for wish in wishes
        )
    except struct.error as error:
        raise ValueError(f"demand: {error}") from None
    return encode_routed(DEMAND, frame.hop_limit, frame.generation, frame.destinations, rest)


def decode_demand(body: bytes) -> DemandFrame:
    """The demand in *body*; bytes after it are ignored (room to grow).

    Raises:
        ProtocolError: truncated or invalid (no edge, too many wishes, an encoding twice).
    """
    *route, head = read_route(body)
    start = head + _DEMAND.size
    if len(body) < start:
        raise ProtocolError("truncated", "demand")
    room, participant, edge, serial, count = _DEMAND.unpack_from(body, head)
    if edge > MAX_INDEX or count > MAX_WISHES:
        raise ProtocolError("invalid", "demand")
    end = start + count * _WISH.size
    if len(body) < end:
        raise ProtocolError("truncated", "wishes of a demand")
    wishes = tuple(
        Wish(track, encoding, layers >> 5, layers >> 2 & 7)
        for track, encoding, layers in _WISH.iter_unpack(body[start:end])
    )
    if len({(wish.track, wish.encoding) for wish in wishes}) < count:
        raise ProtocolError("invalid", "encoding wished for twice")
    return DemandFrame(ParticipantId(room, participant), edge, serial, wishes, *route)


def encode_layers(frame: LayersFrame) -> bytes:
    """The whole frame, with type and length.

    Raises:
        ValueError: a field is out of its range.
        ProtocolError: oversized.
    """
    encodings = frame.encodings
    if len(encodings) > MAX_ENCODINGS or len({encoding.number for encoding in encodings}) < len(encodings):
        raise ValueError("layers: too many encodings, or one twice")
    try:
        rest = _LAYERS.pack(*frame.track_id, frame.serial, frame.muted, len(encodings))
        rest += b"".join(map(_encode_encoding, encodings))
    except struct.error as error:
        raise ValueError(f"layers: {error}") from None
    return encode_routed(LAYERS, frame.hop_limit, frame.generation, frame.destinations, rest)


def _encode_encoding(encoding: EncodingLayers) -> bytes:
    spatial, temporal, rates = encoding.spatial, encoding.temporal, encoding.rates_bps
    if not (1 <= spatial <= MAX_LAYERS_EACH and 1 <= temporal <= MAX_LAYERS_EACH):
        raise ValueError("layers: their number is out of range")
    if len(rates) != spatial * temporal:
        raise ValueError("layers: a rate for each layer is needed")
    head = _ENCODING.pack(encoding.number, encoding.live, spatial, temporal)
    return head + struct.pack(f"!{len(rates)}I", *rates)


def decode_layers(body: bytes) -> LayersFrame:
    """The layers in *body*; bytes after them are ignored (room to grow).

    Raises:
        ProtocolError: truncated or invalid (no layer, too many, an encoding twice).
    """
    *route, head = read_route(body)
    offset = head + _LAYERS.size
    if len(body) < offset:
        raise ProtocolError("truncated", "layers")
    room, participant, track, serial, flags, count = _LAYERS.unpack_from(body, head)
    if count > MAX_ENCODINGS:
        raise ProtocolError("invalid", f"{count} encodings")
    encodings: list[EncodingLayers] = []
    for _ in range(count):
        encoding, offset = _decode_encoding(body, offset)
        encodings.append(encoding)
    if len({encoding.number for encoding in encodings}) < count:
        raise ProtocolError("invalid", "encoding told twice")
    track_id = TrackId(room, participant, track)
    return LayersFrame(track_id, serial, flags & _FLAG_MUTED != 0, tuple(encodings), *route)


def _decode_encoding(body: bytes, offset: int) -> tuple[EncodingLayers, int]:
    """The encoding at *offset*, and the offset behind it."""
    start = offset + _ENCODING.size
    if len(body) < start:
        raise ProtocolError("truncated", "encoding of layers")
    number, flags, spatial, temporal = _ENCODING.unpack_from(body, offset)
    if not (1 <= spatial <= MAX_LAYERS_EACH and 1 <= temporal <= MAX_LAYERS_EACH):
        raise ProtocolError("invalid", f"{spatial} × {temporal} layers")
    count = spatial * temporal
    end = start + 4 * count
    if len(body) < end:
        raise ProtocolError("truncated", "rates of layers")
    rates = struct.unpack_from(f"!{count}I", body, start)
    return EncodingLayers(number, flags & _FLAG_LIVE != 0, spatial, temporal, rates), end
