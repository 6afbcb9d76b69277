"""Publishers with simulcast encodings and spatial layers, and players that are given some of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest

from relaymesh.netsim.descriptions import MID_ID, REPAIRED_RID_ID, RID_ID, TRANSPORT_CC_ID, accepted_in
from relaymesh.netsim.media import Accepted, SyntheticPublisher
from relaymesh.netsim.player import FEEDBACK_INTERVAL, PlayedTrack, SyntheticPlayer
from relaymesh.netsim.reception import ShownLayers, Whole, fates_between
from relaymesh.netsim.synthetic_rtp import STAMP, VP9_HEAD, head_bytes
from relaymesh.netsim.track_specs import TrackSpec
from relaymesh.webrtc import rtcp, vp8
from relaymesh.webrtc.rtp import RtpPacket, build_extensions, build_rtp, parse_rtp
from relaymesh.webrtc.twcc import parse_transport_feedback

SIMULCAST = TrackSpec("video", 1600.0, 30.0, simulcast=3)
SVC = TrackSpec("video", 1300.0, 30.0, keyframe_s=2.0, temporal=3, spatial=3)
ALL = Accepted(True, MID_ID, RID_ID, REPAIRED_RID_ID, TRANSPORT_CC_ID)


def publisher_of(spec: TrackSpec, accepted: Accepted | None = None) -> SyntheticPublisher:
    publisher = SyntheticPublisher([spec], rng=Random(1), start=0.0)
    if accepted is not None:
        publisher.accept([accepted])
    publisher.connected(0.0)
    return publisher


def film(publisher: SyntheticPublisher, seconds: float, *, start: float = 0.0) -> list[tuple[float, bytes]]:
    """(when, packet) of everything it sends."""
    times = [start + tick / 200 for tick in range(round(seconds * 200))]
    return [(now, packet) for now in times for packet in publisher.poll(now)[0]]


def stamp_of(packet: RtpPacket, codec: str) -> tuple[int, ...]:
    return STAMP.unpack_from(packet.payload, head_bytes(codec, packet.payload))


# --- simulcast ---------------------------------------------------------------------------------


def test_each_simulcast_encoding_has_its_own_stream_rate_and_keyframes() -> None:
    publisher = publisher_of(SIMULCAST, ALL)
    sent = [parse_rtp(packet) for _, packet in film(publisher, 10.0)]
    track = publisher.tracks[0]
    assert len({one.ssrc for one in track.encodings} | {one.rtx_ssrc for one in track.encodings}) == 6
    kbps = [one.sent_bytes * 8 / 10 / 1000 for one in track.encodings]
    assert kbps == pytest.approx([100.0, 400.0, 1600.0], rel=0.1)
    for encoding in track.encodings:
        mine = [packet for packet in sent if packet.ssrc == encoding.ssrc]
        assert vp8.parse_descriptor(mine[0].payload).keyframe
        assert {stamp_of(packet, "VP8")[6] for packet in mine} == {encoding.number}
        assert {(b.sequence - a.sequence) & 0xFFFF for a, b in pairwise(mine)} == {1}


def test_a_request_makes_a_keyframe_of_that_encoding_only() -> None:
    publisher = publisher_of(SIMULCAST, ALL)
    film(publisher, 1.0)
    low, middle, high = publisher.tracks[0].encodings
    publisher.handle_rtcp(rtcp.build_pli(5, middle.ssrc), 1.0)
    film(publisher, 0.5, start=1.0)
    assert [low.keyframes, middle.keyframes, high.keyframes] == [1, 2, 1]


def test_a_publisher_that_ignores_requests_makes_keyframes_at_its_own_times() -> None:
    spec = TrackSpec("video", 500.0, 30.0, keyframe_s=4.0, ignores_pli=True)
    publisher = publisher_of(spec)
    main = publisher.tracks[0].main
    for second in range(9):
        publisher.handle_rtcp(rtcp.build_pli(5, main.ssrc), second)
        film(publisher, 1.0, start=second)
    assert main.keyframes == 3


def test_packets_say_whose_they_are_until_the_other_end_knows() -> None:
    publisher = publisher_of(SIMULCAST, ALL)
    before = [parse_rtp(packet) for _, packet in film(publisher, 0.2)]
    rids = {packet.ssrc: packet.extensions[RID_ID] for packet in before}
    assert sorted(rids.values()) == [b"f", b"h", b"q"]
    assert {packet.extensions[MID_ID] for packet in before} == {b"0"}
    numbers = [int.from_bytes(packet.extensions[TRANSPORT_CC_ID], "big") for packet in before]
    assert numbers == list(range(len(numbers))), "one row of numbers for the whole transport"
    middle = publisher.tracks[0].encodings[1]
    first = next(packet for packet in before if packet.ssrc == middle.ssrc)
    # The feedback that asks for a packet is what makes the stream known.
    publisher.handle_rtcp(rtcp.build_nack(5, publisher.tracks[0].main.ssrc, [1]), 0.2)
    after = [parse_rtp(packet) for _, packet in film(publisher, 0.2, start=0.2)]
    assert all(RID_ID in p.extensions for p in after if p.ssrc == middle.ssrc)
    assert not any(RID_ID in p.extensions for p in after if p.ssrc == publisher.tracks[0].main.ssrc)
    assert all(TRANSPORT_CC_ID in p.extensions for p in after)
    [again] = publisher.handle_rtcp(rtcp.build_nack(5, middle.ssrc, [first.sequence]), 0.4)
    assert parse_rtp(again).ssrc == middle.rtx_ssrc
    assert parse_rtp(again).payload == first.sequence.to_bytes(2, "big") + first.payload


def test_an_answer_without_simulcast_is_sent_the_highest_encoding_only() -> None:
    answer = "v=0\r\nm=video 9 x 96\r\na=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=recvonly\r\n"
    publisher = publisher_of(SIMULCAST, accepted_in(answer)[0])
    sent = [parse_rtp(packet) for _, packet in film(publisher, 0.5)]
    assert {packet.ssrc for packet in sent} == {publisher.tracks[0].main.ssrc}
    assert {tuple(packet.extensions) for packet in sent} == {(1,)}


def test_an_answer_with_simulcast_is_read() -> None:
    answer = (
        "v=0\r\nm=audio 9 x 111\r\nm=video 9 x 96\r\na=rid:q recv\r\na=simulcast:recv q;h;f\r\n"
        "a=extmap:2/recvonly urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n"
    )
    assert accepted_in(answer) == [Accepted(), Accepted(simulcast=True, rid=2)]


# --- a player of simulcast ---------------------------------------------------------------------


def forward(
    packets: list[tuple[float, bytes]], player: SyntheticPlayer, choose: Callable[[float, int], bool]
) -> None:
    """Forward what *choose* takes under one SSRC, numbered anew, as a node does."""
    sequence, pictures, current = 1000, 500, None
    for now, data in packets:
        packet = parse_rtp(data)
        stamp = stamp_of(packet, "VP8")
        if not choose(now, stamp[6]):
            continue
        if (stamp[6], stamp[1]) != current:
            current = stamp[6], stamp[1]
            pictures += 1
        payload = bytearray(packet.payload)
        payload[2:4] = (0x8000 | pictures & 0x7FFF).to_bytes(2, "big")
        player.handle_rtp(
            build_rtp(96, packet.marker, sequence, packet.timestamp, 77, bytes(payload)), now + 0.02
        )
        sequence += 1


def test_a_player_knows_which_encoding_it_had_when_and_what_of_each_was_lost() -> None:
    publisher = publisher_of(SIMULCAST, ALL)
    packets = film(publisher, 2.0)
    publisher.handle_rtcp(rtcp.build_pli(5, publisher.tracks[0].encodings[2].ssrc), 2.0)
    packets += film(publisher, 2.0, start=2.0)
    played = PlayedTrack(SIMULCAST, joined_at=0.0)
    player = SyntheticPlayer([played], ssrc=9)
    player.connected([(77, None)], 0.0)
    lost = iter(range(100_000))

    def choose(now: float, encoding: int) -> bool:
        if encoding != (0 if now < 2.0 else 2):
            return False
        return now < 3.0 or next(lost) % 10 != 9  # a tenth of the last second never comes

    forward(packets, player, choose)
    assert [(change.encoding, change.spatial) for change in played.layers] == [(0, 0), (2, 0)]
    assert played.layers[1].at == pytest.approx(2.05, abs=0.07)
    assert [change.took for change in played.layers] == [None, pytest.approx(0.02)]
    low, middle, high = (played.received.get(number) for number in range(3))
    assert middle is None
    assert low is not None
    assert high is not None
    before = fates_between(publisher.tracks[0], played, 0.0, 2.0)
    assert before.never == 0
    low_ssrc = publisher.tracks[0].encodings[0].ssrc
    assert before.sent == sum(now < 2.0 and parse_rtp(data).ssrc == low_ssrc for now, data in packets)
    after = fates_between(publisher.tracks[0], played, 3.0, 4.0)
    assert after.never / after.sent == pytest.approx(0.1, abs=0.02)


def whole(sent_at: float, encoding: int, *, keyframe: bool = False, spatial: int = 0) -> Whole:
    return Whole(sent_at, keyframe, encoding, spatial, 0)


def test_a_switch_counts_from_the_first_keyframe_that_came_of_the_new_encoding() -> None:
    shown = ShownLayers()
    assert shown.show(whole(1.0, 0, keyframe=True), 1.1, 1.05)
    shown.note_keyframe(2, 1.2)  # its picture is lost; the next one is shown
    shown.note_keyframe(2, 1.4)
    assert not shown.show(whole(1.2, 0), 1.3, 1.25)
    assert shown.show(whole(1.4, 2, keyframe=True), 1.6, 1.5)
    assert [change.took for change in shown.changes] == [None, pytest.approx(0.3)]


def test_a_keyframe_that_was_given_up_is_not_what_a_later_switch_counts_from() -> None:
    shown = ShownLayers()
    shown.show(whole(1.0, 0, keyframe=True), 1.1, 1.05)
    shown.note_keyframe(2, 1.2)
    assert not shown.show(whole(1.3, 0), 1.4, 1.35)  # the lower one goes on
    shown.note_keyframe(2, 5.0)
    shown.show(whole(5.0, 2, keyframe=True), 5.1, 5.07)
    assert shown.changes[-1].took == pytest.approx(0.07)


def test_a_switch_without_a_keyframe_of_its_own_is_not_counted() -> None:
    shown = ShownLayers()
    shown.show(whole(9.0, 2, keyframe=True), 9.1, 9.05)
    shown.note_keyframe(0, 4.0)
    assert shown.show(whole(4.0, 0, keyframe=True), 9.3, 9.2)  # it was kept at the node
    assert shown.show(whole(9.4, 0, keyframe=True, spatial=1), 9.5, 9.44)
    assert shown.show(whole(9.6, 0), 9.7, 9.65)  # the upper layer is left out
    assert [change.took for change in shown.changes] == [None, None, pytest.approx(0.04), None]


# --- spatial layers ----------------------------------------------------------------------------


def test_a_picture_of_spatial_layers_is_described_as_vp9_does() -> None:
    publisher = publisher_of(SVC)
    packets = [parse_rtp(packet) for _, packet in film(publisher, 3.0)]
    assert {packet.payload_type for packet in packets} == {98}
    pictures: dict[int, list[RtpPacket]] = {}
    for packet in packets:
        pictures.setdefault(packet.timestamp, []).append(packet)
    keys = 0
    for number, picture in enumerate(pictures.values()):
        assert [packet.marker for packet in picture] == [False] * (len(picture) - 1) + [True]
        begun = []
        for packet in picture:
            flags, picture_id, layer, _ = VP9_HEAD.unpack_from(packet.payload)
            key = stamp_of(packet, "VP9")[5] != 0
            spatial, between = layer >> 1 & 7, layer & 1
            assert flags & 0xB0 == 0xA0, "I, L, not flexible"
            assert picture_id == 0x8000 | number
            assert bool(flags & 0x40) == (not key), "P"
            assert between == (key and spatial > 0), "D only in key pictures"
            assert bool(flags & 0x02) == (key and spatial == 0 and bool(flags & 0x08)), "V once"
            if flags & 0x08:
                begun.append(spatial)
        assert begun == [0, 1, 2]
        keys += stamp_of(picture[0], "VP9")[5]
    assert keys == 2
    temporal = [p[0].payload[3] >> 5 for p in pictures.values()]
    assert temporal[:9] == [0, 2, 1, 2, 0, 2, 1, 2, 0]
    assert publisher.tracks[0].sent_bytes * 8 / 3000 == pytest.approx(1300.0, rel=0.15)


def play_layers(below: int, *, drop: frozenset[int] = frozenset()) -> tuple[SyntheticPublisher, PlayedTrack]:
    """A node that forwards spatial layers up to *below*, in key pictures all of them up to it."""
    publisher = publisher_of(SVC)
    played = PlayedTrack(SVC, joined_at=0.0)
    player = SyntheticPlayer([played], ssrc=9)
    player.connected([(77, None)], 0.0)
    chosen = []
    for now, data in film(publisher, 4.0):
        packet = parse_rtp(data)
        flags, _, layer, _ = VP9_HEAD.unpack_from(packet.payload)
        spatial, key = layer >> 1 & 7, not flags & 0x40
        if spatial == below or (key and spatial < below):
            last = bool(flags & 0x04) and spatial == below
            chosen.append((now, last, packet))
    for number, (now, last, packet) in enumerate(chosen):
        if number not in drop:
            player.handle_rtp(build_rtp(98, last, number, packet.timestamp, 77, packet.payload), now + 0.02)
    return publisher, played


@pytest.mark.parametrize("below", [0, 1, 2])
def test_a_player_shows_the_spatial_layer_it_is_sent(below: int) -> None:
    publisher, played = play_layers(below)
    assert [(change.encoding, change.spatial) for change in played.layers] == [(0, below)]
    assert len(played.plays) == 120
    assert played.frozen(0.0, 4.0) == 0.0
    assert set(played.temporal[:4]) == {3}
    fates = fates_between(publisher.tracks[0], played, 0.0, 4.0)
    assert fates.left_out > 0
    if below == 0:
        assert fates.never == 0


def test_a_key_picture_that_lacks_a_lower_layer_is_not_shown() -> None:
    whole = play_layers(2)[1]
    broken = play_layers(2, drop=frozenset({0}))[1]  # the first packet of the first key picture
    assert whole.first_frame_at == pytest.approx(0.02)
    assert broken.first_frame_at == pytest.approx(2.02, abs=0.02), "the next keyframe is the first picture"


# --- feedback ----------------------------------------------------------------------------------


def test_a_player_reports_what_came_by_transport_wide_numbers() -> None:
    played = PlayedTrack(TrackSpec("video", 500.0, 30.0), joined_at=0.0)
    player = SyntheticPlayer([played], ssrc=9)
    player.connected([(77, None)], 0.0, transport_id=TRANSPORT_CC_ID)
    assert player.feedback_at == float("inf")
    for number in (0, 1, 2, 4):
        block = build_extensions([(TRANSPORT_CC_ID, number.to_bytes(2, "big"))])
        player.handle_rtp(build_rtp(96, False, number, 0, 77, bytes(60), block), 1.0 + number / 1000)
    due = player.feedback_at
    assert due == pytest.approx(1.0 + FEEDBACK_INTERVAL)
    assert player.poll_feedback(due - 0.001) == []
    [packet] = player.poll_feedback(due)
    [feedback] = rtcp.parse_rtcp(packet)
    assert isinstance(feedback, rtcp.TransportFeedback)
    arrivals = parse_transport_feedback(feedback.body).arrivals
    assert [at is not None for _, at in arrivals] == [True, True, True, False, True]
    assert player.feedback_at == float("inf")


def test_without_the_extension_nothing_is_reported() -> None:
    player = SyntheticPlayer([PlayedTrack(TrackSpec(), joined_at=0.0)], ssrc=9)
    player.connected([(77, None)], 0.0)
    player.handle_rtp(build_rtp(96, False, 1, 0, 77, bytes(60), build_extensions([(4, b"\0\1")])), 1.0)
    assert player.feedback_at == float("inf")


def play_pictures(wanted: Callable[[int, int], bool]) -> PlayedTrack:
    """A player of the lowest spatial layer, and of the pictures *wanted* says: number, temporal layer."""
    played = PlayedTrack(SVC, joined_at=0.0)
    player = SyntheticPlayer([played], ssrc=9)
    player.connected([(77, None)], 0.0)
    sequence = 0
    for now, data in film(publisher_of(SVC), 4.0):
        packet = parse_rtp(data)
        flags, picture, layer, _ = VP9_HEAD.unpack_from(packet.payload)
        if layer >> 1 & 7 == 0 and wanted(picture & 0x7FFF, layer >> 5):
            marked = build_rtp(98, bool(flags & 0x04), sequence, packet.timestamp, 77, packet.payload)
            player.handle_rtp(marked, now + 0.02)
            sequence += 1
    return played


def test_a_decoder_of_vp9_goes_on_without_upper_temporal_layers_whose_picture_ids_stay_missing() -> None:
    played = play_pictures(lambda picture, temporal: temporal < 2 or picture > 60)
    assert len(played.plays) == 120 - 30
    assert played.frozen(0.0, 4.0) == 0.0


def test_a_decoder_of_vp9_waits_for_a_keyframe_when_a_base_picture_is_missing() -> None:
    played = play_pictures(lambda picture, temporal: picture != 8)
    assert played.stills(0.0, 4.0) == [pytest.approx(2.0 - 8 / 30, abs=0.05)]
