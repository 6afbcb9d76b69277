"""One face for the payloads of all codecs: where pictures and layers begin and end, and where one can begin.

In: a packet's payload, marker and dependency descriptor, packet by packet in
the order of arrival. Out: what a forwarder needs to know of it. Decodes no
picture; what it takes to read a codec is in that codec's module.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from relaymesh.webrtc import av1, h264, h265, vp8, vp9
from relaymesh.webrtc.dependency_descriptor import parse_head
from relaymesh.webrtc.dependency_layers import DependencyLayers, FrameLayers
from relaymesh.webrtc.nal import NalPacket, Pictures

PICTURES_KEPT = 128  # P_DIFF of VP9 has 7 bits


class PacketInfo(msgspec.Struct, frozen=True, gc=False):
    """What a forwarder needs to know of one packet."""

    keyframe: bool = False
    """The first packet with which a decoder can begin this encoding, parameter sets included."""
    layer_start: bool = True
    """The first packet of its layer's frame."""
    layer_end: bool = True
    """The last one: with the higher spatial layers left out it carries the RTP marker."""
    spatial: int = 0
    temporal: int = 0
    entry: bool = False
    """A decoder can take up this layer with this picture.

    On a picture of temporal layer 0 it is the spatial layer, for one that has the picture's lower spatial
    layers; above, it is the temporal layer, for one that has all of the lower temporal layers.
    """
    discardable: bool = False
    """No other picture needs it."""
    spatial_layers: int = 1
    """As many as the encoding is known to have by now."""
    temporal_layers: int = 1


WHOLE = PacketInfo()  # each packet stands for itself: audio, and formats that nobody here reads


class PayloadReader(Protocol):
    """Reads the packets of one encoding."""

    def read(self, payload: bytes, marker: bool, descriptor: bytes | None = None) -> PacketInfo:
        """What one packet is; *descriptor*: the value of its dependency descriptor extension.

        Raises:
            RtpError: malformed. The reader is as before then.
        """
        ...


def make_payload_reader(codec_name: str) -> PayloadReader:
    """A reader for a codec as an offer names it; letters have no case."""
    readers: dict[str, type[PayloadReader]] = {
        "vp8": Vp8Reader,
        "vp9": Vp9Reader,
        "av1": Av1Reader,
        "h264": H264Reader,
        "h265": H265Reader,
    }
    return readers.get(codec_name.lower(), OpaqueReader)()


class OpaqueReader:
    """Audio, or what cannot be looked into."""

    def read(self, payload: bytes, marker: bool, descriptor: bytes | None = None) -> PacketInfo:
        """Every packet is whole, and none a keyframe."""
        return WHOLE


class Vp8Reader:
    """VP8: temporal layers only."""

    __slots__ = ("_temporal_layers",)

    def __init__(self) -> None:
        self._temporal_layers = 1

    def read(self, payload: bytes, marker: bool, descriptor: bytes | None = None) -> PacketInfo:
        """See :class:`PayloadReader`."""
        found = vp8.parse_descriptor(payload)
        temporal = found.temporal_id or 0
        if temporal >= self._temporal_layers:
            self._temporal_layers = temporal + 1
        return PacketInfo(
            found.keyframe,
            found.start_of_partition and found.partition == 0,
            marker,
            0,
            temporal,
            found.layer_sync or found.non_reference if temporal else found.keyframe,
            found.non_reference,
            1,
            self._temporal_layers,
        )


