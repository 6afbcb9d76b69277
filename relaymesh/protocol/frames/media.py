"""MEDIA: one packet of one encoding, and what is read of it without decoding it whole.

In: :class:`MediaFrame`; out: bytes, and back. Links and meters read single fields of a whole
frame by the functions at the end; no other module knows where they stand.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import msgspec

from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.frames.compact import ANNOUNCE_EXTRA_BYTES
from relaymesh.protocol.frames.kinds import ANNOUNCE, COMPACT, FRAGMENT, FRAME, MEDIA, TO_END_LAST
from relaymesh.protocol.frames.routed import BITS_LENGTH_OFFSET, ROUTED_HEAD_BYTES, encode_routed, read_route
from relaymesh.protocol.frames.track import STREAM_BYTES
from relaymesh.protocol.ids import TrackId

EXTENSION_AUDIO_LEVEL = 1  # 1 byte, as RFC 6464
EXTENSION_VIDEO_ORIENTATION = 2  # 1 byte, CVO (3GPP TS 26.114)
# 1 byte: kept since the last keyframe, sent again for an edge that begins; bits: 1 the last one,
# 2 the publisher answers no keyframe request.
EXTENSION_REPLAY = 4
EXTENSION_DEPENDENCY_DESCRIPTOR = 3  # as published (AV1 RTP payload format, appendix A)
MAX_EXTENSIONS_BYTES = 255  # of all together, each with kind and length
_EXTENSION_LENGTHS = {  # of those known
    EXTENSION_AUDIO_LEVEL: range(1, 2),
    EXTENSION_VIDEO_ORIENTATION: range(1, 2),
    EXTENSION_REPLAY: range(1, 2),
    EXTENSION_DEPENDENCY_DESCRIPTOR: range(1, MAX_EXTENSIONS_BYTES - 1),
}
_ANY_LENGTH = range(256)

ENHANCEMENT = 3  # the class that can be left out
_FLAG_KEYFRAME, _FLAG_MARKER, _FLAG_AUDIO, _FLAG_DISCARDABLE = 1, 2, 4, 8
_FLAG_COPY, _FLAG_ENTRY = 0x40, 0x80
_LAYER_END, _LAYER_START = 1, 2  # in the byte of layers

_MEDIA = struct.Struct("!QQHBBBIIB")  # stream, flags, layers, sequence, timestamp, bytes of extensions
# In a whole frame, less the bytes of its bit string:
_TAG = struct.Struct("!BBII")  # flags, layers, sequence, timestamp
_FLAGS_OFFSET = ROUTED_HEAD_BYTES + STREAM_BYTES
MEDIA_HEAD_BYTES = ROUTED_HEAD_BYTES + _MEDIA.size  # less its extensions and payload, too


class MediaFrame(msgspec.Struct, gc=False):
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
    entry: bool = False  # a decoder that has what is below can take up this layer with this picture
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
    return encode_routed(MEDIA, frame.hop_limit, frame.generation, frame.destinations, rest)


def decode_media(data: bytes, start: int = 0) -> MediaFrame:
    """The media frame whose body begins at *start* of *data*: at 0 of a body, at 3 of a whole frame.

    Raises:
        ProtocolError: truncated, malformed or invalid.
    """
    hop_limit, generation, destinations, offset = read_route(data, start)
    start = offset + _MEDIA.size
    if len(data) < start:
        raise ProtocolError("truncated", "media header")
    room, participant, track, encoding, flags, layers, sequence, timestamp, extra = _MEDIA.unpack_from(
        data, offset
    )
    extensions: tuple[tuple[int, bytes], ...] = ()
    if extra:
        end = start + extra
        if len(data) < end:
            raise ProtocolError("truncated", "extensions")
        extensions = _decode_extensions(data[start:end])
        start = end
    return MediaFrame(
        TrackId(room, participant, track),
        encoding,
        sequence,
        timestamp,
        data[start:],
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


def _encode_extensions(extensions: tuple[tuple[int, bytes], ...]) -> bytes:
    block = b""
    for kind, value in extensions:
        length = len(value)
        if not 0 <= kind <= 255 or length not in _EXTENSION_LENGTHS.get(kind, _ANY_LENGTH):
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
        if length not in _EXTENSION_LENGTHS.get(kind, _ANY_LENGTH):
            raise ProtocolError("malformed", f"extension {kind} of {length} bytes")
        found.append((kind, block[start:offset]))
    return tuple(found)


# --- single fields of a whole frame --------------------------------------------------------------


class MediaTag(NamedTuple):
    """The fields of a MEDIA frame by which a link decides to leave it out."""

    stream: bytes  # room, participant, track, encoding
    layers: int  # spatial × 8 + temporal: which layer of the encoding it is
    enhancement: bool  # of class 3
    sequence: int  # u32
    timestamp: int  # u32: which picture it is of
    end: bool  # the last packet of its layer's frame
    marker: bool  # the last packet of its picture
    entry: bool  # a decoder can take up the layer with it
    keyframe: bool


def as_copy(frame: bytes) -> bytes:
    """A MEDIA *frame* (whole, as it would be sent) that says it may have arrived another way already."""
    at = _FLAGS_OFFSET + frame[BITS_LENGTH_OFFSET]
    return frame[:at] + bytes((frame[at] | _FLAG_COPY,)) + frame[at + 1 :]


def with_marker(frame: bytes) -> bytes:
    """A whole MEDIA *frame* as the last packet of its picture: what stood behind it there is left out."""
    at = _FLAGS_OFFSET + frame[BITS_LENGTH_OFFSET]
    return frame[:at] + bytes((frame[at] | _FLAG_MARKER,)) + frame[at + 1 :]


def is_enhancement(frame: bytes) -> bool:
    """Tell whether a whole *frame* is MEDIA of class 3, or a fragment of such."""
    return priority_of(frame) == ENHANCEMENT


def read_tag(frame: bytes) -> MediaTag:
    """Read the tag of a whole MEDIA *frame*. Raises :class:`ProtocolError` (truncated)."""
    at = _FLAGS_OFFSET + frame[BITS_LENGTH_OFFSET]
    if len(frame) < at + _TAG.size:
        raise ProtocolError("truncated", "media header")
    flags, layers, sequence, timestamp = _TAG.unpack_from(frame, at)
    marker = flags & _FLAG_MARKER != 0
    return MediaTag(
        frame[at - STREAM_BYTES : at],
        layers >> 2,
        flags & 0x30 == 0x30,
        sequence,
        timestamp,
        marker or layers & _LAYER_END != 0,
        marker,
        flags & (_FLAG_ENTRY | _FLAG_KEYFRAME | _FLAG_DISCARDABLE) != 0,
        flags & _FLAG_KEYFRAME != 0,
    )


def priority_of(frame: bytes) -> int:
    """The priority class of the first frame of *frame*: that of MEDIA, however it travels; 0 for others."""
    kind = frame[0]
    if kind == MEDIA:
        at = _FLAGS_OFFSET + frame[BITS_LENGTH_OFFSET] if len(frame) > BITS_LENGTH_OFFSET else len(frame)
    elif COMPACT <= kind <= TO_END_LAST:
        return kind & 3
    elif kind == ANNOUNCE:
        at = BITS_LENGTH_OFFSET + ANNOUNCE_EXTRA_BYTES
        at = _FLAGS_OFFSET + ANNOUNCE_EXTRA_BYTES + frame[at] if len(frame) > at else len(frame)
    else:
        at = FRAME.size if kind == FRAGMENT else len(frame)
    return frame[at] >> 4 & 3 if at < len(frame) else 0


def is_copy(frame: bytes) -> bool:
    """Tell whether a whole MEDIA *frame*, one that :func:`encode_media` made, has the flag *copy*."""
    return frame[_FLAGS_OFFSET + frame[BITS_LENGTH_OFFSET]] & _FLAG_COPY != 0


def is_audio(frame: bytes) -> bool:
    """Tell whether a whole MEDIA *frame*, one that :func:`encode_media` made, is of audio."""
    return frame[_FLAGS_OFFSET + frame[BITS_LENGTH_OFFSET]] & _FLAG_AUDIO != 0


def payload_size(frame: bytes) -> int:
    """Bytes of payload in a whole MEDIA *frame*, one that :func:`encode_media` made."""
    head = MEDIA_HEAD_BYTES + frame[BITS_LENGTH_OFFSET]
    return len(frame) - head - frame[head - 1]
