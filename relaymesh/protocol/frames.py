"""Frames: what a sealed datagram carries.

In: frame objects; out: bytes, and back. A plaintext is one or more frames,
each ``u8 type, u16 length of the body, body``; all numbers are big-endian,
only bit strings are little-endian. Types 0x10-0x1f are *routed*: their body
begins with a header that a transit node reads (:func:`read_route`) and rewrites
(:func:`reroute`) without looking at the rest, so that it can also forward
types it does not know.

Decoders raise :class:`ProtocolError` and nothing else, whatever the bytes.
Encoders raise ``ValueError`` for values out of range (our own mistake), and
:class:`ProtocolError` ``oversized`` for what does not fit a datagram (a
publisher can cause that). Nothing here knows tables, links or time.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from relaymesh.protocol.bitstring import encode_set
from relaymesh.protocol.datagram import MAX_PLAINTEXT_BYTES
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.ids import TrackId

PROBE = 0x01
ECHO = 0x02
ACK = 0x04
REPAIR = 0x05
RETRANSMISSION = 0x06
CONTROL = 0x08
CONTROL_ACK = 0x09
CONTROL_RESET = 0x0A
MEDIA = 0x10
CLOCK = 0x11
KEYFRAME_REQUEST = 0x12
DETOUR = 0x13
SKIP = 0x14
ROUTED_FIRST, ROUTED_LAST = 0x10, 0x1F

HOP_LIMIT = 16  # stamped at the ingress; no sane path is longer
MAX_FRAME_BYTES = MAX_PLAINTEXT_BYTES  # with type and length

EXTENSION_AUDIO_LEVEL = 1  # 1 byte, as RFC 6464
EXTENSION_VIDEO_ORIENTATION = 2  # 1 byte, CVO (3GPP TS 26.114)
_EXTENSION_LENGTHS = {EXTENSION_AUDIO_LEVEL: 1, EXTENSION_VIDEO_ORIENTATION: 1}

_FLAG_KEYFRAME, _FLAG_MARKER, _FLAG_AUDIO, _FLAG_DISCARDABLE = 1, 2, 4, 8
_FLAG_COPY, _FLAG_ENTRY = 0x40, 0x80

_FRAME = struct.Struct("!BH")  # type, length of the body
_ROUTE = struct.Struct("!BBI")  # hop limit, bytes of bit string, generation
_FRAME_ROUTE = struct.Struct("!BHBBI")  # both in one
_STREAM = struct.Struct("!QQHB")  # room, participant, track, encoding
_MEDIA = struct.Struct("!QQHBBBIIB")  # stream, flags, layers, sequence, timestamp, bytes of extensions
_FLAGS_OFFSET = _FRAME_ROUTE.size + _STREAM.size  # of MEDIA's flags in a whole frame, less its bit string
_HOP = struct.Struct("!H")  # node index, of a detour
_SKIP = struct.Struct("!IHB")
_CLOCK = struct.Struct("!QQHBQI")  # stream, NTP time, RTP timestamp
_PROBE = struct.Struct("!IQ")
_ECHO = struct.Struct("!IQII")


@dataclass(slots=True)
class MediaFrame:
    """One media packet of one encoding; also its shape inside a node, between ingress and egress."""

    track_id: TrackId
    encoding: int  # u8, 0 = the lowest simulcast encoding
    sequence: int  # u32, per encoding, starts anywhere and wraps
    timestamp: int  # u32, RTP units as published
    payload: bytes  # the RTP payload as it came
    keyframe: bool = False  # the first packet of a keyframe
    marker: bool = False  # RTP M: the last packet of a frame
    audio: bool = False
    discardable: bool = False  # no other frame refers to this one
    priority: int = 0  # class 0..3
    spatial: int = 0  # layer 0..7
    temporal: int = 0  # layer 0..7
    extensions: tuple[tuple[int, bytes], ...] = ()  # (kind, value)
    hop_limit: int = 0  # links it may still cross, the one ahead included
    generation: int = 0  # u32, of the tables it was stamped with
    destinations: int = 0  # set of edge nodes, see bitstring
    copy: bool = False  # it may have arrived another way already, and is no duplicate then
    entry: bool = False  # a decoder can take up this layer with this picture


@dataclass(slots=True)
class ClockFrame:
    """How the timestamps of one encoding relate to wall time, from the publisher's sender report."""

    track_id: TrackId
    encoding: int
    ntp: int  # u64, NTP time: seconds since 1900 in 32.32 fixed point
    timestamp: int  # u32, RTP units, the same instant
    hop_limit: int = 0
    generation: int = 0
    destinations: int = 0