class Vp9Reader:
    """VP9: spatial and temporal layers by its own payload descriptor."""

    __slots__ = ("_entries", "_fresh", "_last", "_pictures", "_spatial_layers", "_temporal_layers")

    def __init__(self) -> None:
        self._spatial_layers = self._temporal_layers = 1
        self._last: int | None = None  # picture ID of the newest picture
        self._pictures: dict[int, int] = {}  # picture ID → temporal layer, the oldest first
        # (spatial, temporal) of which the next picture needs none from before it
        self._fresh: set[tuple[int, int]] = set()
        self._entries: dict[int, tuple[int | None, bool]] = {}  # spatial layer → newest picture, its entry

    def read(self, payload: bytes, marker: bool, descriptor: bytes | None = None) -> PacketInfo:
        """See :class:`PayloadReader`."""
        found = vp9.parse_descriptor(payload)
        structure = found.structure
        if structure is not None and found.first and not found.predicted:
            self._spatial_layers, self._temporal_layers = structure.spatial_layers, structure.temporal_layers
        self._spatial_layers = max(self._spatial_layers, found.spatial + 1)
        self._temporal_layers = max(self._temporal_layers, found.temporal + 1)
        entry = self._note(found) if found.first else self._is_entry(found)
        return PacketInfo(
            found.keyframe,
            found.first,
            found.last or marker,
            found.spatial,
            found.temporal,
            entry,
            False,  # the descriptor does not tell
            self._spatial_layers,
            self._temporal_layers,
        )

    def _note(self, found: vp9.Vp9Descriptor) -> bool:
        """Whether the picture that begins is an entry, and what it means for those to come."""
        spatial, temporal = found.spatial, found.temporal
        if self._advance(found):
            # U on a picture below, and none of this layer since (RFC 9628 §4.2): its references are
            # that picture, or later ones.
            self._entries[spatial] = found.picture_id, (spatial, temporal) in self._fresh
            self._fresh.discard((spatial, temporal))
            if found.switching_up:
                self._fresh.update((spatial, above) for above in range(temporal + 1, 8))
        return self._is_entry(found)

    def _is_entry(self, found: vp9.Vp9Descriptor) -> bool:
        if found.temporal == 0:
            return not found.predicted
        if found.flexible:
            return self._refers_below(found)
        picture, entry = self._entries.get(found.spatial, (None, False))
        return entry and picture == found.picture_id

    def _advance(self, found: vp9.Vp9Descriptor) -> bool:
        """Whether *found* is no older than the newest picture; a gap makes doubtful what came before it."""
        number = found.picture_id
        if number is None:
            return True
        mask = (1 << found.picture_id_bits) - 1
        ahead = 1 if self._last is None else (number - self._last) & mask
        if ahead > mask >> 1:
            return False
        if ahead:
            if ahead > 1:
                self._fresh.clear()
            self._last = number
            self._pictures.pop(number, None)
            self._pictures[number] = found.temporal
            if len(self._pictures) > PICTURES_KEPT:
                del self._pictures[next(iter(self._pictures))]
        return True

    def _refers_below(self, found: vp9.Vp9Descriptor) -> bool:
        """Whether all of a picture's references are known and of lower temporal layers."""
        if not found.predicted:
            return True
        if found.picture_id is None or not found.references:
            return False
        mask = (1 << found.picture_id_bits) - 1
        layers = (self._pictures.get((found.picture_id - back) & mask) for back in found.references)
        return all(layer is not None and layer < found.temporal for layer in layers)


class Av1Reader:
    """AV1: layers by the dependency descriptor; without it one layer."""

    __slots__ = ("_layers",)

    def __init__(self) -> None:
        self._layers = DependencyLayers()

    def read(self, payload: bytes, marker: bool, descriptor: bytes | None = None) -> PacketInfo:
        """See :class:`PayloadReader`."""
        if descriptor is None:
            packet = av1.parse_packet(payload)
            return PacketInfo(packet.keyframe, packet.begins_frame, marker, entry=packet.keyframe)
        head = parse_head(descriptor)
        layers = self._layers.read(descriptor)
        if layers is None:
            packet = av1.parse_packet(payload)
            keyframe = packet.keyframe and head.first
            return PacketInfo(keyframe, head.first, head.last, entry=keyframe)
        return _described(layers, self._layers, head.first, head.last)


def _described(frame: FrameLayers, layers: DependencyLayers, first: bool, last: bool) -> PacketInfo:
    structure = layers.structure
    assert structure is not None, "without it no frame was described"
    return PacketInfo(
        frame.keyframe and first,
        first,
        last,
        frame.spatial,
        frame.temporal,
        frame.entry,
        frame.discardable,
        structure.spatial_layers,
        structure.temporal_layers,
    )


class _NalReader:
    """What H264 and H265 share: pictures of slices, led by parameter sets."""

    __slots__ = ("_layers", "_pictures", "_temporal_layers")

    def __init__(self) -> None:
        self._pictures = Pictures()
        self._layers: DependencyLayers | None = None
        self._temporal_layers = 1

    def _info(self, packet: NalPacket, marker: bool, descriptor: bytes | None) -> PacketInfo:
        layers = None
        if descriptor is not None:
            self._layers = self._layers or DependencyLayers()
            layers = self._layers.read(descriptor)
        start, keyframe = self._pictures.handle(packet, marker)
        if layers is not None and layers.temporal and self._layers is not None:
            assert descriptor is not None, "there are layers"
            return _described(layers, self._layers, parse_head(descriptor).first, marker)
        temporal = packet.temporal
        if temporal >= self._temporal_layers:
            self._temporal_layers = temporal + 1
        count = self._temporal_layers
        if self._layers is not None and self._layers.structure is not None:
            count = self._layers.structure.temporal_layers
        return PacketInfo(
            keyframe,
            start,
            marker,
            0,
            temporal,
            packet.switching if temporal else keyframe or packet.random_access,
            packet.discardable and (temporal == count - 1),
            1,
            count,
        )


class H264Reader(_NalReader):
    """H264: one layer, or temporal ones by the dependency descriptor."""

    __slots__ = ()

    def read(self, payload: bytes, marker: bool, descriptor: bytes | None = None) -> PacketInfo:
        """See :class:`PayloadReader`."""
        return self._info(h264.parse_packet(payload), marker, descriptor)


class H265Reader(_NalReader):
    """H265: temporal layers by the units' headers."""

    __slots__ = ()

    def read(self, payload: bytes, marker: bool, descriptor: bytes | None = None) -> PacketInfo:
        """See :class:`PayloadReader`."""
        return self._info(h265.parse_packet(payload), marker, descriptor)
