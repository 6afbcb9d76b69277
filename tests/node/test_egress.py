"""What a player is sent: numbering, retransmission, a source that changes, sender reports."""

from relaymesh.node.egress import REMOTE_PATIENCE, Sender
from relaymesh.node.egress_rows import EgressNumbers, EgressRow
from relaymesh.node.encodings import Encoding, MediaClock
from relaymesh.node.publications import LocalPublication, Publication, RemotePublication, Track
from relaymesh.node.resending import ASKED_BURST, ASKED_PER_S
from relaymesh.node.selector import LayerChoice
from relaymesh.protocol.frames import EXTENSION_VIDEO_ORIENTATION
from relaymesh.protocol.messages import TrackInfo
from relaymesh.webrtc import vp8
from relaymesh.webrtc.codecs import Codec
from relaymesh.webrtc.rtcp import SenderReport, parse_rtcp
from relaymesh.webrtc.rtp import RtpPacket, parse_rtp, rtx_unwrap
from tests.node.mesh import AUDIO, NAME, VIDEO, video_frame, video_of

VP8 = Codec(108, "VP8", 90_000, 1, "", ("nack", "nack pli", "transport-cc"), 109)
VP8_WITHOUT_RTX = Codec(108, "VP8", 90_000, 1, "", ("nack",), None)


class Player:
    """Holds what a sender sent; each packet gets the next transport-wide number."""

    def __init__(self, codec: Codec = VP8, *, transport_id: int | None = None) -> None:
        self.packets: list[RtpPacket] = []
        self.transport_sequence = 0
        numbers = EgressNumbers(
            ssrc=1,
            rtx_ssrc=2 if codec.rtx is not None else None,
            first_sequence=0x7FFF,
            first_rtx_sequence=5,
            transport_id=transport_id,
            extension_ids={EXTENSION_VIDEO_ORIENTATION: 13},
        )
        self.sender = Sender(
            "0",
            codec,
            numbers,
            cname="c",
            send=self._take,
        )

    def _take(self, row: EgressRow, now: float) -> None:
        self.transport_sequence += 1
        self.packets.append(parse_rtp(row.build(self.transport_sequence, now)))

    def play(self, track: Track, now: float, number: int = 0, burst_bytes: int = 0) -> Encoding:
        """Take one encoding of *track*, with all of its layers."""
        self.sender.attach(track)
        self.sender.choose(LayerChoice(number), now, burst_bytes=burst_bytes)
        return track.encodings[number]


def make_publication() -> RemotePublication:
    publication = RemotePublication(NAME, 1, 0.0)
    publication.set_tracks((VIDEO, AUDIO))
    return publication


def feed(
    publication: Publication, sequences, *, now: float = 0.0, keyframes=(), payload: bytes = b"\x10\x01\0"
) -> None:
    encoding = video_of(publication).encodings[0]
    for sequence in sequences:
        encoding.deliver(
            video_frame(publication, sequence, keyframe=sequence in keyframes, payload=payload),
            now + sequence / 30,
        )


def test_video_starts_on_a_keyframe_and_asks_for_one():
    publication, player = make_publication(), Player()
    encoding = player.play(publication.tracks[VIDEO.track], 0.0)
    assert not encoding.keyframe_wish.due(REMOTE_PATIENCE - 0.01), "the ingress sends what it keeps by itself"
    assert encoding.keyframe_wish.due(REMOTE_PATIENCE)
    feed(publication, range(100, 110), keyframes={104})
    assert [p.sequence for p in player.packets] == [(0x7FFF + k) & 0xFFFF for k in range(6)]
    assert [p.timestamp for p in player.packets] == [s * 3000 for s in range(104, 110)]
    assert {p.ssrc for p in player.packets} == {1}


def test_a_keyframe_of_a_publisher_here_is_asked_for_at_once():
    publication, player = LocalPublication(NAME), Player()
    publication.set_tracks((VIDEO,))
    encoding = player.play(publication.tracks[VIDEO.track], 0.0)
    assert encoding.keyframe_wish.due(0.0)


def test_a_second_player_of_a_remote_track_asks_at_once():
    """Demand is not new then: the ingress sends nothing by itself."""
    publication, player, other = make_publication(), Player(), Player()
    encoding = player.play(publication.tracks[VIDEO.track], 0.0)
    feed(publication, [1], keyframes={1})
    assert encoding.keyframe_wish.next_timeout() is None
    other.play(publication.tracks[VIDEO.track], 0.1)
    assert encoding.keyframe_wish.due(0.1)


