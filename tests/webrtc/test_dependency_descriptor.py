"""Dependency descriptors: written bit by bit here, a browser's own, cut at every byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.webrtc.dependency_descriptor import (
    DISCARDABLE,
    NOT_PRESENT,
    SWITCH,
    Structure,
    Template,
    parse,
    parse_head,
    targets_within,
    with_active_targets,
    with_frame_number,
)
from relaymesh.webrtc.dependency_layers import FRAMES_KEPT, DependencyLayers
from relaymesh.webrtc.errors import RtpError
from tests.webrtc.recordings import NAMES, load

DESCRIBED = [name for name in NAMES if load(name).packets[0].descriptor is not None]


class Writer:
    """Bits as appendix A.8.1 has them; a second hand, which shares nothing with the reader."""

    def __init__(self) -> None:
        self.bits = ""

    def f(self, value: int, width: int) -> Writer:
        self.bits += format(value, f"0{width}b") if width else ""
        return self

    def ns(self, value: int, end: int) -> Writer:
        width = end.bit_length()
        short = (1 << width) - end
        return self.f(value, width - 1) if value < short else self.f(value + short, width)

    def bytes(self) -> bytes:
        text = self.bits + "0" * (-len(self.bits) % 8)
        return bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))


def write_structure(w: Writer, s: Structure) -> None:
    w.f(s.id_offset, 6).f(len(s.targets) - 1, 5)
    for this, following in zip(s.templates, (*s.templates[1:], None), strict=True):
        if following is None:
            w.f(3, 2)
        elif following.spatial > this.spatial:
            w.f(2, 2)
        else:
            w.f(following.temporal - this.temporal, 2)
    for t in s.templates:
        for indication in t.indications:
            w.f(indication, 2)
    for t in s.templates:
        for difference in t.differences:
            w.f(1, 1).f(difference - 1, 4)
        w.f(0, 1)
    chains = len(s.templates[0].chain_differences)
    w.ns(chains, len(s.targets) + 1)
    for chain in s.protected_by:
        w.ns(chain, chains)
    for t in s.templates:
        for difference in t.chain_differences:
            w.f(difference, 4)
    w.f(bool(s.resolutions), 1)
    for width, height in s.resolutions:
        w.f(width - 1, 16).f(height - 1, 16)


@st.composite
def structures(draw: st.DrawFn) -> Structure:
    target_count = draw(st.integers(1, 32))
    chains = draw(st.integers(0, target_count))
    layers = [(0, 0)]
    for step in draw(st.lists(st.sampled_from([0, 0, 1, 2]), max_size=20)):
        spatial, temporal = layers[-1]
        following = (spatial + 1, 0) if step == 2 else (spatial, temporal + step)
        if following[0] < 4 and following[1] < 8:
            layers.append(following)
    indications = st.tuples(*[st.integers(0, 3)] * target_count)
    differences = st.lists(st.integers(1, 16), max_size=4).map(tuple)
    chain_differences = st.tuples(*[st.integers(0, 15)] * chains)
    templates = tuple(
        Template(s, t, draw(indications), draw(differences), draw(chain_differences)) for s, t in layers
    )
    highest = [
        [t for t in templates if t.indications[target] != NOT_PRESENT] for target in range(target_count)
    ]
    protected_by = draw(st.tuples(*[st.integers(0, chains - 1)] * target_count)) if chains else ()
    size = st.tuples(st.integers(1, 65536), st.integers(1, 65536))
    spatial_layers = layers[-1][0] + 1
    return Structure(
        draw(st.integers(0, 63)),
        templates,
        tuple(
            (max((t.spatial for t in of), default=0), max((t.temporal for t in of), default=0))
            for of in highest
        ),
        protected_by,
        draw(st.tuples(*[size] * spatial_layers) | st.just(())),
        spatial_layers,
        max(t for _, t in layers) + 1,
    )


@given(structures(), st.booleans(), st.booleans(), st.integers(0, 0xFFFF), st.integers(0, 63), st.data())
def test_reads_what_was_written_bit_by_bit(structure, first, last, number, index, data):
    index %= len(structure.templates)
    template = structure.templates[index]
    active = data.draw(st.none() | st.integers(0, (1 << len(structure.targets)) - 1))
    indications = data.draw(st.none() | st.tuples(*[st.integers(0, 3)] * len(structure.targets)))
    differences = data.draw(st.none() | st.lists(st.integers(1, 4096), max_size=5).map(tuple))
    chains = data.draw(st.none() | st.tuples(*[st.integers(0, 255)] * len(template.chain_differences)))
    w = Writer().f(first, 1).f(last, 1).f((structure.id_offset + index) % 64, 6).f(number, 16)
    w.f(1, 1)
    for own in (active, indications, differences, chains):
        w.f(own is not None, 1)
    write_structure(w, structure)
    if active is not None:
        w.f(active, len(structure.targets))
    for indication in indications or ():
        w.f(indication, 2)
    if differences is not None:
        for difference in differences:
            nibbles = 1 if difference <= 16 else 2 if difference <= 256 else 3
            w.f(nibbles, 2).f(difference - 1, 4 * nibbles)
        w.f(0, 2)
    for difference in chains or ():
        w.f(difference, 8)
    found = parse(w.bytes(), None)
    assert (found.head.first, found.head.last, found.head.frame_number) == (first, last, number)
    assert found.attached
    assert found.structure == structure
    assert (found.spatial, found.temporal) == (template.spatial, template.temporal)
    assert found.indications == (template.indications if indications is None else indications)
    assert found.differences == (template.differences if differences is None else differences)
    assert found.chain_differences == (template.chain_differences if chains is None else chains)
    assert found.active_targets == ((1 << len(structure.targets)) - 1 if active is None else active)


@given(structures(), st.integers(0, 63), st.data())
def test_active_targets_are_put_in_and_nothing_else_changes(structure, index, data):
    index %= len(structure.templates)
    targets = data.draw(st.integers(0, (1 << len(structure.targets)) - 1))
    w = Writer().f(3, 2).f((structure.id_offset + index) % 64, 6).f(7, 16).f(0b10000, 5)
    write_structure(w, structure)
    short = w.bytes()[:3]
    for before, by in ((w.bytes(), None), (short, structure)):
        after = with_active_targets(before, by, targets)
        assert len(after) <= len(before) + 5
        was, is_now = parse(before, by), parse(after, by)
        assert is_now.active_targets == targets
        assert with_active_targets(after, by, targets ^ 1) == with_active_targets(before, by, targets ^ 1)
        assert (is_now.structure, is_now.indications) == (was.structure, was.indications)
        assert (is_now.differences, is_now.chain_differences) == (was.differences, was.chain_differences)


def test_targets_within_layers():
    found = parse(load("av1-l3t3").packets[0].descriptor or b"", None)
    assert found.structure.targets == tuple((s, t) for s in range(3) for t in range(3))
    everything = (1 << len(found.structure.targets)) - 1
    assert targets_within(found.structure, 3, 7) == everything
    lowest = targets_within(found.structure, 0, 0)
    assert lowest == 1
    assert targets_within(found.structure, 1, 1) == 0b000011011


def test_a_browsers_structure_of_three_temporal_layers():
    """Chromium's L1T3: the T0 frame of a keyframe is a switch for all; T2 is discardable for the highest."""
    found = parse(load("av1-l1t3").packets[0].descriptor or b"", None)
    s = found.structure
    assert (s.spatial_layers, s.temporal_layers) == (1, 3)
    assert s.targets == ((0, 0), (0, 1), (0, 2))
    assert (found.spatial, found.temporal, found.differences) == (0, 0, ())
    assert found.indications == (SWITCH, SWITCH, SWITCH)
    assert {t.indications for t in s.templates if t.temporal == 2} == {
        (NOT_PRESENT, NOT_PRESENT, DISCARDABLE)
    }
    assert {t.indications for t in s.templates if t.temporal == 1} == {(NOT_PRESENT, DISCARDABLE, SWITCH)}
    assert s.resolutions == ((640, 360),)
    assert s.protected_by == (0, 0, 0)


