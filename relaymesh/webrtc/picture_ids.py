"""One face for the numbers that decoders count pictures by, which a forwarder moves so that no seam shows.

In: a payload and its dependency descriptor. Out: the numbers in them, or both
with offsets added. Which offsets is the forwarder's to say.

| codec | in the payload | in the descriptor |
|---|---|---|
| VP8, VP9 | picture ID of 7 or 15 bits, TL0PICIDX | frame number |
| AV1, H264, H265 | nothing | frame number |
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from relaymesh.webrtc import vp8, vp9
from relaymesh.webrtc.dependency_descriptor import HEAD_BYTES, parse_head, with_frame_number
from relaymesh.webrtc.errors import RtpError


class PictureNumbers(msgspec.Struct, frozen=True, gc=False):
    """The numbers of one packet's picture, each ``None`` where it has none."""

    picture_id: int | None = None
    picture_id_bits: int = 15  # 7 or 15
    tl0picidx: int | None = None  # 8 bits: counts the pictures of the lowest temporal layer
    frame_number: int | None = None  # 16 bits: counts the frames of all layers


class PictureOffsets(msgspec.Struct, frozen=True, gc=False):
    """What is added to each of the numbers."""

    picture_id: int = 0  # modulo 2¹⁵, or 2⁷ where the number has 7 bits
    tl0picidx: int = 0  # modulo 2⁸
    frame_number: int = 0  # modulo 2¹⁶

    def __bool__(self) -> bool:
        return bool(self.picture_id or self.tl0picidx or self.frame_number)

    def onto(self, numbers: PictureNumbers) -> PictureNumbers:
        """*numbers* as they are sent."""
        mask = (1 << numbers.picture_id_bits) - 1
        return PictureNumbers(
            None if numbers.picture_id is None else (numbers.picture_id + self.picture_id) & mask,
            numbers.picture_id_bits,
            None if numbers.tl0picidx is None else (numbers.tl0picidx + self.tl0picidx) & 0xFF,
            None if numbers.frame_number is None else (numbers.frame_number + self.frame_number) & 0xFFFF,
        )


NO_OFFSETS = PictureOffsets()

# Offset of the picture ID, its bits (7 or 15; 0: there is none), offset of TL0PICIDX (−1: there is none).
Places = tuple[int, int, int]
NO_PLACES: Places = (-1, 0, -1)


def offsets_after(last: PictureNumbers, following: PictureNumbers) -> PictureOffsets:
    """With these a picture of *following* is the next one after *last*, which was sent.

    A number that *last* lacks is left as it comes.
    """
    picture_id = tl0picidx = frame_number = 0
    if last.picture_id is not None and following.picture_id is not None:
        picture_id = (last.picture_id + 1 - following.picture_id) & 0x7FFF
    if last.tl0picidx is not None and following.tl0picidx is not None:
        tl0picidx = (last.tl0picidx + 1 - following.tl0picidx) & 0xFF
    if last.frame_number is not None and following.frame_number is not None:
        frame_number = (last.frame_number + 1 - following.frame_number) & 0xFFFF
    return PictureOffsets(picture_id, tl0picidx, frame_number)


class Renumberer(Protocol):
    """Reads and moves the numbers of one codec. Keeps nothing."""

    compacts_pictures: bool
    """Pictures left out are closed up in the picture ID: of VP8, whose references are no differences."""

    def numbers(self, payload: bytes, descriptor: bytes | None = None) -> PictureNumbers | None:
        """The numbers of a packet; ``None`` if it has none, or cannot be read."""
        ...

    def rewrite(
        self, payload: bytes, descriptor: bytes | None, offsets: PictureOffsets
    ) -> tuple[bytes, bytes | None]:
        """Both with *offsets* added, as long as before; what cannot be read stays as it is."""
        ...

    def places(self, payload: bytes) -> Places:
        """Where the numbers stand in *payload*."""
        ...


def make_renumberer(codec_name: str) -> Renumberer:
    """The renumberer of a codec as an offer names it; letters have no case."""
    match codec_name.lower():
        case "vp8":
            return _PayloadRenumberer(_Vp8())
        case "vp9":
            return _PayloadRenumberer(_Vp9())
    return _DescriptorRenumberer()


