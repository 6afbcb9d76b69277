"""Dependency descriptors read one after the other: layers, and the frames with which one can be taken up.

In: each packet's descriptor. Out: its frame's layers. Keeps the structure that
the last keyframe brought, the one before it for packets that come late, and
the layers of the last frames.
"""

from __future__ import annotations

import msgspec

from relaymesh.webrtc.dependency_descriptor import (
    DISCARDABLE,
    HEAD_BYTES,
    NOT_PRESENT,
    REQUIRED,
    SWITCH,
    DependencyDescriptor,
    Structure,
    parse,
    parse_head,
)
from relaymesh.webrtc.errors import RtpError

FRAMES_KEPT = 256  # a difference of a template is at most 16, one of a frame 4096, which nobody uses


class FrameLayers(msgspec.Struct, frozen=True, gc=False):
    """One frame, as far as its layers go."""

    spatial: int
    temporal: int
    entry: bool  # see PacketInfo
    keyframe: bool
    discardable: bool


class DependencyLayers:
    """Reads the descriptors of one encoding."""

    __slots__ = ("_armed", "_frames", "_last", "_previous", "_structure", "_structure_at")

    def __init__(self) -> None:
        self._structure: Structure | None = None
        self._structure_at = 0  # frame number
        self._previous: Structure | None = None
        self._last: int | None = None  # the newest frame's number
        self._frames: dict[int, FrameLayers] = {}  # by frame number, the oldest first
        self._armed: set[int] = set()  # decode targets that can be taken up with what comes next of them

    @property
    def structure(self) -> Structure | None:
        """The newest one; ``None`` before the first keyframe."""
        return self._structure

    def read(self, data: bytes) -> FrameLayers | None:
        """The frame that *data* describes; ``None`` while no structure is known to read it by.

        Raises:
            RtpError: malformed. Nothing is changed then.
        """
        head = parse_head(data)
        if self._structure is None and (len(data) == HEAD_BYTES or not data[HEAD_BYTES] & 0x80):
            return None
        known = self._frames.get(head.frame_number)
        if known is not None and len(data) == HEAD_BYTES:
            return known
        described = self._parse(data)
        if described.attached:
            self._take_structure(described)
        if known is not None and not described.attached:
            return known
        return self._note(described)

    def _parse(self, data: bytes) -> DependencyDescriptor:
        try:
            return parse(data, self._structure)
        except RtpError:
            if self._previous is None:
                raise
            return parse(data, self._previous)  # a packet from before the keyframe, come late

    def _take_structure(self, described: DependencyDescriptor) -> None:
        number = described.head.frame_number
        if self._structure is None or self._structure == described.structure:
            self._structure, self._structure_at = described.structure, number
        elif (number - self._structure_at) & 0xFFFF < 0x8000:
            self._previous, self._structure = self._structure, described.structure
            self._structure_at = number
            self._armed.clear()  # targets are counted anew

    def _note(self, described: DependencyDescriptor) -> FrameLayers:
        number = described.head.frame_number
        ahead = 1 if self._last is None else (number - self._last) & 0xFFFF
        newer = 0 < ahead < 0x8000
        if newer:
            if ahead != 1:
                self._armed.clear()  # what is missing may be what the next one needs
            self._last = number
        layers = FrameLayers(
            described.spatial,
            described.temporal,
            newer and self._is_entry(described),
            described.attached and described.spatial == 0 and not described.differences,
            all(kind in (NOT_PRESENT, DISCARDABLE) for kind in described.indications),
        )
        if newer:
            self._arm(described)
        self._frames.pop(number, None)
        self._frames[number] = layers
        if len(self._frames) > FRAMES_KEPT:
            del self._frames[next(iter(self._frames))]
        return layers

    def _is_entry(self, described: DependencyDescriptor) -> bool:
        """Nothing of its own layer is needed, neither by it nor, as the encoder promises, by what follows."""
        number, spatial, temporal = described.head.frame_number, described.spatial, described.temporal
        for difference in described.differences:
            reference = self._frames.get((number - difference) & 0xFFFF)
            if reference is None or (
                reference.spatial == spatial and (temporal == 0 or reference.temporal == temporal)
            ):
                return False
        target = _own_target(described)
        return target is None or described.indications[target] == SWITCH or target in self._armed

    def _arm(self, described: DependencyDescriptor) -> None:
        """Keep in mind which targets are decodable from this frame on with what comes after it."""
        own = _own_target(described)
        if own is not None and described.indications[own] == REQUIRED:
            self._armed.discard(own)
        for target, kind in enumerate(described.indications):
            if kind == SWITCH and target != own:
                self._armed.add(target)


def _own_target(described: DependencyDescriptor) -> int | None:
    """The decode target whose highest layers are the frame's."""
    layers = (described.spatial, described.temporal)
    targets = described.structure.targets
    return targets.index(layers) if layers in targets else None