def test_a_gap_from_upstream_stays_a_gap_and_a_late_packet_fills_it():
    publication, player = make_publication(), Player()
    player.play(publication.tracks[VIDEO.track], 0.0)
    feed(publication, [1, 2, 4, 3, 0], keyframes={1})
    assert [(p.sequence - 0x7FFF) & 0xFFFF for p in player.packets] == [0, 1, 3, 2], "0 lies before the start"


def test_a_nack_is_answered_by_rtx_with_the_original_number():
    publication, player = make_publication(), Player()
    player.play(publication.tracks[VIDEO.track], 0.0)
    feed(publication, range(1, 20), keyframes={1}, payload=b"\x10\x01\0data")
    lost = player.packets[7]
    player.packets.clear()
    player.sender.handle_nack([lost.sequence, lost.sequence, 40_000], 1.0)
    [again] = player.packets
    assert (again.ssrc, again.payload_type, again.sequence) == (2, 109, 5)
    assert rtx_unwrap(again.payload) == (lost.sequence, lost.payload)
    assert again.timestamp == lost.timestamp
    assert player.sender.resending.unavailable == 1
    player.sender.handle_nack([lost.sequence], 1.1)
    assert player.packets[-1].sequence == 6, "asked again later, sent again"


def test_what_is_on_its_way_is_not_sent_once_more():
    """A player asks anew each 10 ms or so; the answer may wait longer than that behind other packets."""
    publication, player = make_publication(), Player()
    player.play(publication.tracks[VIDEO.track], 0.0)
    feed(publication, range(1, 20), keyframes={1})
    lost = player.packets[7].sequence
    for now in (1.0, 1.02, 1.1, 1.29):
        player.sender.handle_nack([lost], now, 0.3)
    assert player.sender.resending.retransmitted == 1
    player.sender.handle_nack([lost], 1.31, 0.3)
    assert player.sender.resending.retransmitted == 2


def test_nothing_begins_with_a_part_of_what_the_ingress_sends_again():
    """The rest would be a hole that each NACK of the player wants filled, packet by packet."""
    publication, player = make_publication(), Player()
    encoding = player.play(publication.tracks[VIDEO.track], 0.0, burst_bytes=1 << 20)
    kept = [video_frame(publication, 10 + k, keyframe=k == 0) for k in range(200)]
    for frame in kept[:150]:
        encoding.collect(frame, False, 0.1)
    late = player.sender.next_timeout()
    assert late is not None
    player.sender.handle_timeout(late)
    assert player.packets == []
    for frame in kept[150:]:
        encoding.collect(frame, frame is kept[-1], late + 0.1)
    encoding.deliver(video_frame(publication, 210), late + 0.2)
    assert [p.sequence for p in player.packets] == [(0x7FFF + k) & 0xFFFF for k in range(201)]


def test_the_rest_of_a_keyframe_whose_first_packet_comes_late_is_sent_with_it():
    publication, player = make_publication(), Player()
    player.play(publication.tracks[VIDEO.track], 0.0)
    feed(publication, [9, 11, 12, 13, 10, 14], keyframes={10})
    assert [p.sequence for p in player.packets] == [(0x7FFF + k) & 0xFFFF for k in range(5)]


def test_what_was_left_out_behind_all_that_is_kept_is_no_hole():
    publication, player, other = make_publication(), Player(), Player()
    encoding = other.play(publication.tracks[VIDEO.track], 0.0)
    feed(publication, range(10, 20), keyframes={10})
    encoding.skip(20, 5, 2)
    player.play(publication.tracks[VIDEO.track], 1.0, burst_bytes=1 << 20)
    encoding.deliver(video_frame(publication, 25), 10.1)
    assert [p.sequence for p in player.packets] == [(0x7FFF + k) & 0xFFFF for k in range(11)]


def test_a_hole_from_upstream_that_stays_is_answered_by_a_keyframe():
    publication, player = make_publication(), Player()
    encoding = player.play(publication.tracks[VIDEO.track], 0.0)
    feed(publication, [1, 2, 3, 6, 7], keyframes={1})
    hole = (player.packets[2].sequence + 1) & 0xFFFF
    player.sender.handle_nack([hole, hole + 1], 1.0)
    assert encoding.keyframe_wish.next_timeout() is None, "it may still come"
    player.sender.handle_nack([hole + 1], 1.1)
    assert encoding.keyframe_wish.next_timeout() is None
    player.sender.handle_nack([hole], 1.16)
    assert encoding.keyframe_wish.due(1.16)
    feed(publication, [8], keyframes={8})
    player.sender.handle_nack([hole], 1.2)
    assert encoding.keyframe_wish.next_timeout() is None, "answered: not asked again at once"


