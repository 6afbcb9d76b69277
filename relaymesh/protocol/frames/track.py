"""The companions of an encoding's MEDIA: CLOCK, KEYFRAME_REQUEST and SKIP.

In: frame objects; out: bytes, and back. The stream header, which MEDIA has too, stands here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.frames.kinds import CLOCK, FRAME, KEYFRAME_REQUEST, SKIP
from relaymesh.protocol.frames.routed import BITS_LENGTH_OFFSET, ROUTED_HEAD_BYTES, encode_routed, read_route
from relaymesh.protocol.ids import TrackId

_STREAM = struct.Struct("!QQHB")  # room, participant, track, encoding
STREAM_BYTES = _STREAM.size
_SKIP = struct.Struct("!IHB")  # first, packets, pictures; then flags, where any is set
_FLAG_KEYFRAME = 1
_CLOCK = struct.Struct("!QQHBQI")  # stream, NTP time, RTP timestamp


@dataclass(slots=True)
class ClockFrame:
    """The relation of an encoding's timestamps to wall time, from the publisher's sender report."""

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
    keyframe: bool = False  # one is needed: to take up what may come back, or since packets are missing too


def read_stream(stream: bytes) -> tuple[TrackId, int]:
    """The track and the number of the encoding that a whole stream header of 19 bytes names."""
    room, participant, track, encoding = _STREAM.unpack(stream)
    return TrackId(room, participant, track), encoding


def encode_clock(frame: ClockFrame) -> bytes:
    """The whole frame, with type and length. Raises ``ValueError`` for a field out of its range."""
    try:
        rest = _CLOCK.pack(*frame.track_id, frame.encoding, frame.ntp, frame.timestamp)
    except struct.error as error:
        raise ValueError(f"clock frame: {error}") from None
    return encode_routed(CLOCK, frame.hop_limit, frame.generation, frame.destinations, rest)


def decode_clock(body: bytes) -> ClockFrame:
    """The clock frame in *body*; bytes after it are ignored (room to grow).

    Raises:
        ProtocolError: truncated or invalid.
    """
    *route, start = read_route(body)
    if len(body) < start + _CLOCK.size:
        raise ProtocolError("truncated", "clock")
    room, participant, track, encoding, ntp, timestamp = _CLOCK.unpack_from(body, start)
    track_id = TrackId(room, participant, track)
    return ClockFrame(track_id, encoding, ntp, timestamp, *route)


def encode_keyframe_request(frame: KeyframeRequest) -> bytes:
    """The whole frame, with type and length. Raises ``ValueError`` for a field out of its range."""
    try:
        rest = _STREAM.pack(*frame.track_id, frame.encoding)
    except struct.error as error:
        raise ValueError(f"keyframe request: {error}") from None
    return encode_routed(KEYFRAME_REQUEST, frame.hop_limit, frame.generation, frame.destinations, rest)


def decode_keyframe_request(body: bytes) -> KeyframeRequest:
    """The keyframe request in *body*; bytes after it are ignored (room to grow).

    Raises:
        ProtocolError: truncated or invalid.
    """
    *route, start = read_route(body)
    if len(body) < start + STREAM_BYTES:
        raise ProtocolError("truncated", "keyframe request")
    room, participant, track, encoding = _STREAM.unpack_from(body, start)
    return KeyframeRequest(TrackId(room, participant, track), encoding, *route)


def _flags(keyframe: bool) -> bytes:
    return bytes((_FLAG_KEYFRAME,)) if keyframe else b""


def encode_skip(frame: SkipFrame) -> bytes:
    """The whole frame, with type and length. Raises ``ValueError`` for a field out of its range."""
    try:
        rest = _STREAM.pack(*frame.track_id, frame.encoding)
        rest += _SKIP.pack(frame.first, frame.packets, frame.pictures) + _flags(frame.keyframe)
    except struct.error as error:
        raise ValueError(f"skip: {error}") from None
    return encode_routed(SKIP, frame.hop_limit, frame.generation, frame.destinations, rest)


def decode_skip(body: bytes) -> SkipFrame:
    """The skip in *body*; bytes after it are ignored (room to grow), and without flags none is set.

    Raises:
        ProtocolError: truncated or invalid (nothing is skipped).
    """
    hop_limit, generation, destinations, stream = read_route(body)
    start = stream + STREAM_BYTES
    if len(body) < start + _SKIP.size:
        raise ProtocolError("truncated", "skip")
    room, participant, track, encoding = _STREAM.unpack_from(body, stream)
    first, packets, pictures = _SKIP.unpack_from(body, start)
    if not packets or pictures > packets:
        raise ProtocolError("invalid", "skip")
    flags = body[start + _SKIP.size] if len(body) > start + _SKIP.size else 0
    track_id = TrackId(room, participant, track)
    keyframe = flags & _FLAG_KEYFRAME != 0
    return SkipFrame(
        track_id, encoding, first, packets, pictures, hop_limit, generation, destinations, keyframe
    )


def skip_like(frame: bytes, first: int, packets: int, pictures: int, *, keyframe: bool = False) -> bytes:
    """The SKIP that goes where a whole MEDIA *frame* would have gone."""
    end = ROUTED_HEAD_BYTES + STREAM_BYTES + frame[BITS_LENGTH_OFFSET]
    rest = _SKIP.pack(first, packets, pictures) + _flags(keyframe)
    return FRAME.pack(SKIP, end - 3 + len(rest)) + frame[3:end] + rest
