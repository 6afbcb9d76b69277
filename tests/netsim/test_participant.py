"""The script of a participant, driven by hand."""

from __future__ import annotations

import pytest

from relaymesh.netsim.crowd import Crowd
from relaymesh.netsim.media import TrackSpec
from relaymesh.netsim.participant import RETRY, Ask, Attend, HangUp, ScriptedParticipant, Wait
from relaymesh.netsim.scenario.resolved import Participant
from relaymesh.netsim.scenario.traffic import AudioTrack, VideoTrack

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


@pytest.mark.parametrize("reports", [False, True])
def test_a_player_reports_only_where_somebody_must_learn_of_it(reports: bool) -> None:
    made, _ = script(reports=reports)
    call = made.playing("bob", 1.0)
    call.handle_answer(ANSWER, "s", 1.0)
    assert bool(call.poll(1.0)[1]) == reports
    assert call.poll(1.5) == ([], [])
