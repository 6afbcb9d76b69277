"""The VP8 payload descriptor (RFC 7741 §4.2): where frames begin, and the numbers a forwarder rewrites.

In: an RTP payload. Out: its descriptor, or the payload with other numbers. It
looks at one bit of the VP8 data itself, the one that says keyframe.
"""

from __future__ import annotations

import msgspec

from relaymesh.webrtc.errors import RtpError

#       |X|R|N|S|R| PID |   (required)
#  X:   |I|L|T|K| RSV   |   (optional)
#  I:   |M| PictureID   |   (optional; 7 bits, or 15 when M is set)
#  L:   |   TL0PICIDX   |   (optional)
#  T/K: |TID|Y| KEYIDX  |   (optional)


class Vp8Descriptor(msgspec.Struct, frozen=True, gc=False):
    """What stands before the VP8 data of one packet."""

    start_of_partition: bool  # S
    partition: int  # PID, 0 … 7
    non_reference: bool  # N: no other frame needs this one
    keyframe: bool  # the first packet of a keyframe
    picture_id: int | None
    picture_id_bits: int  # 7 or 15; 0 without a picture ID
    tl0picidx: int | None  # 8 bits
    temporal_id: int | None  # 0 … 3
    layer_sync: bool  # Y: needs nothing above temporal layer 0
    key_index: int | None  # 0 … 31
    picture_id_at: int  # offset in the payload; only with a picture ID
    tl0picidx_at: int  # likewise
    size: int  # bytes of the descriptor


def parse_descriptor(payload: bytes) -> Vp8Descriptor:
    """The descriptor at the start of *payload*.

    Raises:
        RtpError: the payload ends inside its descriptor, or is empty.
    """
    try:
        return _parse(payload)
    except IndexError:
        raise RtpError("truncated VP8 payload descriptor") from None


def _parse(payload: bytes) -> Vp8Descriptor:
    first = payload[0]
    at = 1
    picture_id = tl0picidx = temporal_id = key_index = None
    picture_id_bits = picture_id_at = tl0picidx_at = 0
    layer_sync = False
    if first & 0x80:
        flags = payload[1]
        at = 2
        if flags & 0x80:
            picture_id_at = at
            picture_id = payload[at]
            picture_id_bits = 7
            at += 1
            if picture_id & 0x80:
                picture_id = (picture_id & 0x7F) << 8 | payload[at]
                picture_id_bits = 15
                at += 1
        if flags & 0x40:
            tl0picidx_at = at
            tl0picidx = payload[at]
            at += 1
        if flags & 0x30:
            byte = payload[at]
            at += 1
            if flags & 0x20:
                temporal_id = byte >> 6
                layer_sync = byte & 0x20 != 0
            if flags & 0x10:
                key_index = byte & 0x1F
    return Vp8Descriptor(
        first & 0x10 != 0,
        first & 0x07,
        first & 0x20 != 0,
        # RFC 7741 §4.3: the frame's first byte has the inverse key frame flag P lowest.
        first & 0x17 == 0x10 and at < len(payload) and payload[at] & 1 == 0,
        picture_id,
        picture_id_bits,
        tl0picidx,
        temporal_id,
        layer_sync,
        key_index,
        picture_id_at,
        tl0picidx_at,
        at,
    )


def rewrite(payload: bytes, descriptor: Vp8Descriptor, picture_id_offset: int, tl0_offset: int) -> bytes:
    """*payload* with offsets added to its picture ID and TL0PICIDX, as far as it has them; its length stays.

    *descriptor* is that of *payload*. Both numbers wrap at their own width.
    """
    changed = bytearray(payload)
    at = descriptor.picture_id_at
    if descriptor.picture_id is not None:
        picture_id = descriptor.picture_id + picture_id_offset
        if descriptor.picture_id_bits == 15:
            changed[at] = 0x80 | picture_id >> 8 & 0x7F
            changed[at + 1] = picture_id & 0xFF
        else:
            changed[at] = picture_id & 0x7F
    if descriptor.tl0picidx is not None:
        changed[descriptor.tl0picidx_at] = (descriptor.tl0picidx + tl0_offset) & 0xFF
    return bytes(changed)
