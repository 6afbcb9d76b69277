"""Whole sessions at one node: a browser publishes, others play, in virtual time."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from relaymesh.node.core import NodeCore
from relaymesh.node.events import SessionEnded
from relaymesh.node.refusals import SignallingError
from relaymesh.protocol.messages import (
    ParticipantName,
    PublicationMoved,
    Publish,
    Subscribe,
    SubscribeReply,
    Unpublish,
    Unsubscribe,
    Welcome,
)
from relaymesh.webrtc import rtcp
from relaymesh.webrtc.errors import SrtpError
from relaymesh.webrtc.rtp import rtx_unwrap
from tests.node.browser import Browser, exchange, offer_text
from tests.node.mesh import make_core

ALICE = ParticipantName("demo", "alice")
KEY, DELTA = b"\x10\x00\x00key", b"\x10\x01\x00delta"


def numbers(answer: str, offer: str) -> tuple[int, int]:
    """(video payload type, the publisher's video SSRC)."""
    payload_type = int(re.search(r"m=video \d+ \S+ (\d+)", answer)[1])  # type: ignore[index]
    video = offer.split("m=video")[1]
    return payload_type, int(re.search(r"a=ssrc:(\d+)", video)[1])  # type: ignore[index]


class Stage:
    """A node with a publisher and some players."""

    def __init__(self, *, connected_to_controller: bool = True) -> None:
        self.core = make_core()
        self.now = 100.0
        if connected_to_controller:
            self.core.handle_message(Welcome(1, 100.0, 600.0, 1000.0), self.now)
        self.publisher = Browser(("198.51.100.1", 5000))
        self.players: list[Browser] = []
        self.sequence = 1000

    def publish(self, offer: str = "chromium-whip", prefer: tuple[str, ...] = ("VP8", "H264")) -> str:
        text = offer_text(offer)
        session, answer = self.core.publish(ALICE, text, prefer, self.now)
        self.publisher.accept(answer)
        self.publisher.connect(self.core, self.now)
        self.type, self.ssrc = numbers(answer, text)
        return session.id

    def play(self, offer: str = "chromium-whep") -> Browser:
        publication = self.core.directory.find(ALICE)
        assert publication is not None
        player = Browser(("198.51.100.2", 6000 + len(self.players)))
        _, answer = self.core.play(publication, offer_text(offer), self.now)
        player.accept(answer)
        player.connect(self.core, self.now)
        self.players.append(player)
        return player

    def send(self, payload: bytes = DELTA, *, sequence: int | None = None) -> None:
        if sequence is None:
            sequence = self.sequence
            self.sequence += 1
        self.publisher.send_rtp(
            self.core, self.now, sequence, payload, payload_type=self.type, ssrc=self.ssrc
        )

    def pass_time(self, seconds: float, step: float = 0.01) -> None:
        for _ in range(round(seconds / step)):
            self.now += step
            self.core.handle_timeout(self.now)
            exchange(self.core, self.now, self.publisher, *self.players)

    def of_publisher(self, kind: type) -> list:
        return [p for p in self.publisher.rtcp if isinstance(p, kind)]


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.mark.parametrize("offer", ["chromium-whip", "firefox-whip", "aiortc-whip"])
def test_a_browsers_offer_is_published_and_played(stage, offer):
    stage.publish(offer)
    player = stage.play()
    stage.send(KEY)
    for _ in range(10):
        stage.send()
    stage.pass_time(0.05)
    assert len(player.rtp) == 11
    assert player.rtp[0].payload == KEY
    assert stage.publisher.answer.count("a=ice-lite") == 1
    assert "a=setup:passive" in stage.publisher.answer


def test_the_first_player_makes_the_publisher_send_a_keyframe(stage):
    stage.publish()
    for _ in range(5):
        stage.send()
    player = stage.play()
    stage.pass_time(0.02)
    assert len(stage.of_publisher(rtcp.PictureLossIndication)) == 1
    stage.send()
    stage.send(KEY)
    stage.send()
    stage.pass_time(0.02)
    assert [p.payload for p in player.rtp] == [KEY, DELTA]


def test_many_keyframe_requests_become_few(stage):
    stage.publish()
    stage.send(KEY)
    players = [stage.play() for _ in range(5)]
    for _ in range(20):
        for player in players:
            ssrc = int(re.search(r"a=ssrc:(\d+)", player.answer.split("m=video")[1])[1])  # type: ignore[index]
            player.send_rtcp(stage.core, stage.now, rtcp.build_pli(1, ssrc))
        stage.pass_time(0.05)
    assert 2 <= len(stage.of_publisher(rtcp.PictureLossIndication)) <= 4, "100 requests in one second"


def test_loss_from_the_publisher_is_asked_for_again(stage):
    stage.publish()
    player = stage.play()
    stage.send(KEY)
    lost = stage.sequence
    stage.sequence += 1
    stage.send()
    stage.pass_time(0.05)
    nacks = stage.of_publisher(rtcp.Nack)
    assert nacks[0].sequences == (lost & 0xFFFF,)
    stage.send(b"\x10\x01\x00late", sequence=lost)
    stage.pass_time(0.02)
    assert sorted(p.payload for p in player.rtp) == sorted([KEY, DELTA, b"\x10\x01\x00late"])


def test_loss_towards_a_player_is_sent_again_as_rtx(stage):
    stage.publish()
    player = stage.play()
    stage.send(KEY)
    stage.send()
    stage.pass_time(0.02)
    lost = player.rtp[-1]
    player.send_rtcp(stage.core, stage.now, rtcp.build_nack(1, lost.ssrc, [lost.sequence]))
    stage.pass_time(0.02)
    again = player.rtp[-1]
    assert again.ssrc != lost.ssrc
    assert rtx_unwrap(again.payload) == (lost.sequence, lost.payload)


def test_feedback_and_reports_reach_the_publisher(stage):
    from relaymesh.webrtc.rtp import build_extensions

    stage.publish()
    text = offer_text("chromium-whip")
    number = int(re.search(r"a=extmap:(\d+) http://www.ietf.org/id/draft-holmer", text)[1])  # type: ignore[index]
    for k in range(20):
        stage.publisher.send_rtp(
            stage.core,
            stage.now,
            500 + k,
            DELTA,
            payload_type=stage.type,
            ssrc=stage.ssrc,
            extensions=build_extensions([(number, k.to_bytes(2, "big"))]),
        )
        stage.pass_time(0.01)
    assert stage.of_publisher(rtcp.TransportFeedback)
    stage.pass_time(1.2)
    [block] = stage.of_publisher(rtcp.ReceiverReport)[0].blocks
    assert block.ssrc == stage.ssrc


def test_sender_reports_reach_the_player_on_the_publishers_clock(stage):
    stage.publish()
    player = stage.play()
    stage.send(KEY)
    stage.publisher.send_rtcp(
        stage.core, stage.now, rtcp.build_sender_report(stage.ssrc, 77 << 32, 3_000_000, 1, 1)
    )
    stage.pass_time(1.1)
    report = next(p for p in player.rtcp if isinstance(p, rtcp.SenderReport))
    assert 77 << 32 <= report.ntp < 79 << 32


def test_publish_and_unpublish_are_told_and_a_delete_ends_the_players_later(stage):
    session_id = stage.publish()
    publication = stage.core.directory.find(ALICE)
    stage.core.directory.announce(publication)
    stage.play()
    stage.core.poll_messages()
    session = stage.core.edge.get(session_id)
    stage.core.end_session(session, "the client left", stage.now)
    assert Unpublish(ALICE) in stage.core.poll_messages()
    assert stage.core.directory.find(ALICE) is None
    stage.pass_time(5)
    assert len(stage.core.edge) == 1, "the player waits for the publisher to come back"
    assert any(isinstance(m, Subscribe) for m in stage.core.poll_messages())
    stage.pass_time(7)
    assert len(stage.core.edge) == 0
    assert [e.reason for e in stage.core.poll_events() if isinstance(e, SessionEnded)][
        -1
    ] == "the publisher left"
    assert len(stage.core.publications) == 0


def test_a_publisher_that_comes_back_is_seen_by_the_players_that_waited(stage):
    session_id = stage.publish()
    player = stage.play()
    stage.send(KEY)
    stage.core.end_session(stage.core.edge.get(session_id), "gone", stage.now)
    stage.pass_time(2)
    stage.publisher = Browser(("198.51.100.9", 5000))
    stage.publish()
    stage.send(KEY)
    stage.send()
    stage.pass_time(0.05)
    assert len(player.rtp) == 3
    sequences = [p.sequence for p in player.rtp]
    assert sequences == [(sequences[0] + k) & 0xFFFF for k in range(3)], "one unbroken stream"


def come_back(stage, prefer, offer="chromium-whip"):
    """The publisher is gone for a second and returns with the first of these codecs that it has."""
    [session] = stage.core.edge.publishers()
    stage.core.end_session(session, "gone", stage.now)
    stage.pass_time(1)
    stage.core.poll_events()
    stage.publisher = Browser(("198.51.100.9", 5000))
    stage.publish(offer, prefer)
    stage.pass_time(0.05)


def ended_players(stage) -> list[str]:
    return [e.reason for e in stage.core.poll_events() if isinstance(e, SessionEnded) and e.role == "player"]


def test_a_publisher_that_comes_back_with_another_codec_ends_the_sessions_that_cannot_carry_it(stage):
    stage.publish(prefer=("VP8",))
    player = stage.play()
    stage.send(KEY)
    come_back(stage, ("H264",))
    [reason] = ended_players(stage)
    assert "H264" in reason and "VP8" in reason
    assert not list(stage.core.edge.players())
    assert player.dtls.state == "closed", "its client is told"
    again = stage.play()
    assert "H264/90000" in again.answer
    stage.send(b"\x65\x88idr")  # one NAL unit
    stage.pass_time(0.05)
    assert [p.payload for p in again.rtp] == [b"\x65\x88idr"]
    stage.pass_time(1.0)
    assert len(list(stage.core.edge.players())) == 1, "and it stays"


def test_a_publisher_that_moves_and_changes_its_codec_ends_the_sessions_at_its_edges(stage):
    there = Stage()  # another node
    there.publish(prefer=("VP8",))
    request = stage.core.directory.subscribe(ALICE)
    before = there.core.directory.find(ALICE).info()
    stage.core.handle_message(SubscribeReply(request, before, 2), stage.now)
    stage.play()
    come_back(there, ("VP8",))
    stage.core.handle_message(PublicationMoved(there.core.directory.find(ALICE).info(), 2), stage.now)
    stage.pass_time(0.05)
    assert ended_players(stage) == [], "the same codec goes on"
    come_back(there, ("H264",))
    stage.core.handle_message(PublicationMoved(there.core.directory.find(ALICE).info(), 3), stage.now)
    stage.pass_time(0.05)
    [reason] = ended_players(stage)
    assert "H264" in reason


def test_a_player_without_video_stays_whatever_codec_the_video_has(stage):
    stage.publish(prefer=("VP8",))
    publication = stage.core.directory.find(ALICE)
    video = re.compile(r"(?i)\b(VP8|VP9|AV1|H264|H265)/")
    text = video.sub(r"XX\1/", offer_text("chromium-whep"))
    player = Browser(("198.51.100.2", 6000))
    _, answer = stage.core.play(publication, text, stage.now, partial=True)
    player.accept(answer)
    player.connect(stage.core, stage.now)
    stage.players.append(player)
    come_back(stage, ("H264",))
    assert ended_players(stage) == []
    assert len(list(stage.core.edge.players())) == 1


def test_a_player_waits_on_for_a_video_that_did_not_come_back_with_the_audio(stage):
    stage.publish(prefer=("VP8",))
    player = stage.play()
    stage.send(KEY)
    publication = stage.core.directory.find(ALICE)
    video = next(info for info in publication.info().tracks if info.kind == "video")
    audio = tuple(info for info in publication.info().tracks if info.kind == "audio")
    assert publication.set_tracks(audio)
    [session] = stage.core.edge.players()
    session.attach(publication, stage.now)
    publication.set_tracks((*audio, replace(video, track=video.track ^ 1)))
    session.attach(publication, stage.now)
    stage.pass_time(0.05)
    assert session.closed is None
    [sender] = (s for s in session.senders.values() if s.is_video)
    assert sender.track is publication.tracks[video.track ^ 1]
    assert player.rtp


def test_a_second_publisher_of_the_name_is_refused_while_the_first_is_alive(stage):
    stage.publish()
    with pytest.raises(SignallingError) as refused:
        stage.core.publish(ALICE, offer_text("chromium-whip"), ("VP8",), stage.now)
    assert refused.value.status == 409
    for _ in range(60):
        stage.send(KEY)
        stage.pass_time(0.1)
    with pytest.raises(SignallingError, match="already publishes"):
        stage.core.publish(ALICE, offer_text("chromium-whip"), ("VP8",), stage.now)
    stage.pass_time(6)  # it fell silent
    stage.core.publish(ALICE, offer_text("chromium-whip"), ("VP8",), stage.now)
    assert len(list(stage.core.edge.publishers())) == 1


def test_sessions_that_never_connect_or_fall_silent_go(stage):
    stage.core.publish(ALICE, offer_text("chromium-whip"), ("VP8",), stage.now)
    stage.pass_time(16, 0.1)
    assert len(stage.core.edge) == 0
    stage = Stage()
    stage.publish()
    stage.pass_time(31, 0.1)
    assert len(stage.core.edge) == 0


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        ("", 400, "offer"),
        ("v=0\r\nnonsense", 400, "offer"),
        (offer_text("chromium-whep"), 422, "nothing"),
        (
            re.sub(r"(VP8|H264|opus)/", r"XX\1/", offer_text("chromium-whip")),
            422,
            "no usable codec.*none of",
        ),
    ],
)
def test_an_offer_that_cannot_be_published_gets_a_reason(stage, text, status, words):
    with pytest.raises(SignallingError, match=words) as refused:
        stage.core.publish(ALICE, text, ("VP8", "H264"), stage.now)
    assert refused.value.status == status
    assert len(stage.core.edge) == 0
    assert len(stage.core.publications) == 0