def test_without_rtx_the_packet_itself_comes_again():
    publication, player = make_publication(), Player(VP8_WITHOUT_RTX)
    player.play(publication.tracks[VIDEO.track], 0.0)
    feed(publication, range(1, 5), keyframes={1})
    first = player.packets[0]
    player.sender.handle_nack([first.sequence], 1.0)
    assert player.packets[-1] == first


def vp8_payload(picture_id: int, tl0: int, *, keyframe: bool = False) -> bytes:
    return bytes([0x90, 0xC0, 0x80 | picture_id >> 8, picture_id & 0xFF, tl0, 0 if keyframe else 1, 0, 0])


def test_a_publisher_that_comes_back_continues_the_players_numbers():
    publication, player = make_publication(), Player()
    player.play(publication.tracks[VIDEO.track], 0.0)
    for k in range(10):
        feed(
            publication, [100 + k], keyframes={100}, payload=vp8_payload(0x7FFA + k & 0x7FFF, 250 + k & 0xFF)
        )
    old_tracks = dict(publication.tracks)
    publication.set_tracks((TrackInfo(99, "video", "VP8", 90_000),))
    player.play(publication.tracks[99], 5.0)
    for k in range(5):
        feed(
            publication,
            [7000 + k],
            keyframes={7000},
            now=-228.0,
            payload=vp8_payload(33 + k, 9, keyframe=k == 0),
        )
    sequences = [p.sequence for p in player.packets]
    assert sequences == [(0x7FFF + k) & 0xFFFF for k in range(15)]
    descriptors = [vp8.parse_descriptor(p.payload) for p in player.packets]
    ids = [d.picture_id for d in descriptors]
    assert ids == [0x7FFA + k & 0x7FFF for k in range(15)], "one counter over the change"
    assert [d.tl0picidx for d in descriptors][9:12] == [3, 4, 4]
    stamps = [p.timestamp for p in player.packets]
    assert stamps == sorted(stamps)
    assert stamps[10] - stamps[9] == int((7000 / 30 - 228.0 - 109 / 30) * 90_000)
    # What came before the change can still be asked for.
    player.packets.clear()
    player.sender.handle_nack([sequences[3]], 6.0)
    assert rtx_unwrap(player.packets[0].payload)[0] == sequences[3]
    assert old_tracks[VIDEO.track].encodings[0].takers == []


def test_transport_numbers_and_carried_extensions_are_written_under_the_players_ids():
    publication, player = make_publication(), Player(transport_id=5)
    encoding = player.play(publication.tracks[VIDEO.track], 0.0)
    frame = video_frame(publication, 1, keyframe=True)
    frame.extensions = ((EXTENSION_VIDEO_ORIENTATION, b"\x02"), (9, b"?"))
    encoding.deliver(frame, 0.0)
    feed(publication, [2])
    assert player.packets[0].extensions == {13: b"\x02", 5: b"\x00\x01"}
    assert player.packets[1].extensions == {5: b"\x00\x02"}


def test_the_sender_report_carries_the_publishers_clock():
    publication, player = make_publication(), Player()
    encoding = player.play(publication.tracks[VIDEO.track], 0.0)
    assert player.sender.sender_report(0.0) == b""
    feed(publication, [1], keyframes={1})
    assert player.sender.sender_report(0.0) == b"", "the publisher has not said its clock"
    encoding.clock = MediaClock(100 << 32, 5000, 10.0)
    report = parse_rtcp(player.sender.sender_report(10.5))[0]
    assert isinstance(report, SenderReport)
    assert report.ntp == (100 << 32) + (1 << 31)
    assert report.rtp_timestamp == 5000 + 45_000
    assert report.packet_count == 1


def test_a_player_is_sent_again_only_so_much():
    publication, player = make_publication(), Player()
    player.play(publication.tracks[VIDEO.track], 0.0)
    feed(publication, range(1, 1001), keyframes={1})
    everything = [packet.sequence for packet in player.packets]
    player.packets.clear()
    for k in range(100):  # a second of asking for all of it
        player.sender.handle_nack(everything, 100.0 + k / 100)
    assert ASKED_BURST <= len(player.packets) <= ASKED_BURST + ASKED_PER_S
    player.packets.clear()
    player.sender.handle_nack(everything, 200.0)
    assert len(player.packets) == len(everything), "and is served again later"


