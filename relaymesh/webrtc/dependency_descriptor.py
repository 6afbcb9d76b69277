"""The dependency descriptor (RTP Payload Format For AV1 v1.0, appendix A): a frame's layer, and who needs it.

In: the bytes of the header extension, and the structure that an earlier
keyframe brought. Out: one frame's description. It says nothing about when a
decoder can begin: that is drawn from it in :mod:`relaymesh.webrtc.av1`.
"""

from __future__ import annotations

import msgspec

from relaymesh.webrtc.errors import RtpError

URI = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"

# Decode target indications (A.8.2): what a frame is to a set of layers that somebody decodes.
NOT_PRESENT, DISCARDABLE, SWITCH, REQUIRED = range(4)

MAX_SPATIAL = 4  # AV1's own limits: 2 bits of spatial_id and 3 of temporal_id in its OBU header
MAX_TEMPORAL = 8
MAX_TEMPLATES = 64  # as many as a template id of 6 bits can name
MAX_DIFFERENCES = 64  # references of one frame; AV1 itself has 8 slots
HEAD_BYTES = 3
FRAME_NUMBER_AT = 1  # two bytes

#  |S|E| template (6) |  frame number (16)  |     always
#  |T|A|D|F|C| …                                   only in more than 3 bytes:
#  T: structure; A: active targets; D, F, C: indications, differences, chains that differ from the template's


class Template(msgspec.Struct, frozen=True):
    """One kind of frame of a structure."""

    spatial: int
    temporal: int
    indications: tuple[int, ...]  # one for each decode target
    differences: tuple[int, ...]  # how many frames back its references are
    chain_differences: tuple[int, ...]  # how many frames back each chain's last frame is; 0: begins it


class Structure(msgspec.Struct, frozen=True):
    """What a keyframe says about all frames up to the next one."""

    id_offset: int  # template id of the first template
    templates: tuple[Template, ...]
    targets: tuple[tuple[int, int], ...]  # highest (spatial, temporal) of each decode target
    protected_by: tuple[int, ...]  # the chain of each decode target; empty without chains
    resolutions: tuple[tuple[int, int], ...]  # (width, height) of each spatial layer; empty if not told
    spatial_layers: int
    temporal_layers: int


class Head(msgspec.Struct, frozen=True, gc=False):
    """The part that can be read without a structure."""

    first: bool  # packet of its frame
    last: bool
    template_id: int  # 0 … 63
    frame_number: int  # 16 bits


class DependencyDescriptor(msgspec.Struct, frozen=True):
    """All that is said of one frame."""

    head: Head
    structure: Structure  # the one it is read by
    attached: bool  # the structure stands in this very descriptor: a keyframe's first packet
    spatial: int
    temporal: int
    indications: tuple[int, ...]
    differences: tuple[int, ...]
    chain_differences: tuple[int, ...]
    active_targets: int | None  # bit i: decode target i is being sent; None: as before


def parse_head(data: bytes) -> Head:
    """The first three bytes of a descriptor.

    Raises:
        RtpError: shorter.
    """
    if len(data) < HEAD_BYTES:
        raise RtpError("a dependency descriptor has at least 3 bytes")
    first = data[0]
    return Head(first & 0x80 != 0, first & 0x40 != 0, first & 0x3F, data[1] << 8 | data[2])


def with_frame_number(data: bytes, frame_number: int) -> bytes:
    """*data* with another frame number, taken modulo 2¹⁶; its length stays."""
    assert len(data) >= HEAD_BYTES, "the head was read before"
    return data[:1] + (frame_number & 0xFFFF).to_bytes(2, "big") + data[3:]


def parse(data: bytes, structure: Structure | None) -> DependencyDescriptor:
    """The descriptor in *data*, by its own structure, or else by *structure*.

    Raises:
        RtpError: truncated, beyond AV1's bounds, of a template that the structure does not have, or
            without any structure to read it by.
    """
    head = parse_head(data)
    bits = _Bits(data, HEAD_BYTES * 8)
    attached = has_active = own_indications = own_differences = own_chains = False
    active: int | None = None
    if len(data) > HEAD_BYTES:
        attached, has_active, own_indications, own_differences, own_chains = (bits.flag() for _ in range(5))
        if attached:
            structure = _structure(bits)
            active = (1 << len(structure.targets)) - 1
    if structure is None:
        raise RtpError("a dependency descriptor before any structure")
    if has_active:
        active = bits.take(len(structure.targets))
    index = (head.template_id - structure.id_offset) & 0x3F
    if index >= len(structure.templates):
        raise RtpError("a template that the structure does not have")
    template = structure.templates[index]
    indications = template.indications
    differences = template.differences
    chain_differences = template.chain_differences
    if own_indications:
        indications = tuple(bits.take(2) for _ in structure.targets)
    if own_differences:
        differences = _frame_differences(bits)
    if own_chains:
        chain_differences = tuple(bits.take(8) for _ in chain_differences)
    return DependencyDescriptor(
        head,
        structure,
        attached,
        template.spatial,
        template.temporal,
        indications,
        differences,
        chain_differences,
        active,
    )


