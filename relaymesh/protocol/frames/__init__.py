"""Frames: what a sealed datagram carries. This is the index; each part has its module.

In: frame objects; out: bytes, and back. A plaintext is one or more frames (``kinds``); all numbers are
big-endian, only bit strings are little-endian. Types 0x10-0x1f are *routed* (``routed``): their body
begins with a header that a transit node reads and rewrites without looking at the rest, so
that it can also forward types it does not know. ``media`` and ``track`` are what flows,
``probes`` what two neighbours exchange. ACK, REPAIR, RETRANSMISSION and CONTROL have their codecs beside
what acts on them (``acks``, ``fec``, ``arq``, ``control``).

Decoders raise :class:`ProtocolError` and nothing else, whatever the bytes.
Encoders raise ``ValueError`` for values out of range (our own mistake), and
:class:`ProtocolError` ``oversized`` for what does not fit a datagram (a
publisher can cause that). Nothing here knows tables, links or time.
"""

from __future__ import annotations

from relaymesh.protocol.frames.kinds import (
    ACK,
    CLOCK,
    CONTROL,
    CONTROL_ACK,
    CONTROL_RESET,
    DETOUR,
    ECHO,
    KEYFRAME_REQUEST,
    MAX_FRAME_BYTES,
    MEDIA,
    PROBE,
    REPAIR,
    RETRANSMISSION,
    ROUTED_FIRST,
    ROUTED_LAST,
    SKIP,
    split_frames,
)
from relaymesh.protocol.frames.media import (
    EXTENSION_AUDIO_LEVEL,
    EXTENSION_VIDEO_ORIENTATION,
    MEDIA_HEAD_BYTES,
    MediaFrame,
    MediaTag,
    as_copy,
    decode_media,
    encode_media,
    is_copy,
    is_enhancement,
    payload_size,
    priority_of,
    read_tag,
)
from relaymesh.protocol.frames.probes import (
    Echo,
    Probe,
    decode_echo,
    decode_probe,
    encode_echo,
    encode_probe,
)
from relaymesh.protocol.frames.routed import (
    HOP_LIMIT,
    Route,
    detour,
    follow_detour,
    read_route,
    readdress,
    reroute,
)
from relaymesh.protocol.frames.track import (
    ClockFrame,
    KeyframeRequest,
    SkipFrame,
    decode_clock,
    decode_keyframe_request,
    decode_skip,
    encode_clock,
    encode_keyframe_request,
    encode_skip,
    skip_like,
)

__all__ = [
    "ACK",
    "CLOCK",
    "CONTROL",
    "CONTROL_ACK",
    "CONTROL_RESET",
    "DETOUR",
    "ECHO",
    "EXTENSION_AUDIO_LEVEL",
    "EXTENSION_VIDEO_ORIENTATION",
    "HOP_LIMIT",
    "KEYFRAME_REQUEST",
    "MAX_FRAME_BYTES",
    "MEDIA",
    "MEDIA_HEAD_BYTES",
    "PROBE",
    "REPAIR",
    "RETRANSMISSION",
    "ROUTED_FIRST",
    "ROUTED_LAST",
    "SKIP",
    "ClockFrame",
    "Echo",
    "KeyframeRequest",
    "MediaFrame",
    "MediaTag",
    "Probe",
    "Route",
    "SkipFrame",
    "as_copy",
    "decode_clock",
    "decode_echo",
    "decode_keyframe_request",
    "decode_media",
    "decode_probe",
    "decode_skip",
    "detour",
    "encode_clock",
    "encode_echo",
    "encode_keyframe_request",
    "encode_media",
    "encode_probe",
    "encode_skip",
    "follow_detour",
    "is_copy",
    "is_enhancement",
    "payload_size",
    "priority_of",
    "read_route",
    "read_tag",
    "readdress",
    "reroute",
    "skip_like",
    "split_frames",
]
