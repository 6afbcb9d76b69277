"""SSRCs of one session: as signalled, as packets say, and those that have to prove themselves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relaymesh.node.binding import MAX_BOUND, MAX_CANDIDATES, PROOF_PACKETS, SILENT_AFTER, Bound, SsrcBinder
from relaymesh.node.ingress import IngressTrack
from relaymesh.node.publications import LocalPublication
from relaymesh.protocol.messages import EncodingInfo, TrackInfo
from relaymesh.webrtc.codecs import Codec
from relaymesh.webrtc.rtp import RtpPacket
from tests.node.mesh import NAME

MID, RID, REPAIRED = 4, 10, 11
RIDS = {"q": 0, "h": 1, "f": 2}
CAMERA = TrackInfo(
    7, "video", "VP8", 90_000, encodings=tuple(EncodingInfo(number, rid) for rid, number in RIDS.items())
)
SCREEN = TrackInfo(8, "video", "VP8", 90_000)
VOICE = TrackInfo(9, "audio", "opus", 48_000, 2)
VP8 = Codec(96, "VP8", 90_000, 1, "", ("nack",), 97)
OPUS = Codec(111, "opus", 48_000, 2, "", (), None)


class Bundle:
    """A binder with a camera in three encodings (mid 0), and a screen and a voice of one each."""

    def __init__(self, *, screen: list[tuple[int, int | None]] | None = None, camera: bool = True) -> None:
        publication = LocalPublication(NAME)
        publication.set_tracks((CAMERA, SCREEN, VOICE))
        tracks = publication.tracks
        self.binder = SsrcBinder()
        self.binder.use_extensions(MID, RID, REPAIRED)
        self.camera = IngressTrack(tracks[7], "0", VP8, {}, RIDS)
        self.screen = IngressTrack(tracks[8], "1", VP8, {}, {})
        self.voice = IngressTrack(tracks[9], "2", OPUS, {}, {})
        if camera:
            self.binder.add(self.camera, [(1, 2)], 0.0)  # those of simulcast are not to be believed
        self.binder.add(self.screen, screen or [], 0.0)
        self.binder.add(self.voice, [], 0.0)

    def find(
        self,
        ssrc: int,
        *,
        kind: int = 96,
        mid: str = "",
        rid: str = "",
        repaired: str = "",
        sequence: int = 1,
        now: float = 0.0,
    ) -> Bound | None:
        said = {MID: mid, RID: rid, REPAIRED: repaired}
        extensions = {number: text.encode() for number, text in said.items() if text}
        return self.binder.find(RtpPacket(kind, False, sequence, 0, ssrc, extensions, b"x", False), now)


def test_encodings_are_told_apart_by_mid_and_rid_and_then_known_by_their_ssrc() -> None:
    bundle = Bundle()
    for rid, number in RIDS.items():
        ssrc = 100 + number
        assert bundle.find(ssrc) is None, "it has not said yet what it is"
        assert bundle.find(ssrc, mid="0", rid=rid) == (bundle.camera.encodings[number], False)
        assert bundle.find(ssrc) == (bundle.camera.encodings[number], False)
        assert bundle.camera.encodings[number].ssrc == ssrc
    assert bundle.binder.unbound == 3


def test_retransmissions_are_told_apart_by_the_repaired_rid() -> None:
    bundle = Bundle()
    assert bundle.find(201, kind=97, mid="0", rid="h") is None, "a retransmission says it by the other one"
    assert bundle.find(201, kind=97, mid="0", repaired="h") == (bundle.camera.encodings[1], True)
    assert bundle.find(201, kind=97) == (bundle.camera.encodings[1], True)
    assert bundle.camera.encodings[1].rtx_ssrc == 201 and bundle.camera.encodings[1].ssrc is None


def test_what_does_not_fit_belongs_nowhere() -> None:
    bundle = Bundle()
    assert bundle.find(1, mid="0", rid="x") is None, "a rid that was not offered"
    assert bundle.find(2, mid="9", rid="q") is None, "a mid that was not offered"
    assert bundle.find(3, mid="2") is None, "a payload type of another section"
    assert bundle.find(4, kind=50, mid="0", rid="q") is None
    assert bundle.find(5, mid="0") is None, "which of three?"
    assert bundle.find(6) is None, "which of two tracks?"
    assert bundle.binder.unbound == 6


def test_text_that_is_no_ascii_is_no_mid() -> None:
    bundle = Bundle()
    packet = RtpPacket(96, False, 1, 0, 5, {MID: b"\xff\xfe", RID: b"\x80"}, b"x", False)
    assert bundle.binder.find(packet, 0.0) is None


def test_a_payload_type_that_only_one_track_has_is_enough() -> None:
    bundle = Bundle()
    assert bundle.find(300, kind=111) == (bundle.voice.encodings[0], False)


def test_signalled_ssrcs_are_bound_before_the_first_packet_but_not_those_of_simulcast() -> None:
    bundle = Bundle(screen=[(50, 51)])
    encoding = bundle.screen.encodings[0]
    assert bundle.binder.get(50) == (encoding, False) and bundle.binder.get(51) == (encoding, True)
    assert bundle.find(50) == (encoding, False)
    assert bundle.binder.get(1) is None


def test_another_ssrc_takes_over_only_after_its_proof() -> None:
    bundle = Bundle(screen=[(50, 51)])
    encoding = bundle.screen.encodings[0]
    for sequence in range(1, PROOF_PACKETS):
        assert bundle.find(60, mid="1", sequence=sequence) is None
        assert bundle.find(50) == (encoding, False), "until then the old one is heard"
    assert bundle.find(60, mid="1", sequence=PROOF_PACKETS) == (encoding, False)
    assert encoding.ssrc == 60
    assert bundle.binder.get(50) is None, "it would have to prove itself again"
    assert bundle.find(50, sequence=9) is None


def test_the_proof_is_packets_in_a_row() -> None:
    bundle = Bundle(screen=[(50, 51)])
    for sequence in (1, 3, 5, 7, 9, 8, 7, 6):
        assert bundle.find(60, mid="1", sequence=sequence) is None
    for sequence in (0xFFFE, 0xFFFF):
        assert bundle.find(60, mid="1", sequence=sequence) is None
    assert bundle.find(60, mid="1", sequence=0) is not None, "over the wrap, too"


def test_one_that_does_not_say_what_it_is_takes_over_only_from_one_that_is_silent() -> None:
    bundle = Bundle(screen=[(50, 51)], camera=False)
    encoding = bundle.screen.encodings[0]
    packet = RtpPacket(96, True, 1, 0, 50, {}, b"\x10\0\0", False)
    for frame in encoding.handle_rtp(packet, 10.0):
        assert encoding.encoding.deliver(frame, 10.0)
    assert encoding.last_arrival == 10.0
    for sequence in range(1, 20):
        assert bundle.find(60, sequence=sequence, now=10.0 + SILENT_AFTER - 0.01) is None
    assert bundle.find(60, sequence=20, now=10.0 + SILENT_AFTER) == (encoding, False)


def test_a_retransmission_ssrc_takes_no_place_of_media() -> None:
    bundle = Bundle(screen=[(50, None)])
    assert bundle.find(60, kind=97, mid="1") == (bundle.screen.encodings[0], True)
    assert bundle.screen.encodings[0].ssrc == 50
    assert bundle.find(50) == (bundle.screen.encodings[0], False)


def test_a_stopped_section_is_forgotten() -> None:
    bundle = Bundle(screen=[(50, 51)])
    bundle.binder.remove(bundle.screen)
    assert bundle.binder.get(50) is None and bundle.binder.get(51) is None
    assert bundle.find(50, mid="1") is None
    bundle.find(100, mid="0", rid="q")
    assert bundle.binder.get(100) is not None


def test_the_ssrcs_of_a_flood_are_bounded_and_hurt_nobody() -> None:
    bundle = Bundle(screen=[(50, 51)])
    for k in range(10 * MAX_CANDIDATES):
        assert bundle.find(10_000 + k, mid="1", sequence=k) is None
        assert bundle.find(20_000 + k) is None
    assert bundle.find(50) == (bundle.screen.encodings[0], False)
    assert bundle.binder.unbound == 20 * MAX_CANDIDATES


@given(
    st.lists(
        st.tuples(
            st.integers(0, 200),
            st.sampled_from([96, 97, 111, 5]),
            st.sampled_from(["", "0", "1", "2", "9"]),
            st.sampled_from(["", "q", "h", "f", "x"]),
            st.integers(0, 5),
        ),
        max_size=300,
    )
)
def test_whatever_comes_an_encoding_has_one_ssrc_of_each_kind_and_an_ssrc_one_encoding(packets) -> None:  # type: ignore[no-untyped-def]
    bundle = Bundle(screen=[(50, 51)])
    for ssrc, kind, mid, rid, sequence in packets:
        bundle.find(ssrc, kind=kind, mid=mid, rid=rid, repaired=rid, sequence=sequence, now=1.0)
        held = {number: bound for number in range(201) if (bound := bundle.binder.get(number)) is not None}
        places = [(id(encoding), is_rtx) for encoding, is_rtx in held.values()]
        assert len(places) == len(set(places)) <= min(MAX_BOUND, 10)
        for number, (encoding, is_rtx) in held.items():
            assert number == (encoding.rtx_ssrc if is_rtx else encoding.ssrc)