@dataclass(slots=True)
class KeyframeRequest:
    """An edge asks the ingress node (the only destination) for a keyframe of one encoding."""

    track_id: TrackId
    encoding: int
    hop_limit: int = 0
    generation: int = 0
    destinations: int = 0


@dataclass(slots=True)
class SkipFrame:
    """Packets of an encoding that a short link left out on purpose: no loss, and not to be waited for."""

    track_id: TrackId
    encoding: int
    first: int  # u32, sequence
    packets: int  # u16, from the first on
    pictures: int  # u8, how many pictures end among them
    hop_limit: int = 0
    generation: int = 0
    destinations: int = 0


@dataclass(frozen=True, slots=True)
class Probe:
    """Asks the neighbour for an :class:`Echo`."""

    sequence: int  # u32, one more with each probe of this sender on this link
    sent_at_us: int  # u64, microseconds of the sender's clock; the peer only copies it
    deaf: bool = False  # the sender hears nothing from the peer any more


@dataclass(frozen=True, slots=True)
class Echo:
    """Answers one :class:`Probe`."""

    sequence: int  # of the probe
    sent_at_us: int  # of the probe
    probes_received: int  # u32, probes the echoing side had received by then, this one included
    probe_highest: int  # u32, the highest probe sequence it had received by then


class Route(NamedTuple):
    """What a transit node needs of a routed frame."""

    hop_limit: int
    generation: int
    destinations: int  # set of nodes, never empty
    rest_offset: int  # bytes of the body before the stream header


# --- the sequence of frames ----------------------------------------------------------------------


def split_frames(plaintext: bytes) -> list[tuple[int, bytes]]:
    """The frames of a plaintext as (type, body), in order; at least one.

    Raises:
        ProtocolError: malformed (empty) or truncated (shorter than its lengths say).
    """
    end = len(plaintext)
    if not end:
        raise ProtocolError("malformed", "no frame")
    frames = []
    offset = 0
    while offset < end:
        if end - offset < 3:
            raise ProtocolError("truncated", "frame header")
        kind, length = _FRAME.unpack_from(plaintext, offset)
        start = offset + 3
        offset = start + length
        if offset > end:
            raise ProtocolError("truncated", f"frame of type {kind:#04x}")
        frames.append((kind, plaintext[start:offset]))
    return frames


# --- routed frames -------------------------------------------------------------------------------


def read_route(body: bytes) -> Route:
    """The routed header of *body*; the rest is not looked at.

    Raises:
        ProtocolError: truncated, or invalid (nobody is addressed).
    """
    size = len(body)
    if size < 6:
        raise ProtocolError("truncated", "routed header")
    hop_limit, length, generation = _ROUTE.unpack_from(body)
    end = 6 + length
    if size < end:
        raise ProtocolError("truncated", "bit string")
    destinations = int.from_bytes(body[6:end], "little")
    if not destinations:
        raise ProtocolError("invalid", "no destination")
    return Route(hop_limit, generation, destinations, end)


def reroute(frame_type: int, body: bytes, route: Route, destinations: int) -> bytes:
    """The frame to send on: one hop fewer, *destinations* (not empty) in the header, the rest as it came.

    Raises:
        ProtocolError: invalid, when no hop is left.
        ValueError: *destinations* is empty or no node set.
    """
    if route.hop_limit <= 1:
        raise ProtocolError("invalid", "hop limit is spent")
    rest = body[route.rest_offset :]
    return _routed(frame_type, route.hop_limit - 1, route.generation, destinations, rest)


def readdress(frame_type: int, body: bytes, route: Route, destinations: int) -> bytes:
    """The frame of *body* as it would be sent, for *destinations* (not empty) only; no hop is spent.

    Raises:
        ValueError: *destinations* is empty or no node set.
    """
    return _routed(frame_type, route.hop_limit, route.generation, destinations, body[route.rest_offset :])