def test_a_keyframe_of_audio_is_never_waited_for():
    publication = make_publication()
    player = Player(Codec(111, "opus", 48_000, 2, "", (), None))
    encoding = player.play(publication.tracks[AUDIO.track], 0.0)
    player.sender.handle_keyframe_request(1.0)
    assert encoding.keyframe_wish.next_timeout() is None


def layered(number: int) -> bytes:
    """A VP8 packet with a 15-bit picture id and a temporal layer: the second of each pair is left out."""
    return bytes((0x90, 0xE0, 0x80 | number >> 8 & 0x7F, number & 0xFF, number // 2 & 0xFF, 0x20, 1))


def offered(publication: Publication, player: Player, numbers, *, skips: dict[int, int]) -> None:
    """Packet n is picture n; before a packet named in *skips* come so many that were left out."""
    encoding = video_of(publication).encodings[0]
    for number in numbers:
        if number in skips:
            encoding.skip(number - skips[number], skips[number], skips[number])
        encoding.deliver(
            video_frame(publication, number, keyframe=number == 1, payload=layered(number)), number / 30
        )


def test_what_a_link_left_out_leaves_no_hole():
    publication, player = make_publication(), Player()
    encoding = player.play(publication.tracks[VIDEO.track], 0.0)
    offered(publication, player, [1, 3, 5, 9, 10], skips={3: 1, 5: 1, 9: 3})
    assert [(p.sequence - 0x7FFF) & 0xFFFF for p in player.packets] == [0, 1, 2, 3, 4]
    assert [p.timestamp for p in player.packets] == [n * 3000 for n in (1, 3, 5, 9, 10)]
    assert [vp8.parse_descriptor(p.payload).picture_id for p in player.packets] == [1, 2, 3, 4, 5]
    assert (encoding.skipped, encoding.lost) == (5, 0)
    # Each is found again under the number it had.
    player.sender.handle_nack([p.sequence for p in player.packets], 1.0)
    again = [rtx_unwrap(p.payload) for p in player.packets[5:]]
    assert again == [(p.sequence, p.payload) for p in player.packets[:5]]


def test_a_late_packet_before_a_skip_keeps_its_number_and_a_skipped_one_is_not_sent():
    publication, player = make_publication(), Player()
    player.play(publication.tracks[VIDEO.track], 0.0)
    offered(
        publication, player, [1, 6, 2, 4, 7], skips={6: 3}
    )  # 2 is late, 3 … 5 are left out, and 4 comes after all
    assert [(p.sequence - 0x7FFF) & 0xFFFF for p in player.packets] == [0, 2, 1, 3]


def test_a_skip_that_comes_too_late_or_twice_changes_nothing():
    publication, player = make_publication(), Player()
    encoding = player.play(publication.tracks[VIDEO.track], 0.0)
    offered(publication, player, [1, 2, 5], skips={})
    encoding.skip(3, 2, 2)
    offered(publication, player, [6, 9], skips={9: 2})
    encoding.skip(7, 2, 2)
    offered(publication, player, [10], skips={})
    assert [(p.sequence - 0x7FFF) & 0xFFFF for p in player.packets] == [0, 1, 4, 5, 6, 7]


def test_a_row_says_when_it_leaves_in_6_18_fixed_point_modulo_64_s():
    row = EgressRow("video", 96, True, 7, 8, 9, b"media", (), None, 3)
    assert parse_rtp(row.build(None, 1.5)).extensions == {3: (3 << 17).to_bytes(3, "big")}
    assert parse_rtp(row.build(None, 64.0 - 2**-18)).extensions == {3: b"\xff\xff\xff"}
    assert parse_rtp(row.build(None, 64.0)).extensions == {3: b"\0\0\0"}
    assert parse_rtp(row.build(None, 64_000_000.25)).extensions == {3: (1 << 16).to_bytes(3, "big")}


def test_a_row_carries_its_extensions_and_what_is_known_when_it_leaves():
    both = EgressRow("video", 96, True, 7, 8, 9, b"media", ((13, b"\1"),), 5, 3, padding_bytes=9)
    packet = parse_rtp(both.build(0xABCD, 1.0))
    assert packet.extensions == {13: b"\1", 3: (1 << 18).to_bytes(3, "big"), 5: b"\xab\xcd"}
    assert packet.payload == b"media"
    plain = EgressRow("video", 96, True, 7, 8, 9, b"media", (), None)
    assert parse_rtp(plain.build(None, 1.0)).extensions == {}
    numbered = EgressRow("video", 96, True, 7, 8, 9, b"media", (), 5)
    assert parse_rtp(numbered.build(0xABCD, 1.0)).extensions == {5: b"\xab\xcd"}
