"""A publisher's packets over a seeded lossy link in virtual time: what is asked again, and what comes out."""

import base64
import heapq
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from relaymesh.node.ingress import MAX_MISSING, IngressEncoding, IngressTrack
from relaymesh.node.publications import LocalPublication
from relaymesh.protocol.frames import EXTENSION_AUDIO_LEVEL, MediaFrame
from relaymesh.webrtc.codecs import Codec
from relaymesh.webrtc.rtcp import SenderReport
from relaymesh.webrtc.rtp import RtpPacket
from tests.node.mesh import AUDIO, NAME, VIDEO

VP8 = Codec(96, "VP8", 90_000, 1, "", ("nack", "nack pli", "transport-cc"), 97)
VP8_WITHOUT_NACK = Codec(96, "VP8", 90_000, 1, "", (), None)
OPUS = Codec(111, "opus", 48_000, 2, "", (), None)
DELTA = b"\x10\x01\x00"  # a VP8 descriptor (start of partition) and a frame header saying "no keyframe"
KEY = b"\x10\x00\x00"
REST = b"\x00\x00\x00"  # what follows the first packet of a picture


def make_ingress(codec: Codec = VP8) -> IngressEncoding:
    publication = LocalPublication(NAME)
    publication.set_tracks((VIDEO, AUDIO))
    track = publication.tracks[VIDEO.track if codec.name == "VP8" else AUDIO.track]
    ingress = IngressTrack(track, "0", codec, {3: EXTENSION_AUDIO_LEVEL}, {}).encodings[0]
    ingress.bind(1234, 0.0)
    return ingress


def one(ingress: IngressEncoding, *arguments, **options) -> MediaFrame | None:
    """The frame that a packet becomes, where it becomes one at most."""
    frames = ingress.handle_rtp(*arguments, **options)
    assert len(frames) <= 1
    return frames[0] if frames else None


def packet(sequence: int, payload: bytes = DELTA, extensions: dict[int, bytes] | None = None) -> RtpPacket:
    return RtpPacket(
        payload_type=96,
        marker=True,
        sequence=sequence & 0xFFFF,
        timestamp=sequence * 3000 & 0xFFFFFFFF,
        ssrc=1234,
        extensions=extensions or {},
        payload=payload,
        padding_only=not payload,
    )


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("first", [0, 65_500])
def test_losses_are_asked_for_again_until_everything_is_there(loss, first):
    ingress = make_ingress()
    rng = random.Random(first + 7)
    delay = 0.02
    arrivals: list[tuple[float, int, bool]] = []  # when, sequence, whether it is a retransmission
    for k in range(1000):
        if rng.random() >= loss or k == 0:
            heapq.heappush(arrivals, (k * 0.01 + delay + rng.random() * 0.004, first + k, False))
    frames: list[MediaFrame] = []
    now = 0.0
    while now < 12.0:
        while arrivals and arrivals[0][0] <= now:
            at, sequence, again = heapq.heappop(arrivals)
            frame = one(ingress, packet(sequence), at, retransmission=again)
            if frame is not None:
                frames.append(frame)
        for asked in ingress.nacks_due(now):
            if rng.random() >= loss:  # the request, and then the answer, may be lost as well
                sequence = next(s for s in range(first, first + 1000) if s & 0xFFFF == asked)
                if rng.random() >= loss:
                    heapq.heappush(arrivals, (now + 2 * delay, sequence, True))
        now += 0.01
    got = sorted(f.sequence for f in frames)
    assert len(got) == len(set(got))
    assert got == list(range(got[0], got[0] + 1000))
    assert ingress.given_up == 0
    if loss:
        assert ingress.recovered > 0
    else:
        assert ingress.nacked == 0


def test_duplicates_are_dropped_and_counted():
    ingress = make_ingress()
    assert one(ingress, packet(5), 0.0) is not None
    assert one(ingress, packet(5), 0.0, retransmission=True) is None
    assert ingress.duplicates == 1


