"""The script of a participant, driven by hand."""

from __future__ import annotations

import pytest

from relaymesh.netsim.connection import plain_offer
from relaymesh.netsim.crowd import Crowd
from relaymesh.netsim.descriptions import TRANSPORT_CC_ID, extension_lines, source_lines
from relaymesh.netsim.participant import RETRY, Ask, Attend, HangUp, ScriptedParticipant, Wait
from relaymesh.netsim.scenario.resolved import Participant
from relaymesh.netsim.scenario.traffic import AudioTrack, VideoTrack
from relaymesh.netsim.track_specs import TrackSpec
from relaymesh.webrtc.rtcp import TransportFeedback, parse_rtcp
from relaymesh.webrtc.rtp import TRANSPORT_CC, build_extensions, build_rtp, parse_rtp
from relaymesh.webrtc.sdp import parse_offer

AUDIO, VIDEO = AudioTrack(kind="audio"), VideoTrack(kind="video")
ANSWER = "v=0\r\nm=audio 9 x 111\r\na=ssrc:5 cname:n\r\nm=video 9 x 96 97\r\na=ssrc-group:FID 7 8\r\n"
ENDS_AT = 20.0


def script(*, leave_s: float | None = None, reports: bool = False) -> tuple[ScriptedParticipant, Crowd]:
    crowd = Crowd()
    participant = Participant("room", "alice", "node", (AUDIO, VIDEO), ("bob",), 1.0, leave_s)
    specs = (TrackSpec("audio", 32.0, 50.0), TrackSpec("video", 500.0, 30.0))
    made = ScriptedParticipant(
        participant, lambda name: specs, crowd, seed="1", ends_at=ENDS_AT, reports=reports
    )
    return made, crowd


def test_who_is_refused_asks_again_after_a_while() -> None:
    made, crowd = script()
    call = made.publishing(1.0)
    assert call is not None
    assert call.next_step(1.0) == Ask()
    call.handle_refusal(1.2)
    assert call.next_step(1.2) == Wait(1.2 + RETRY)
    assert call.next_step(1.2 + RETRY) == Ask()
    assert crowd.publishing["room", "alice"].refused == 1


def test_a_session_that_ends_is_made_again_until_the_participant_leaves() -> None:
    made, crowd = script(leave_s=9.0)
    call = made.playing("bob", 1.0)
    assert call.next_step(1.0) == Ask()
    call.handle_answer(ANSWER, "first", 1.1)
    assert call.next_step(1.1) == Attend(9.0, False)
    call.handle_connected(1.2)
    call.handle_over()
    assert call.next_step(4.0) == Wait(4.0 + RETRY)
    assert call.next_step(4.5) == Ask()
    call.handle_answer(ANSWER, "second", 4.6)
    assert call.next_step(4.6) == Attend(9.0, False)
    call.handle_over()
    assert call.next_step(9.0) == HangUp("second")
    assert call.next_step(9.1) is None
    assert [track.left_at for track in call.tracks] == [9.0, 9.0]
    assert crowd.playing["room", "alice", "bob"].sessions == 2
    assert crowd.changes == 3


def test_who_stays_to_the_end_takes_what_is_under_way_and_does_not_hang_up() -> None:
    made, _ = script()
    call = made.playing("bob", 1.0)
    call.handle_answer(ANSWER, "only", 1.1)
    assert call.next_step(1.1) == Attend(ENDS_AT, True)
    call.handle_over()
    assert call.next_step(ENDS_AT) is None
    assert [track.left_at for track in call.tracks] == [None, None]


def test_who_comes_after_the_end_never_joins() -> None:
    late = Participant("room", "late", "node", (), (), ENDS_AT, None)
    made = ScriptedParticipant(late, lambda name: (), Crowd(), seed="1", ends_at=ENDS_AT)
    assert made.joins_at is None
    assert made.publishing(0.0) is None


def test_a_publisher_sends_nothing_after_it_left() -> None:
    made, _ = script(leave_s=3.0)
    call = made.publishing(1.0)
    assert call is not None
    call.handle_answer(ANSWER, "s", 1.0)
    call.handle_connected(1.0)
    media, reports = call.poll(2.9)
    assert len(media) > 50
    assert reports
    assert call.poll(3.0) == ([], [])
    assert call.next_timeout() >= 2.9
    call.poll(2.999)
    assert call.next_timeout() == float("inf")


@pytest.mark.parametrize("limited", [False, True])
def test_a_player_behind_a_rate_reports_what_arrives_where_the_answer_has_it(limited: bool) -> None:
    specs = (TrackSpec("video", 500.0, 30.0),)
    participant = Participant("room", "alice", "node", (), ("bob",), 0.0, None, is_limited=limited)
    made = ScriptedParticipant(participant, lambda name: specs, Crowd(), seed="1", ends_at=ENDS_AT)
    call = made.playing("bob", 0.0)
    offered = [line for section in call.sections for line in extension_lines(section)]
    assert offered == ([f"a=extmap:{TRANSPORT_CC_ID} {TRANSPORT_CC}"] if limited else [])
    answer = "v=0\r\nm=video 9 x 96 97\r\n" + "".join(f"{line}\r\n" for line in offered) + "a=ssrc:7 c:n\r\n"
    call.handle_answer(answer, "s", 0.0)
    block = build_extensions([(TRANSPORT_CC_ID, b"\0\1")])
    call.handle_packet(build_rtp(96, False, 1, 0, 7, bytes(80), block), False, 1.0)
    if not limited:
        assert call.next_timeout() == float("inf")
        return
    [feedback] = call.poll(call.next_timeout())[1]
    assert isinstance(parse_rtcp(feedback)[0], TransportFeedback)


def test_simulcast_is_offered_and_sent_only_where_it_is_accepted() -> None:
    video = VideoTrack(kind="video", layers=3)
    participant = Participant("room", "alice", "node", (AUDIO, video), (), 0.0, None)
    for accepts, ssrcs in ((False, 2), (True, 4)):
        made = ScriptedParticipant(participant, lambda name: (), Crowd(), seed="1", ends_at=ENDS_AT)
        call = made.publishing(0.0)
        assert call is not None
        offer = parse_offer(plain_offer(call.direction, call.sections))
        assert len(offer.media) == 2
        lines = source_lines(call.sections[1])
        assert lines == ["a=rid:q send", "a=rid:h send", "a=rid:f send", "a=simulcast:send q;h;f"]
        answer = "v=0\r\nm=audio 9 x 111\r\nm=video 9 x 96\r\n" + "a=simulcast:recv q;h;f\r\n" * accepts
        call.handle_answer(answer, "s", 0.0)
        call.handle_connected(0.0)
        media = call.poll(0.5)[0]
        assert len({parse_rtp(packet).ssrc for packet in media}) == ssrcs


@pytest.mark.parametrize("reports", [False, True])
def test_a_player_reports_only_where_somebody_must_learn_of_it(reports: bool) -> None:
    made, _ = script(reports=reports)
    call = made.playing("bob", 1.0)
    call.handle_answer(ANSWER, "s", 1.0)
    assert bool(call.poll(1.0)[1]) == reports
    assert call.poll(1.5) == ([], [])