def test_a_player_without_the_codec_gets_a_reason(stage):
    stage.publish()
    publication = stage.core.directory.find(ALICE)
    text = re.sub(r"(VP8|opus)/", r"XX\1/", offer_text("chromium-whep"))
    with pytest.raises(SignallingError, match="the publisher sends opus") as refused:
        stage.core.play(publication, text, stage.now)
    assert refused.value.status == 422
    assert len(stage.core.edge) == 1


def test_h264_is_played_as_the_players_own_payload_type(stage):
    stage.publish("chromium-whip", ("H264", "VP8"))
    player = stage.play("chromium-whep")
    stage.send(b"\x65\x88\x84")  # an IDR slice
    stage.pass_time(0.02)
    wanted = int(re.search(r"m=video \d+ \S+ (\d+)", player.answer)[1])  # type: ignore[index]
    assert [p.payload_type for p in player.rtp] == [wanted]
    assert f"a=rtpmap:{wanted} H264/90000" in player.answer


def test_a_full_node_says_so():
    core = make_core(max_sessions=1)
    core.publish(ALICE, offer_text("chromium-whip"), ("VP8",), 0.0)
    publication = core.directory.find(ALICE)
    assert publication is not None
    with pytest.raises(SignallingError) as refused:
        core.play(publication, offer_text("chromium-whep"), 0.0)
    assert refused.value.status == 503