def test_padding_leaves_no_hole_downstream():
    ingress = make_ingress()
    out = []
    for sequence in range(10, 30):
        frame = one(ingress, packet(sequence, b"" if sequence % 4 == 0 else DELTA), sequence * 0.01)
        if frame is not None:
            out.append(frame.sequence)
    assert out == list(range(out[0], out[0] + len(out)))
    assert len(out) == 15


def test_a_packet_from_before_a_padding_packet_keeps_its_place():
    ingress = make_ingress()
    order = [10, 11, 14, 13, 12, 15]  # 13 is padding, 12 and 13 come late
    out = {s: one(ingress, packet(s, b"" if s == 11 else DELTA), 0.0) for s in order}
    numbers = [frame.sequence for s in sorted(order) if (frame := out[s]) is not None]
    assert numbers == list(range(numbers[0], numbers[0] + 5))


def test_what_is_lost_for_good_becomes_a_wish_for_a_keyframe():
    ingress = make_ingress()
    one(ingress, packet(1), 0.0)
    one(ingress, packet(3), 0.01)
    asked = [seq for step in range(200) for seq in ingress.nacks_due(0.01 * step)]
    assert asked
    assert set(asked) == {2}
    assert ingress.given_up == 1
    assert ingress.encoding.keyframe_wish.due(2.0)
    assert not ingress.is_waiting


def test_a_publisher_that_cannot_resend_is_asked_for_a_keyframe_at_once():
    ingress = make_ingress(VP8_WITHOUT_NACK)
    one(ingress, packet(1), 0.0)
    one(ingress, packet(3), 0.01)
    assert ingress.nacks_due(0.1) == []
    assert ingress.encoding.keyframe_wish.due(0.01)
    assert one(ingress, packet(2), 0.02) is not None, "late, not lost"


def test_keyframes_and_priorities_are_marked():
    ingress = make_ingress()
    key, delta = one(ingress, packet(1, KEY), 0.0), one(ingress, packet(2), 0.0)
    assert key is not None
    assert delta is not None
    assert (key.keyframe, key.audio) == (True, False)
    assert not delta.keyframe
    assert key.priority < delta.priority
    audio = one(make_ingress(OPUS), packet(1, b"opus", {3: b"\x90", 4: b"x"}), 0.0)
    assert audio is not None
    assert audio.audio
    assert audio.extensions == ((EXTENSION_AUDIO_LEVEL, b"\x90"),)


def test_all_packets_of_a_keyframe_are_of_its_class():
    ingress = make_ingress()
    classes = []
    for number, payload in enumerate((DELTA, REST, KEY, REST, DELTA, REST)):
        part = one(ingress, structs.replace(packet(number, payload), timestamp=3000 * (number // 2)), 0.0)
        assert part is not None
        classes.append((part.priority, part.keyframe))
    assert classes == [(2, False), (2, False), (1, True), (1, False), (2, False), (2, False)]


def test_an_extension_of_an_odd_length_does_not_travel():
    frame = one(make_ingress(OPUS), packet(1, b"opus", {3: b"\x90\x00\x00"}), 0.0)
    assert frame is not None
    assert frame.extensions == ()


def test_the_receiver_report_counts_as_rfc_3550_says():
    ingress = make_ingress()
    for sequence in (65_534, 65_535, 1, 2):  # 0 is lost, over the wrap
        one(ingress, packet(sequence), 0.0)
    ingress.handle_sender_report(SenderReport(1234, 0x1122334455667788, 9, 0, 0, ()), 1.0)
    block = ingress.report_block(1.5)
    assert block is not None
    assert block.highest_sequence == 0x10002
    assert block.cumulative_lost == 1
    assert block.fraction_lost == 256 // 5
    assert block.last_sender_report == 0x33445566
    assert block.delay_since_last_sender_report == 0x8000
    again = ingress.report_block(2.5)
    assert again is not None
    assert again.fraction_lost == 0, "nothing was lost since"


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=8)), max_size=200))
def test_no_sequence_of_packets_breaks_it_or_makes_it_grow(packets):
    ingress = make_ingress()
    seen = set()
    for step, (sequence, payload) in enumerate(packets):
        frame = one(ingress, packet(sequence, payload), step * 0.01)
        if frame is not None and frame.payload:
            assert frame.sequence >= 0
            seen.add(frame.sequence)
    assert len(ingress.nacks_due(len(packets) * 0.01 + 0.02)) <= MAX_MISSING