def as_copy(frame: bytes) -> bytes:
    """A MEDIA *frame* (whole, as it would be sent) that says it may have arrived another way already."""
    at = _FLAGS_OFFSET + frame[4]
    return frame[:at] + bytes((frame[at] | _FLAG_COPY,)) + frame[at + 1 :]


def detour(frame: bytes, hops: Sequence[int]) -> bytes:
    """A routed *frame* (whole, as it would be sent) put on its way by *hops*.

    *hops* are the nodes it must visit after the neighbour it is sent to; the
    last of them gets it as it was before. Without any it stays as it is.

    Raises:
        ProtocolError: oversized.
        ValueError: a hop is no node index.
    """
    if not hops:
        return frame
    offset = 9 + frame[4]
    try:
        segments = bytes((len(hops),)) + b"".join(map(_HOP.pack, hops)) + frame[:1]
    except struct.error as error:
        raise ValueError(f"detour: {error}") from None
    length = len(frame) - 3 + len(segments)
    if length + 3 > MAX_FRAME_BYTES:
        raise ProtocolError("oversized", f"detour of {length + 3} bytes")
    return _FRAME.pack(DETOUR, length) + frame[3:offset] + segments + frame[offset:]


def follow_detour(body: bytes, route: Route) -> tuple[int, bytes]:
    """(the neighbour that comes next, the frame to send it) for a DETOUR's *body*: one hop fewer.

    Raises:
        ProtocolError: truncated; invalid, when no hop is left or what is inside is not routed.
    """
    offset = route.rest_offset
    count = body[offset] if len(body) > offset else 0
    end = offset + 2 + 2 * count  # behind the inner type
    if len(body) < end:
        raise ProtocolError("truncated", "hops of a detour")
    inner = body[end - 1]
    if not count or not ROUTED_FIRST <= inner <= ROUTED_LAST or inner == DETOUR or route.hop_limit <= 1:
        raise ProtocolError("invalid", "detour")
    [hop] = _HOP.unpack_from(body, offset + 1)
    header = bytes((route.hop_limit - 1,)) + body[1:offset]
    if count == 1:
        kind, rest = inner, body[end:]
    else:
        kind, rest = DETOUR, bytes((count - 1,)) + body[offset + 3 :]
    return hop, _FRAME.pack(kind, len(header) + len(rest)) + header + rest


def encode_media(frame: MediaFrame) -> bytes:
    """The whole frame, with type and length.

    Raises:
        ValueError: a field is out of its range, or no destination is given.
        ProtocolError: oversized.
    """
    if frame.priority >> 2 or frame.spatial >> 3 or frame.temporal >> 3:
        raise ValueError("priority, spatial or temporal layer is out of range")
    flags = frame.priority << 4
    if frame.keyframe:
        flags |= _FLAG_KEYFRAME
    if frame.marker:
        flags |= _FLAG_MARKER
    if frame.audio:
        flags |= _FLAG_AUDIO
    if frame.discardable:
        flags |= _FLAG_DISCARDABLE
    if frame.copy:
        flags |= _FLAG_COPY
    if frame.entry:
        flags |= _FLAG_ENTRY
    layers = frame.spatial << 5 | frame.temporal << 2
    extensions = _encode_extensions(frame.extensions) if frame.extensions else b""
    room, participant, track = frame.track_id
    try:
        rest = (
            _MEDIA.pack(
                room,
                participant,
                track,
                frame.encoding,
                flags,
                layers,
                frame.sequence,
                frame.timestamp,
                len(extensions),
            )
            + extensions
            + frame.payload
        )
    except struct.error as error:
        raise ValueError(f"media frame: {error}") from None
    return _routed(MEDIA, frame.hop_limit, frame.generation, frame.destinations, rest)


