"""The bytes of synthetic media: RTP headers, payload descriptors, and the stamp in each payload.

A payload begins, after the descriptor of VP8 (RFC 7741 §4.2) or VP9 (RFC 9628 §4.2) where it is video,
with a stamp::

    u32 packet | u32 frame | f64 sent at | u16 place in the frame | u16 packets of the frame |
    u8 keyframe | u8 encoding | u8 spatial layer (4 bits), temporal layer (4 bits)

Packets and frames are counted for each encoding for as long as the publisher lives, over all its
connections; with spatial layers a frame is one layer's part of a picture. The send time is of the
publisher's clock; a delay is only meant where both ends share one.
"""

from __future__ import annotations

from struct import Struct

STAMP = Struct("!IIdHHBBB")
RTP_HEADER = Struct("!BBHII")
# Descriptor with 15-bit picture id, TL0PICIDX, temporal layer (RFC 7741 §4.2); first byte of the frame.
VP8_HEAD = Struct("!BBHBBB")
# Descriptor with 15-bit picture id, layer indices, TL0PICIDX, in non-flexible mode (RFC 9628 §4.2).
VP9_HEAD = Struct("!BHBB")
VP9_V = 0x02  # a scalability structure follows
EXTENDED = 0x90  # first byte of an RTP packet with header extensions and without contributing sources

PAYLOAD_TYPES = {"opus": 111, "VP8": 96, "VP9": 98}
RTX_TYPES = {"VP8": 97, "VP9": 99}


def vp8_head(frame: int, place: int, keyframe: bool, base_pictures: int, layer: int) -> bytes:
    """The descriptor of a packet and the first byte of VP8 data."""
    # X=1, S on the frame's first packet, N where no other needs it; I=1 with 15 bits, L=1, T=1; the layer,
    # with Y=1: each picture above the base refers to the base only. P = 0 for a keyframe (RFC 6386 §9.1).
    first = (0x90 if place == 0 else 0x80) | (0x20 if layer else 0)
    return VP8_HEAD.pack(
        first, 0xE0, 0x8000 | frame & 0x7FFF, base_pictures & 0xFF, layer << 6 | 0x20, 0 if keyframe else 1
    )


def vp9_head(
    picture: int,
    *,
    first: bool,
    last: bool,
    keyframe: bool,
    tl0: int,
    temporal: int,
    spatial: int,
    layers: int,
) -> bytes:
    """The descriptor of a packet of one layer's frame; *first* and *last* of it.

    The structure is that of WebRTC's L*n*T*m*_KEY: only in key pictures is a layer predicted from the one
    below; *layers*: how many there are.
    """
    flags = 0x80 | 0x20 | first << 3 | last << 2  # I, L, B, E; F=0
    if not keyframe:
        flags |= 0x40 | 0x01  # P; Z: no layer above refers to it
    elif spatial == layers - 1:
        flags |= 0x01
    structure = b""
    if keyframe and first and spatial == 0:
        flags |= VP9_V
        sizes = b"".join((320 << s).to_bytes(2, "big") + (180 << s).to_bytes(2, "big") for s in range(layers))
        structure = bytes([layers - 1 << 5 | 0x10]) + sizes  # N_S, Y=1, G=0
    between = keyframe and spatial > 0  # D
    layer = temporal << 5 | 0x10 | spatial << 1 | between  # TID, U=1, SID, D
    return VP9_HEAD.pack(flags, 0x8000 | picture & 0x7FFF, layer, tl0 & 0xFF) + structure


def head_bytes(codec: str, payload: bytes) -> int:
    """The length of the descriptor at the start of *payload*; it may be longer than the payload."""
    if codec == "VP8":
        return VP8_HEAD.size
    if codec == "VP9":
        size = VP9_HEAD.size
        if payload and payload[0] & VP9_V and len(payload) > size:
            size += 1 + 4 * ((payload[size] >> 5) + 1)
        return size
    return 0