@pytest.mark.parametrize(
    ("descriptor", "temporal", "priority", "entry"),
    [
        (b"\x90\xe0\x80\x05\x01\x00\x01", 0, 2, False),  # T0
        (b"\x90\xe0\x80\x05\x01\x40\x01", 1, 3, False),  # T1 that refers to its own layer
        (b"\x90\xe0\x80\x05\x01\x60\x01", 1, 3, True),  # T1 with Y: refers to the base only
        (b"\xb0\xe0\x80\x05\x01\x80\x01", 2, 3, True),  # T2 that nobody refers to
        (b"\x90\xe0\x80", 0, 2, False),  # cut off
        (b"\x10\x01\x00", 0, 2, False),  # one layer
    ],
)
def test_temporal_layers_above_the_base_may_be_left_out(descriptor, temporal, priority, entry):
    frame = one(make_ingress(), packet(1, descriptor), 0.0)
    assert frame is not None
    assert (frame.temporal, frame.priority, frame.entry) == (temporal, priority, entry)


SPS, PPS, IDR, SLICE = b"\x67\x42\xe0\x1f\x95\xa0", b"\x68\xce\x3c\x80", b"\x65\x88\x84", b"\x41\x9a\x24"


@pytest.mark.parametrize("told", ["in the stream", "in the session description"])
def test_parameter_sets_learned_once_go_before_a_later_keyframe_that_lacks_them(told):
    fmtp = "packetization-mode=1"
    if told == "in the session description":
        sets = ",".join(base64.b64encode(unit).decode() for unit in (SPS, PPS))
        fmtp += f";sprop-parameter-sets={sets}"
    publication = LocalPublication(NAME)
    publication.set_tracks((structs.replace(VIDEO, codec="H264"),))
    codec = Codec(96, "H264", 90_000, 1, fmtp, ("nack",), 97)
    [track] = publication.tracks.values()
    ingress = IngressTrack(track, "0", codec, {}, {}).encodings[0]
    ingress.bind(1234, 0.0)
    first = [SPS, PPS, IDR] if told == "in the stream" else [IDR]
    frames = []
    for number, payload in enumerate([*first, SLICE, SLICE, IDR, SLICE, IDR, SLICE]):
        one_picture = packet(100 + number, payload)
        if number < len(first):  # of one picture: one timestamp, and the marker at its end
            one_picture.timestamp, one_picture.marker = 0, number == len(first) - 1
        if number == len(first) + 1:
            late = one_picture
            continue
        frames += ingress.handle_rtp(one_picture, number / 30)
    sent = [frame.payload for frame in frames]
    both = b"\x78" + b"".join(len(unit).to_bytes(2, "big") + unit for unit in (SPS, PPS))  # a STAP-A
    begun = [SPS, PPS, IDR] if told == "in the stream" else [both, IDR]
    assert sent == [*begun, SLICE, both, IDR, SLICE, both, IDR, SLICE]
    for place in (len(begun) + 1, len(begun) + 4):
        sets, idr = frames[place : place + 2]
        assert (sets.keyframe, sets.layer_start, sets.marker) == (True, True, False)
        assert (idr.keyframe, idr.layer_start, idr.marker) == (False, False, True)
        assert sets.timestamp == idr.timestamp
    frames += ingress.handle_rtp(late, 1.0)
    sequences = sorted(frame.sequence for frame in frames)
    assert sequences == list(range(sequences[0], sequences[0] + len(frames))), "each number once"
    assert frames[-1].sequence == sequences[len(begun) + 1], "what was before them keeps its place"