def test_a_remote_publication_nobody_plays_is_given_back(stage):
    name = ParticipantName("demo", "bob")
    request = stage.core.directory.subscribe(name)
    info = Stage().core  # another node's stream, described
    info.publish(name, offer_text("chromium-whip"), ("VP8",), 0.0)
    described = info.directory.find(name).info()  # type: ignore[union-attr]
    stage.core.handle_message(SubscribeReply(request, described, 2), stage.now)
    assert stage.core.directory.find(name) is not None
    stage.core.poll_messages()
    stage.pass_time(7)
    assert Unsubscribe(name) in stage.core.poll_messages()
    assert stage.core.directory.find(name) is None


def test_the_join_says_what_is_published_and_played(stage):
    stage.publish()
    state = stage.core.join_state()
    assert [s.participant for s in state["published"]] == ["alice"]  # type: ignore[attr-defined]
    assert state["index"] == 1
    stage.core.handle_disconnected()
    stage.core.handle_message(Welcome(1, 100.0, 600.0, 1000.0), stage.now)
    assert not any(isinstance(m, Publish) for m in stage.core.poll_messages()), "the join has said it"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "truncated"),
        (b"\x00", "malformed"),
        (b"\x05hello", "malformed"),
        (bytes(1501), "oversized"),
        (b"\x00\x01\x00\x00" + bytes(16), "malformed"),
        (b"\x80" + bytes(40), "unknown_address"),
        (b"\x16\xfe\xfd" + bytes(40), "unknown_address"),
    ],
)
def test_a_stranger_gets_no_answer_but_a_counter_moves(stage, data, why):
    stage.publish()
    exchange(stage.core, stage.now, stage.publisher)
    stage.core.handle_media_datagram(data, ("203.0.113.9", 9), stage.now)
    assert stage.core.edge.refused == {why: 1}
    assert stage.core.poll_media_datagrams() == []