class _DescriptorRenumberer:
    """Codecs without numbers in their payloads."""

    compacts_pictures = False

    def numbers(self, payload: bytes, descriptor: bytes | None = None) -> PictureNumbers | None:
        if descriptor is None or len(descriptor) < HEAD_BYTES:
            return None
        return PictureNumbers(frame_number=parse_head(descriptor).frame_number)

    def rewrite(
        self, payload: bytes, descriptor: bytes | None, offsets: PictureOffsets
    ) -> tuple[bytes, bytes | None]:
        return payload, _moved(descriptor, offsets)

    def places(self, payload: bytes) -> Places:
        return NO_PLACES


class _Format(Protocol):
    """The numbers in the payloads of one codec."""

    compacts: bool

    def read(self, payload: bytes) -> PictureNumbers: ...

    def write(self, payload: bytes, picture_id_offset: int, tl0_offset: int) -> bytes: ...

    def places(self, payload: bytes) -> Places: ...


class _PayloadRenumberer:
    """Codecs whose payload descriptor has numbers. A dependency descriptor may come with them."""

    def __init__(self, numbering: _Format) -> None:
        self._format = numbering
        self.compacts_pictures = numbering.compacts

    def numbers(self, payload: bytes, descriptor: bytes | None = None) -> PictureNumbers | None:
        described = _frame_number(descriptor)
        try:
            found = self._format.read(payload)
        except RtpError:
            return None if described is None else PictureNumbers(frame_number=described)
        if found.picture_id is None and found.tl0picidx is None and described is None:
            return None
        if described is None:
            return found
        return PictureNumbers(found.picture_id, found.picture_id_bits, found.tl0picidx, described)

    def rewrite(
        self, payload: bytes, descriptor: bytes | None, offsets: PictureOffsets
    ) -> tuple[bytes, bytes | None]:
        if offsets.picture_id or offsets.tl0picidx:
            try:
                payload = self._format.write(payload, offsets.picture_id, offsets.tl0picidx)
            except RtpError:
                pass  # sent as it came; the player's decoder judges it
        return payload, _moved(descriptor, offsets)

    def places(self, payload: bytes) -> Places:
        try:
            return self._format.places(payload)
        except RtpError:
            return NO_PLACES  # as above


class _Vp8:
    compacts = True

    def read(self, payload: bytes) -> PictureNumbers:
        found = vp8.parse_descriptor(payload)
        return PictureNumbers(found.picture_id, found.picture_id_bits or 15, found.tl0picidx)

    def write(self, payload: bytes, picture_id_offset: int, tl0_offset: int) -> bytes:
        return vp8.rewrite(payload, vp8.parse_descriptor(payload), picture_id_offset, tl0_offset)

    def places(self, payload: bytes) -> Places:
        return _places(vp8.parse_descriptor(payload))


class _Vp9:
    compacts = False

    def read(self, payload: bytes) -> PictureNumbers:
        found = vp9.parse_descriptor(payload)
        return PictureNumbers(found.picture_id, found.picture_id_bits or 15, found.tl0picidx)

    def write(self, payload: bytes, picture_id_offset: int, tl0_offset: int) -> bytes:
        return vp9.rewrite(payload, vp9.parse_descriptor(payload), picture_id_offset, tl0_offset)

    def places(self, payload: bytes) -> Places:
        return _places(vp9.parse_descriptor(payload))


def _places(found: vp8.Vp8Descriptor | vp9.Vp9Descriptor) -> Places:
    return (
        found.picture_id_at,
        found.picture_id_bits if found.picture_id is not None else 0,
        found.tl0picidx_at if found.tl0picidx is not None else -1,
    )


def _frame_number(descriptor: bytes | None) -> int | None:
    if descriptor is None or len(descriptor) < HEAD_BYTES:
        return None
    return parse_head(descriptor).frame_number


def _moved(descriptor: bytes | None, offsets: PictureOffsets) -> bytes | None:
    number = _frame_number(descriptor)
    if descriptor is None or number is None or not offsets.frame_number:
        return descriptor
    return with_frame_number(descriptor, number + offsets.frame_number)
