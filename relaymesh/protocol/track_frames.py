"""Routed frames about tracks, beside their media: clocks, keyframe requests, packets left out.

In: frame objects; out: bytes, and back. Decoders raise :class:`ProtocolError` and nothing else, whatever the
bytes; encoders raise ``ValueError`` for values out of range.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.ids import TrackId
from relaymesh.protocol.media_frames import SKIP_BODY, STREAM
from relaymesh.protocol.routed import CLOCK, KEYFRAME_REQUEST, SKIP, read_route, routed_frame

_CLOCK = struct.Struct("!QQHBQI")  # stream, NTP time, RTP timestamp


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


def encode_clock(frame: ClockFrame) -> bytes:
    """The whole frame, with type and length. Raises ``ValueError`` for a field out of its range."""
    try:
        rest = _CLOCK.pack(*frame.track_id, frame.encoding, frame.ntp, frame.timestamp)
    except struct.error as error:
        raise ValueError(f"clock frame: {error}") from None
    return routed_frame(CLOCK, frame.hop_limit, frame.generation, frame.destinations, rest)


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
        rest = STREAM.pack(*frame.track_id, frame.encoding)
    except struct.error as error:
        raise ValueError(f"keyframe request: {error}") from None
    return routed_frame(KEYFRAME_REQUEST, frame.hop_limit, frame.generation, frame.destinations, rest)


def decode_keyframe_request(body: bytes) -> KeyframeRequest:
    """The keyframe request in *body*; bytes after it are ignored (room to grow).

    Raises:
        ProtocolError: truncated or invalid.
    """
    route = read_route(body)
    if len(body) < route.rest_offset + STREAM.size:
        raise ProtocolError("truncated", "keyframe request")
    room, participant, track, encoding = STREAM.unpack_from(body, route.rest_offset)
    return KeyframeRequest(TrackId(room, participant, track), encoding, *route[:3])


def encode_skip(frame: SkipFrame) -> bytes:
    """The whole frame, with type and length. Raises ``ValueError`` for a field out of its range."""
    try:
        rest = STREAM.pack(*frame.track_id, frame.encoding)
        rest += SKIP_BODY.pack(frame.first, frame.packets, frame.pictures)
    except struct.error as error:
        raise ValueError(f"skip: {error}") from None
    return routed_frame(SKIP, frame.hop_limit, frame.generation, frame.destinations, rest)


def decode_skip(body: bytes) -> SkipFrame:
    """The skip in *body*; bytes after it are ignored (room to grow).

    Raises:
        ProtocolError: truncated or invalid (nothing is skipped).
    """
    route = read_route(body)
    start = route.rest_offset + STREAM.size
    if len(body) < start + SKIP_BODY.size:
        raise ProtocolError("truncated", "skip")
    room, participant, track, encoding = STREAM.unpack_from(body, route.rest_offset)
    first, packets, pictures = SKIP_BODY.unpack_from(body, start)
    if not packets or pictures > packets:
        raise ProtocolError("invalid", "skip")
    return SkipFrame(TrackId(room, participant, track), encoding, first, packets, pictures, *route[:3])
