"""Payload readers over a browser's own packets, and over bytes that nobody sends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.webrtc import vp9
from relaymesh.webrtc.dependency_descriptor import Structure, parse
from relaymesh.webrtc.errors import RtpError
from relaymesh.webrtc.payload import WHOLE, PacketInfo, make_payload_reader
from tests.webrtc.recordings import NAMES, Recorded, Recording, load

CODECS = ["VP8", "VP9", "AV1", "H264", "H265", "opus", "red"]
MODES = (
    {"L1T1": (1, 1), "L1T2": (1, 2), "L1T3": (1, 3)}
    | dict.fromkeys(["L3T3", "L3T3_KEY", "S3T3"], (3, 3))
    | {"S2T3": (2, 3)}
)


def read_all(recording: Recording) -> list[tuple[Recorded, PacketInfo]]:
    reader = make_payload_reader(recording.codec)
    return [(p, reader.read(p.payload, p.marker, p.descriptor)) for p in recording.packets]


@pytest.mark.parametrize("name", NAMES)
def test_frames_begin_and_end_as_timestamps_and_markers_say(name):
    packets = read_all(load(name))
    assert packets[0][1].keyframe, "a recording begins with the encoder"
    ends_before, timestamp = True, None
    for packet, info in packets:
        assert info.layer_start == ends_before, "frames follow each other without a gap"
        if packet.timestamp != timestamp:
            assert info.layer_start, "a new timestamp is a new picture"
            spatial = 0
        assert info.spatial >= spatial, "spatial layers come from the lowest up"
        if info.keyframe:
            assert packet.timestamp != timestamp, "a keyframe begins its picture"
        assert info.layer_end or not packet.marker
        ends_before, timestamp, spatial = info.layer_end, packet.timestamp, info.spatial


@pytest.mark.parametrize("name", NAMES)
def test_a_request_brings_a_keyframe_and_few_come_by_themselves(name):
    keyframes = sum(info.keyframe for _, info in read_all(load(name)))
    assert 2 <= keyframes <= 5  # the first, the one asked for, and those with which layers were added


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("h264")])
def test_layers_are_those_of_the_mode(name):
    recording = load(name)
    packets = read_all(recording)
    last = packets[-1][1]
    assert (last.spatial_layers, last.temporal_layers) == MODES[recording.mode]
    assert {info.spatial for _, info in packets} == set(range(last.spatial_layers))
    assert {info.temporal for _, info in packets} == set(range(last.temporal_layers))


def test_temporal_layers_of_h264_come_from_the_dependency_descriptor():
    packets = read_all(load("h264-l1t3"))
    assert {info.temporal for _, info in packets} == {0, 1, 2}
    assert {info.temporal for _, info in packets if info.discardable} == {2}


def references(recording: Recording) -> list[set[tuple[int, ...]]]:
    """For each packet, the frames its own needs, by (picture or frame number, spatial layer if VP9)."""
    needed: list[set[tuple[int, ...]]] = []
    structure: Structure | None = None
    for packet in recording.packets:
        if recording.codec == "VP9":
            d = vp9.parse_descriptor(packet.payload)
            assert d.picture_id is not None
            frames = {((d.picture_id - back) & 0x7FFF, d.spatial) for back in d.references}
            if d.inter_layer:
                frames.add((d.picture_id, d.spatial - 1))
        else:
            assert packet.descriptor is not None
            described = parse(packet.descriptor, structure)
            structure = described.structure
            number = described.head.frame_number
            frames = {((number - back) & 0xFFFF,) for back in described.differences}
        needed.append(frames)
    return needed


def identity(recording: Recording, packet: Recorded) -> tuple[int, ...]:
    if recording.codec == "VP9":
        d = vp9.parse_descriptor(packet.payload)
        assert d.picture_id is not None
        return d.picture_id, d.spatial
    assert packet.descriptor is not None
    return (int.from_bytes(packet.descriptor[1:3]),)


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith(("vp9", "av1")) and "plain" not in n])
@pytest.mark.parametrize("climb_after", range(0, 30, 3))
def test_whoever_takes_up_layers_at_entries_has_all_references(name, climb_after):
    """A receiver of the lowest layer climbs one layer at a time, each at an entry, after so many packets."""
    recording = load(name)
    needed = references(recording)
    spatial = temporal = 0
    has: set[tuple[int, ...]] = set()
    climbed = 0
    for place, (packet, info) in enumerate(read_all(recording)):
        if place >= climb_after and info.entry and info.layer_start:
            if info.temporal == 0 and info.spatial == spatial + 1:
                spatial, climbed = info.spatial, climbed + 1
            elif info.temporal == temporal + 1 and info.spatial <= spatial:
                temporal, climbed = info.temporal, climbed + 1
        if info.spatial <= spatial and info.temporal <= temporal:
            others = {frame for frame in needed[place] if frame[0] != identity(recording, packet)[0]}
            assert others <= has, f"packet {place} refers to what was left out"
            has.add(identity(recording, packet))
    layers = MODES[recording.mode]
    assert climbed == layers[0] + layers[1] - 2, "and it arrives at the top"


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("av1")])
def test_what_is_called_discardable_nobody_refers_to(name):
    recording = load(name)
    if recording.packets[0].descriptor is None:
        return
    needed = set().union(*references(recording))
    discardable = [
        identity(recording, p) for p, info in read_all(recording) if info.discardable and info.temporal
    ]
    assert not needed & set(discardable)
    assert discardable or MODES[recording.mode][1] == 1


def test_the_first_keyframe_of_a_browser_needs_no_descriptor():
    """The aggregation header and the OBUs alone find the same keyframes."""
    recording = load("av1-l3t3")
    plain = make_payload_reader("AV1")
    alone = [plain.read(p.payload, p.marker).keyframe for p in recording.packets]
    assert alone == [info.keyframe for _, info in read_all(recording)]


@given(st.permutations(range(20, 32)), st.sampled_from([n for n in NAMES if n[:3] in ("vp9", "av1")]))
def test_packets_out_of_order_keep_their_layers(order, name):
    recording = load(name)
    expected = [info for _, info in read_all(recording)]
    reader = make_payload_reader(recording.codec)
    for place in [*range(20), *order]:
        packet = recording.packets[place]
        info = reader.read(packet.payload, packet.marker, packet.descriptor)
        wanted = expected[place]
        assert (info.spatial, info.temporal) == (wanted.spatial, wanted.temporal)
        if recording.packets[0].descriptor is not None or recording.codec == "VP9":
            assert (info.layer_start, info.layer_end) == (wanted.layer_start, wanted.layer_end)
        assert wanted.entry or not info.entry, "what is late or lost makes careful"


@pytest.mark.parametrize("codec", ["opus", "OPUS", "red", "PCMU", "nobody-knows"])
def test_audio_and_the_unknown_are_whole_packets(codec):
    assert make_payload_reader(codec).read(b"", False) is WHOLE
    assert not WHOLE.keyframe


@given(
    st.sampled_from(CODECS),
    st.lists(
        st.tuples(st.binary(max_size=40), st.booleans(), st.none() | st.binary(max_size=40)), max_size=8
    ),
)
def test_whatever_the_bytes_only_rtp_error(codec, packets):
    reader = make_payload_reader(codec)
    for payload, marker, descriptor in packets:
        try:
            info = reader.read(payload, marker, descriptor)
        except RtpError:
            continue
        assert 0 <= info.spatial < info.spatial_layers <= 8
        assert 0 <= info.temporal < info.temporal_layers <= 8


@given(
    st.sampled_from(NAMES),
    st.integers(0, 40),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=4),
    st.integers(0, 60),
)
def test_hostile_packets_leave_a_reader_that_goes_on(name, place, changes, cut):
    """One packet is cut and changed; the reader may err on it, and finds the next keyframe all the same."""
    recording = load(name)
    reader = make_payload_reader(recording.codec)
    keyframes = [at for at, (_, info) in enumerate(read_all(recording)) if info.keyframe and at > place + 1]
    for at, packet in enumerate(recording.packets):
        payload, descriptor = packet.payload, packet.descriptor
        if at == place:
            payload = tampered(payload, changes)[:cut]
            descriptor = descriptor and tampered(descriptor, changes)[:cut]
        try:
            info = reader.read(payload, packet.marker, descriptor)
        except RtpError:
            info = None
        if at in keyframes:
            assert info is not None
            assert info.keyframe or recording.codec == "H264"


def tampered(data: bytes, changes: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for at, value in changes:
        if at < len(changed):
            changed[at] = value
    return bytes(changed)