def test_a_check_with_a_wrong_password_or_for_nobody_gets_no_answer(stage):
    stage.publish()
    stage.core.handle_media_datagram(stage.publisher.check("wrong" * 5), ("203.0.113.9", 9), stage.now)
    other = Browser()
    other.ufrag, other.password = "nobody", "x" * 24
    stage.core.handle_media_datagram(other.check(), ("203.0.113.9", 9), stage.now)
    assert stage.core.edge.refused == {"unauthentic": 1, "unknown_ufrag": 1}
    assert stage.core.poll_media_datagrams() == []


def test_replayed_and_forged_media_is_counted_and_not_forwarded(stage):
    stage.publish()
    player = stage.play()
    stage.send(KEY)
    packet = stage.publisher.protect(b"\x80" + bytes([stage.type]) + bytes(30))
    for data in (packet, packet, packet[:-1] + bytes([packet[-1] ^ 1]), packet[:15]):
        stage.core.handle_media_datagram(data, stage.publisher.address, stage.now)
    stage.pass_time(0.02)
    session = next(stage.core.edge.publishers())
    assert session.undecodable == 3
    assert [p.payload for p in player.rtp] == [KEY]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_no_authenticated_rtp_or_rtcp_breaks_a_session(connected_stage, data):
    stage = connected_stage
    for session, browser in zip(stage.core.edge.sessions(), [stage.publisher, *stage.players], strict=True):
        for is_rtcp in (False, True):
            header = bytes(
                [0x80 | (data[0] & 0x3F if data else 0), 200 + len(data) % 8 if is_rtcp else stage.type]
            )
            plain = header + data.ljust(12, b"\0")
            try:
                protected = browser.protect(plain, rtcp=is_rtcp)
            except SrtpError:
                continue  # not even a client could have sealed this
            stage.core.handle_media_datagram(protected, browser.address, stage.now)
        assert session.closed is None
    stage.pass_time(0.05)


@pytest.fixture(scope="module")
def connected_stage() -> Stage:
    stage = Stage()
    stage.publish()
    stage.play()
    return stage


def test_a_core_needs_no_controller_to_serve_its_own_clients():
    stage = Stage(connected_to_controller=False)
    stage.publish()
    player = stage.play()
    stage.send(KEY)
    stage.pass_time(0.02)
    assert len(player.rtp) == 1
    assert isinstance(stage.core, NodeCore)


@pytest.mark.parametrize(
    ("own", "asked", "marked"),
    [
        ("audio", None, {"audio"}),
        ("none", None, set()),
        ("all", None, {"audio", "video"}),
        ("none", "all", {"audio", "video"}),
        ("all", "none", set()),
    ],
)
def test_a_publisher_may_say_which_of_its_tracks_travel_twice(own, asked, marked):
    core = make_core(hitless=own)
    session, _ = core.publish(ALICE, offer_text("chromium-whip"), ("VP8",), 0.0, asked)
    assert {info.kind for info in session.publication.info().tracks if info.hitless} == marked