def targets_within(structure: Structure, spatial: int, temporal: int) -> int:
    """The decode targets that whoever gets layers up to these can decode: bit *i* for target *i*."""
    return sum(1 << i for i, (s, t) in enumerate(structure.targets) if s <= spatial and t <= temporal)


def with_active_targets(data: bytes, structure: Structure | None, targets: int) -> bytes:
    """*data* saying that only *targets* are being sent (A.8.3.2, active_decode_targets_bitmask).

    Whoever leaves layers out says so with each structure and when that changes, or a receiver waits for
    them. *structure*: as for :func:`parse`. The result is up to 5 bytes longer.

    Raises:
        RtpError: as :func:`parse`.
    """
    parse_head(data)
    bits = _Bits(data, HEAD_BYTES * 8)
    flags = bits.take(5) if len(data) > HEAD_BYTES else 0
    attached_from = bits.left
    if flags & 0x10:
        structure = _structure(bits)
    if structure is None:
        raise RtpError("a dependency descriptor before any structure")
    attached_bits = attached_from - bits.left
    attached = bits.before(attached_bits)
    count = len(structure.targets)
    if flags & 0x08:
        bits.take(count)
    rest_bits = bits.left
    rest = bits.take(rest_bits)
    out, length = int.from_bytes(data[:HEAD_BYTES]), HEAD_BYTES * 8
    for value, width in ((flags | 0x08, 5), (attached, attached_bits), (targets, count), (rest, rest_bits)):
        out, length = out << width | value & ((1 << width) - 1), length + width
    return (out << -length % 8).to_bytes((length + 7) // 8)


class _Bits:
    """The f(n) and ns(n) of A.8.1, from the highest bit on."""

    __slots__ = ("_left", "_value")

    def __init__(self, data: bytes, skipped: int) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = len(data) * 8 - skipped

    def take(self, count: int) -> int:
        left = self._left - count
        if left < 0:
            raise RtpError("truncated dependency descriptor")
        self._left = left
        return self._value >> left & ((1 << count) - 1)

    @property
    def left(self) -> int:
        """Bits not yet taken."""
        return self._left

    def before(self, count: int) -> int:
        """The last *count* bits that were taken."""
        return self._value >> self._left & ((1 << count) - 1)

    def flag(self) -> bool:
        return self.take(1) == 1

    def below(self, end: int) -> int:
        """A number of 0 … *end* − 1 in as few bits as that takes: ns(n)."""
        width = end.bit_length()
        short = (1 << width) - end
        value = self.take(width - 1)
        return value if value < short else (value << 1) - short + self.take(1)


def _structure(bits: _Bits) -> Structure:
    id_offset = bits.take(6)
    target_count = bits.take(5) + 1
    layers = _template_layers(bits)
    indications = [tuple(bits.take(2) for _ in range(target_count)) for _ in layers]
    differences = [_template_differences(bits) for _ in layers]
    chain_count = bits.below(target_count + 1)
    protected_by = tuple(bits.below(chain_count) for _ in range(target_count)) if chain_count else ()
    chains = [tuple(bits.take(4) for _ in range(chain_count)) for _ in layers]
    templates = tuple(
        Template(spatial, temporal, *rest)
        for (spatial, temporal), *rest in zip(layers, indications, differences, chains, strict=True)
    )
    spatial_layers = layers[-1][0] + 1
    resolutions: tuple[tuple[int, int], ...] = ()
    if bits.flag():
        resolutions = tuple((bits.take(16) + 1, bits.take(16) + 1) for _ in range(spatial_layers))
    return Structure(
        id_offset,
        templates,
        tuple(_target_layers(templates, target) for target in range(target_count)),
        protected_by,
        resolutions,
        spatial_layers,
        max(temporal for _, temporal in layers) + 1,
    )


def _template_layers(bits: _Bits) -> list[tuple[int, int]]:
    """(spatial, temporal) of each template: each says which layer the next one is of."""
    layers = [(0, 0)]
    spatial = temporal = 0
    while (step := bits.take(2)) != 3:
        if step == 1:
            temporal += 1
        elif step == 2:
            spatial, temporal = spatial + 1, 0
        if spatial >= MAX_SPATIAL or temporal >= MAX_TEMPORAL or len(layers) == MAX_TEMPLATES:
            raise RtpError("a dependency structure beyond AV1's bounds")
        layers.append((spatial, temporal))
    return layers


def _template_differences(bits: _Bits) -> tuple[int, ...]:
    found: list[int] = []
    while bits.flag():
        found.append(bits.take(4) + 1)
        _check_differences(found)
    return tuple(found)


def _frame_differences(bits: _Bits) -> tuple[int, ...]:
    found: list[int] = []
    while (nibbles := bits.take(2)) != 0:
        found.append(bits.take(4 * nibbles) + 1)
        _check_differences(found)
    return tuple(found)


def _check_differences(found: list[int]) -> None:
    if len(found) > MAX_DIFFERENCES:
        raise RtpError("a frame with more references than any codec has")


def _target_layers(templates: tuple[Template, ...], target: int) -> tuple[int, int]:
    """The highest layers among the frames that a decode target has (A.8.3.3, decode_target_layers)."""
    of_target = [t for t in templates if t.indications[target] != NOT_PRESENT]
    return max((t.spatial for t in of_target), default=0), max((t.temporal for t in of_target), default=0)
