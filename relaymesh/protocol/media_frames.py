"""MEDIA frames: one packet of one encoding, and what a link reads of it without decoding.

In: media frames; out: bytes, and back. Decoders raise :class:`ProtocolError` and nothing else, whatever the
bytes; encoders raise ``ValueError`` for values out of range (our own mistake), and
:class:`ProtocolError` ``oversized`` for what does not fit a datagram (a publisher can cause that).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.ids import TrackId
from relaymesh.protocol.routed import FRAME, FRAME_ROUTE, MEDIA, SKIP, read_route, routed_frame

EXTENSION_AUDIO_LEVEL = 1  # 1 byte, as RFC 6464
EXTENSION_VIDEO_ORIENTATION = 2  # 1 byte, CVO (3GPP TS 26.114)
EXTENSION_DEPENDENCY_DESCRIPTOR = 3  # 1 to 255 bytes, of the AV1 RTP specification, appendix A
_EXTENSION_LENGTHS = {EXTENSION_AUDIO_LEVEL: 1, EXTENSION_VIDEO_ORIENTATION: 1}

_FLAG_KEYFRAME, _FLAG_MARKER, _FLAG_AUDIO, _FLAG_DISCARDABLE = 1, 2, 4, 8
_FLAG_COPY, _FLAG_ENTRY = 0x40, 0x80

_LAYER_END, _LAYER_START = 1, 2  # of the layers byte

STREAM = struct.Struct("!QQHB")  # room, participant, track, encoding: the stream header
_MEDIA = struct.Struct("!QQHBBBIIB")  # stream, flags, layers, sequence, timestamp, bytes of extensions
FLAGS_OFFSET = FRAME_ROUTE.size + STREAM.size  # of MEDIA's flags in a whole frame, less its bit string
SKIP_BODY = struct.Struct("!IHB")  # behind the stream header: first, packets, pictures
_TOP_LEVEL = 7


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
    layer_start: bool = False  # the first packet of its layer's frame
    layer_end: bool = False  # the last packet of its layer's frame


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
    if frame.layer_start:
        layers |= _LAYER_START
    if frame.layer_end:
        layers |= _LAYER_END
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
    return routed_frame(MEDIA, frame.hop_limit, frame.generation, frame.destinations, rest)


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
        layers & _LAYER_START != 0,
        layers & _LAYER_END != 0,
    )


def as_copy(frame: bytes) -> bytes:
    """A MEDIA *frame* (whole, as it would be sent) that says it may have arrived another way already."""
    at = FLAGS_OFFSET + frame[4]
    return frame[:at] + bytes((frame[at] | _FLAG_COPY,)) + frame[at + 1 :]


class MediaTag(NamedTuple):
    """What a link must know of a MEDIA frame it may leave out."""

    stream: bytes  # room, participant, track, encoding
    level: int  # higher ones are left out first: max(spatial, encoding) × 8 + temporal
    sequence: int  # u32
    end: bool  # the last packet of its layer's frame
    picture_end: bool  # … and with it of a picture that is left out whole
    entry: bool  # a decoder can take up the layer with it


def is_enhancement(frame: bytes) -> bool:
    """Whether a whole *frame* is MEDIA of class 3."""
    if frame[0] != MEDIA:
        return False
    at = FLAGS_OFFSET + frame[4]
    return len(frame) > at and frame[at] & 0x30 == 0x30


def read_tag(frame: bytes) -> MediaTag:
    """Of a whole MEDIA *frame* that :func:`is_enhancement` said yes to. Raises :class:`ProtocolError`."""
    at = FLAGS_OFFSET + frame[4]
    if len(frame) < at + 6:
        raise ProtocolError("truncated", "media header")
    flags, layers, encoding = frame[at], frame[at + 1], frame[at - 1]
    spatial, temporal = layers >> 5, layers >> 2 & 7
    end = layers & _LAYER_END != 0 or flags & _FLAG_MARKER != 0
    return MediaTag(
        frame[at - STREAM.size : at],
        max(spatial, min(encoding, _TOP_LEVEL)) * 8 + temporal,
        int.from_bytes(frame[at + 2 : at + 6], "big"),
        end,
        end and spatial == 0,  # without its upper spatial layers a picture goes on
        flags & (_FLAG_ENTRY | _FLAG_KEYFRAME | _FLAG_DISCARDABLE) != 0,
    )


def skip_like(frame: bytes, first: int, packets: int, pictures: int) -> bytes:
    """The SKIP that goes where a whole MEDIA *frame* would have gone."""
    end = FLAGS_OFFSET + frame[4]
    length = end - 3 + SKIP_BODY.size
    return FRAME.pack(SKIP, length) + frame[3:end] + SKIP_BODY.pack(first, packets, pictures)


def _encode_extensions(extensions: tuple[tuple[int, bytes], ...]) -> bytes:
    block = b""
    for kind, value in extensions:
        length = len(value)
        if not 0 <= kind <= 255 or length > 255 or not _length_fits(kind, length):
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
        if not _length_fits(kind, length):
            raise ProtocolError("malformed", f"extension {kind} of {length} bytes")
        found.append((kind, block[start:offset]))
    return tuple(found)


def _length_fits(kind: int, length: int) -> bool:
    if kind == EXTENSION_DEPENDENCY_DESCRIPTOR:
        return length > 0
    return _EXTENSION_LENGTHS.get(kind, length) == length