def decode_media(body: bytes) -> MediaFrame:
    """The media frame in *body*.

    Raises:
        ProtocolError: truncated, malformed or invalid.
    """
    hop_limit, generation, destinations, offset = read_route(body)
    start = offset + _MEDIA.size
    if len(body) < start:
        raise ProtocolError("truncated", "media header")
    room, participant, track, encoding, flags, layers, sequence, timestamp, extra = _MEDIA.unpack_from(
        body, offset
    )
    extensions: tuple[tuple[int, bytes], ...] = ()
    if extra:
        end = start + extra
        if len(body) < end:
            raise ProtocolError("truncated", "extensions")
        extensions = _decode_extensions(body[start:end])
        start = end
    return MediaFrame(
        TrackId(room, participant, track),
        encoding,
        sequence,
        timestamp,
        body[start:],
        flags & _FLAG_KEYFRAME != 0,
        flags & _FLAG_MARKER != 0,
        flags & _FLAG_AUDIO != 0,
        flags & _FLAG_DISCARDABLE != 0,
        flags >> 4 & 3,
        layers >> 5,
        layers >> 2 & 7,
        extensions,
        hop_limit,
        generation,
        destinations,
        flags & _FLAG_COPY != 0,
        flags & _FLAG_ENTRY != 0,
    )


def encode_clock(frame: ClockFrame) -> bytes:
    """The whole frame, with type and length. Raises ``ValueError`` for a field out of its range."""
    try:
        rest = _CLOCK.pack(*frame.track_id, frame.encoding, frame.ntp, frame.timestamp)
    except struct.error as error:
        raise ValueError(f"clock frame: {error}") from None
    return _routed(CLOCK, frame.hop_limit, frame.generation, frame.destinations, rest)


def decode_clock(body: bytes) -> ClockFrame:
    """The clock frame in *body*; bytes after it are ignored (room to grow).

    Raises:
        ProtocolError: truncated or invalid.
    """
    route = read_route(body)
    if len(body) < route.rest_offset + _CLOCK.size:
        raise ProtocolError("truncated", "clock")
    room, participant, track, encoding, ntp, timestamp = _CLOCK.unpack_from(body, route.rest_offset)
    track_id = TrackId(room, participant, track)
    return ClockFrame(track_id, encoding, ntp, timestamp, *route[:3])


def encode_keyframe_request(frame: KeyframeRequest) -> bytes:
    """The whole frame, with type and length. Raises ``ValueError`` for a field out of its range."""
    try:
        rest = _STREAM.pack(*frame.track_id, frame.encoding)
    except struct.error as error:
        raise ValueError(f"keyframe request: {error}") from None
    return _routed(KEYFRAME_REQUEST, frame.hop_limit, frame.generation, frame.destinations, rest)


def decode_keyframe_request(body: bytes) -> KeyframeRequest:
    """The keyframe request in *body*; bytes after it are ignored (room to grow).

    Raises:
        ProtocolError: truncated or invalid.
    """
    route = read_route(body)
    if len(body) < route.rest_offset + _STREAM.size:
        raise ProtocolError("truncated", "keyframe request")
    room, participant, track, encoding = _STREAM.unpack_from(body, route.rest_offset)
    return KeyframeRequest(TrackId(room, participant, track), encoding, *route[:3])


def encode_skip(frame: SkipFrame) -> bytes:
    """The whole frame, with type and length. Raises ``ValueError`` for a field out of its range."""
    try:
        rest = _STREAM.pack(*frame.track_id, frame.encoding)
        rest += _SKIP.pack(frame.first, frame.packets, frame.pictures)
    except struct.error as error:
        raise ValueError(f"skip: {error}") from None
    return _routed(SKIP, frame.hop_limit, frame.generation, frame.destinations, rest)


def decode_skip(body: bytes) -> SkipFrame:
    """The skip in *body*; bytes after it are ignored (room to grow).

    Raises:
        ProtocolError: truncated or invalid (nothing is skipped).
    """
    route = read_route(body)
    start = route.rest_offset + _STREAM.size
    if len(body) < start + _SKIP.size:
        raise ProtocolError("truncated", "skip")
    room, participant, track, encoding = _STREAM.unpack_from(body, route.rest_offset)
    first, packets, pictures = _SKIP.unpack_from(body, start)
    if not packets or pictures > packets:
        raise ProtocolError("invalid", "skip")
    return SkipFrame(TrackId(room, participant, track), encoding, first, packets, pictures, *route[:3])


class MediaTag(NamedTuple):
    """What a link must know of a MEDIA frame it may leave out."""

    stream: bytes  # room, participant, track, encoding
    layer: int  # spatial × 8 + temporal
    sequence: int  # u32
    end: bool  # the last packet of its picture
    entry: bool  # a decoder can take up the layer with it