@pytest.mark.parametrize("name", DESCRIBED)
def test_cut_at_every_byte(name):
    """The head still reads from 3 bytes on; nothing but the one error comes; a reader goes on after it."""
    recording = load(name)
    longest = max((p.descriptor or b"" for p in recording.packets), key=len)
    structure = parse(longest, None).structure
    for packet in recording.packets:
        assert packet.descriptor is not None
        for cut in range(len(packet.descriptor)):
            piece = packet.descriptor[:cut]
            for by in (structure, None):
                try:
                    parse(piece, by)
                except RtpError:
                    continue
                assert cut >= 3
                assert by is not None, "a structure that is cut is none"
            if cut >= 3:
                assert parse_head(piece) == parse_head(packet.descriptor)
            else:
                with pytest.raises(RtpError):
                    parse_head(piece)
            reader = DependencyLayers()
            reader.read(longest)
            try:
                reader.read(piece)
            except RtpError:
                assert reader.structure == structure


@given(st.binary(max_size=255), st.sampled_from(DESCRIBED))
def test_whatever_the_bytes_only_rtp_error(data, name):
    descriptor = load(name).packets[0].descriptor
    assert descriptor is not None
    for by in (None, parse(descriptor, None).structure):
        for read in (lambda by=by: parse(data, by), lambda by=by: with_active_targets(data, by, 1)):
            try:
                read()
            except RtpError:
                pass


def test_a_template_from_outside_the_structure_is_an_error():
    descriptor = load("av1-l1t3").packets[0].descriptor
    assert descriptor is not None
    structure = parse(descriptor, None).structure
    beyond = (structure.id_offset + len(structure.templates)) % 64
    with pytest.raises(RtpError, match="template"):
        parse(bytes((0xC0 | beyond, 0, 0)), structure)
    with pytest.raises(RtpError, match="before any structure"):
        parse(b"\xc0\0\0", None)


def test_structures_beyond_av1_are_errors():
    for step in ("10", "01", "00"):  # spatial layers, temporal layers, templates without end
        bits = "1" * 2 + "0" * 6 + "0" * 16 + "10000" + "0" * 6 + "0" * 5 + step * 80
        data = int(bits.ljust(800, "0"), 2).to_bytes(100)
        with pytest.raises(RtpError, match="beyond"):
            parse(data, None)


@given(st.integers(-70000, 140000), st.binary(min_size=3, max_size=20))
def test_a_frame_number_is_replaced_alone(number, data):
    changed = with_frame_number(data, number)
    assert parse_head(changed).frame_number == number & 0xFFFF
    assert (changed[:1], changed[3:]) == (data[:1], data[3:])


def test_frames_are_forgotten_in_time_and_a_gap_disarms():
    reader = DependencyLayers()
    packets = load("av1-l1t3").packets
    first, t2 = packets[0].descriptor, packets[1].descriptor
    assert first is not None
    assert t2 is not None
    reader.read(first)
    taken_up = reader.read(t2)
    assert taken_up is not None
    assert taken_up.entry
    number = parse_head(t2).frame_number
    late = reader.read(with_frame_number(t2, number + 2))  # one frame of who knows which layer is missing
    assert late is not None
    assert not late.entry
    for ahead in range(3, 4 * FRAMES_KEPT):
        reader.read(with_frame_number(t2, number + ahead))
