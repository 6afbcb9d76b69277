"""The VP9 payload descriptor (RFC 9628 §4.2): layers, their frames, and the numbers to rewrite.

In: an RTP payload. Out: its descriptor, or the payload with other numbers. The
VP9 data behind it is not read.
"""

from __future__ import annotations

import msgspec

from relaymesh.webrtc.errors import RtpError

#       |I|P|L|F|B|E|V|Z|
#  I:   |M| PICTURE ID  |   (7 bits, or 15 when M is set)
#  L:   | TID |U| SID |D|
#       |   TL0PICIDX   |   (only with L and without F)
#  P,F: |   P_DIFF    |N|   (1 … 3 times, while N is set)
#  V:   | N_S |Y|G|  -  |   scalability structure: sizes of N_S + 1 spatial layers with Y,
#                           N_G and a group of pictures with G: |TID|U| R |-|-| and R times P_DIFF
MAX_REFERENCES = 3


class Vp9Structure(msgspec.Struct, frozen=True, gc=False):
    """The scalability structure (§4.2.1), as far as it is used."""

    spatial_layers: int  # 1 … 8
    temporal_layers: int  # of the group of pictures; 0 when none is described
    resolutions: tuple[tuple[int, int], ...]  # (width, height) of each spatial layer; empty if not told


class Vp9Descriptor(msgspec.Struct, frozen=True, gc=False):
    """What stands before the VP9 data of one packet."""

    first: bool  # B: packet of its layer's frame
    last: bool  # E
    predicted: bool  # P: from other pictures
    flexible: bool  # F: references are told with each picture
    picture_id: int | None
    picture_id_bits: int  # 7 or 15; 0 without a picture ID
    temporal: int
    spatial: int
    switching_up: bool  # U: later pictures of higher temporal layers need none of them from before this one
    inter_layer: bool  # D: predicted from the spatial layer below
    unneeded_above: bool  # Z: no higher spatial layer refers to it
    tl0picidx: int | None  # 8 bits
    references: tuple[int, ...]  # P_DIFF: how many pictures back; only in flexible mode
    structure: Vp9Structure | None
    picture_id_at: int  # offset in the payload; only with a picture ID
    tl0picidx_at: int  # likewise
    size: int  # bytes of the descriptor

    @property
    def keyframe(self) -> bool:
        """The first packet of a picture that needs no other."""
        return self.first and not self.predicted and self.spatial == 0


def parse_descriptor(payload: bytes) -> Vp9Descriptor:
    """The descriptor at the start of *payload*.

    Raises:
        RtpError: the payload ends inside its descriptor, is empty, or names a fourth reference.
    """
    try:
        return _parse(payload)
    except IndexError:
        raise RtpError("truncated VP9 payload descriptor") from None


def _parse(payload: bytes) -> Vp9Descriptor:
    flags = payload[0]
    at = 1
    picture_id = tl0picidx = None
    picture_id_bits = picture_id_at = tl0picidx_at = 0
    layer = 0
    if flags & 0x80:
        picture_id_at = at
        picture_id = payload[at]
        picture_id_bits = 7
        at += 1
        if picture_id & 0x80:
            picture_id = (picture_id & 0x7F) << 8 | payload[at]
            picture_id_bits = 15
            at += 1
    if flags & 0x20:
        layer = payload[at]
        at += 1
        if not flags & 0x10:
            tl0picidx_at = at
            tl0picidx = payload[at]
            at += 1
    references: tuple[int, ...] = ()
    if flags & 0x50 == 0x50:
        references, at = _references(payload, at)
    structure = None
    if flags & 0x02:
        structure, at = _structure(payload, at)
    return Vp9Descriptor(
        flags & 0x08 != 0,
        flags & 0x04 != 0,
        flags & 0x40 != 0,
        flags & 0x10 != 0,
        picture_id,
        picture_id_bits,
        layer >> 5,
        layer >> 1 & 0x07,
        layer & 0x10 != 0,
        layer & 0x01 != 0,
        flags & 0x01 != 0,
        tl0picidx,
        references,
        structure,
        picture_id_at,
        tl0picidx_at,
        at,
    )


def _references(payload: bytes, at: int) -> tuple[tuple[int, ...], int]:
    found: list[int] = []
    more = True
    while more:
        if len(found) == MAX_REFERENCES:
            raise RtpError("a VP9 picture with more than three references")
        found.append(payload[at] >> 1)
        more = payload[at] & 1 != 0
        at += 1
    return tuple(found), at


def _structure(payload: bytes, at: int) -> tuple[Vp9Structure, int]:
    flags = payload[at]
    at += 1
    spatial_layers = (flags >> 5) + 1
    resolutions: list[tuple[int, int]] = []
    if flags & 0x10:
        for _ in range(spatial_layers):
            width = payload[at] << 8 | payload[at + 1]
            height = payload[at + 2] << 8 | payload[at + 3]
            resolutions.append((width, height))
            at += 4
    temporal_layers = 0
    if flags & 0x08:
        pictures = payload[at]
        at += 1
        for _ in range(pictures):
            byte = payload[at]
            temporal_layers = max(temporal_layers, (byte >> 5) + 1)
            at += 1 + (byte >> 2 & 0x03)
        if at > len(payload):
            raise RtpError("truncated VP9 scalability structure")
    return Vp9Structure(spatial_layers, temporal_layers, tuple(resolutions)), at


def rewrite(payload: bytes, descriptor: Vp9Descriptor, picture_id_offset: int, tl0_offset: int) -> bytes:
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