def is_enhancement(frame: bytes) -> bool:
    """Whether a whole *frame* is MEDIA of class 3."""
    if frame[0] != MEDIA:
        return False
    at = _FLAGS_OFFSET + frame[4]
    return len(frame) > at and frame[at] & 0x30 == 0x30


def read_tag(frame: bytes) -> MediaTag:
    """Of a whole MEDIA *frame* that :func:`is_enhancement` said yes to. Raises :class:`ProtocolError`."""
    at = _FLAGS_OFFSET + frame[4]
    if len(frame) < at + 6:
        raise ProtocolError("truncated", "media header")
    flags = frame[at]
    entry = flags & (_FLAG_ENTRY | _FLAG_KEYFRAME | _FLAG_DISCARDABLE) != 0
    sequence = int.from_bytes(frame[at + 2 : at + 6], "big")
    return MediaTag(
        frame[at - _STREAM.size : at], frame[at + 1] >> 2, sequence, flags & _FLAG_MARKER != 0, entry
    )


def skip_like(frame: bytes, first: int, packets: int, pictures: int) -> bytes:
    """The SKIP that goes where a whole MEDIA *frame* would have gone."""
    end = _FLAGS_OFFSET + frame[4]
    length = end - 3 + _SKIP.size
    return _FRAME.pack(SKIP, length) + frame[3:end] + _SKIP.pack(first, packets, pictures)


# --- link-local frames ---------------------------------------------------------------------------


def encode_probe(probe: Probe) -> bytes:
    """The whole frame, with type and length."""
    flags = b"\x01" if probe.deaf else b""
    body = _PROBE.pack(probe.sequence, probe.sent_at_us) + flags
    return _FRAME.pack(PROBE, len(body)) + body


def decode_probe(body: bytes) -> Probe:
    """The probe in *body*; bytes after its flags are ignored. Raises :class:`ProtocolError` (truncated)."""
    size = _PROBE.size
    if len(body) < size:
        raise ProtocolError("truncated", "probe")
    sequence, sent_at_us = _PROBE.unpack_from(body)
    return Probe(sequence, sent_at_us, len(body) > size and body[size] & 1 == 1)


def encode_echo(echo: Echo) -> bytes:
    """The whole frame, with type and length."""
    return _FRAME.pack(ECHO, _ECHO.size) + _ECHO.pack(
        echo.sequence, echo.sent_at_us, echo.probes_received, echo.probe_highest
    )


def decode_echo(body: bytes) -> Echo:
    """The echo in *body*; bytes after it are ignored. Raises :class:`ProtocolError` (truncated)."""
    if len(body) < _ECHO.size:
        raise ProtocolError("truncated", "echo")
    return Echo(*_ECHO.unpack_from(body))


# --- pieces --------------------------------------------------------------------------------------


def _routed(kind: int, hop_limit: int, generation: int, destinations: int, rest: bytes) -> bytes:
    bits = encode_set(destinations)
    length = 6 + len(bits) + len(rest)
    if length + 3 > MAX_FRAME_BYTES:
        raise ProtocolError("oversized", f"frame of {length + 3} bytes")
    if not bits:
        raise ValueError("a routed frame needs a destination")
    try:
        return _FRAME_ROUTE.pack(kind, length, hop_limit, len(bits), generation) + bits + rest
    except struct.error as error:
        raise ValueError(f"routed header: {error}") from None


def _encode_extensions(extensions: tuple[tuple[int, bytes], ...]) -> bytes:
    block = b""
    for kind, value in extensions:
        length = len(value)
        if not 0 <= kind <= 255 or length > 255 or _EXTENSION_LENGTHS.get(kind, length) != length:
            raise ValueError(f"extension of kind {kind}, {length} bytes")
        block += bytes((kind, length)) + value
    return block


def _decode_extensions(block: bytes) -> tuple[tuple[int, bytes], ...]:
    found = []
    offset, end = 0, len(block)
    while offset < end:
        if end - offset < 2:
            raise ProtocolError("malformed", "extension header")
        kind, length = block[offset], block[offset + 1]
        start = offset + 2
        offset = start + length
        if offset > end:
            raise ProtocolError("malformed", "extension value")
        if _EXTENSION_LENGTHS.get(kind, length) != length:
            raise ProtocolError("malformed", f"extension {kind} of {length} bytes")
        found.append((kind, block[start:offset]))
    return tuple(found)
