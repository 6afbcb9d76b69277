"""Players without transport-wide feedback: REMB is accepted, packets say when they left, layers follow."""

from __future__ import annotations

import re

import pytest

from relaymesh.node.path_feedback import PathFeedback
from relaymesh.webrtc import rtcp, rtp
from relaymesh.webrtc.bwe.estimator import MAX_BPS, MIN_BPS, START_BPS
from relaymesh.webrtc.codecs import choose_codec
from relaymesh.webrtc.sdp import parse_offer
from tests.node.browser import offer_text
from tests.node.remb_player import SEND_TIME_ID, Stage

REMB, TRANSPORT = "goog-remb", "transport-cc"


def without(name: str, text: str) -> str:
    """*text* less the lines that name it."""
    return "".join(line for line in text.splitlines(keepends=True) if name not in line)


def section(answer: str, kind: str) -> str:
    return re.split(r"(?m)^m=", answer.split(f"m={kind}")[1])[0]


def chosen(text: str) -> PathFeedback:
    played = [(s, c) for s in parse_offer(text).media if (c := choose_codec(s.kind, s.codecs)) is not None]
    return PathFeedback.choose(played)


# --- what is answered


@pytest.mark.parametrize(
    ("offer", "feedback"),
    [
        ("chromium-whep", PathFeedback.ARRIVALS),
        ("firefox-whep", PathFeedback.ARRIVALS),
        ("aiortc-whep", PathFeedback.REMB),
    ],
)
def test_the_best_feedback_that_a_real_player_offers(offer: str, feedback: PathFeedback) -> None:
    assert chosen(offer_text(offer)) is feedback


def test_without_all_that_it_takes_a_feedback_is_not_offered() -> None:
    text = offer_text("chromium-whep")
    assert chosen(without(f" {TRANSPORT}", text)) is PathFeedback.REMB, "the extension alone reports nothing"
    assert chosen(without(rtp.TRANSPORT_CC, text)) is PathFeedback.REMB, "nothing is reported without numbers"
    assert chosen(without(REMB, without(TRANSPORT, text))) is PathFeedback.NONE


def test_what_video_offers_counts() -> None:
    """Feedback about audio alone would leave out the most of what is sent."""
    head, audio, video = re.split(r"(?m)^(?=m=)", offer_text("chromium-whep"))
    assert chosen(head + audio + without(TRANSPORT, video)) is PathFeedback.REMB
    assert chosen(head + without(TRANSPORT, audio) + video) is PathFeedback.ARRIVALS, "as Firefox"
    assert chosen(head.replace("BUNDLE 0 1", "BUNDLE 0") + audio) is PathFeedback.ARRIVALS, (
        "there is no video"
    )


def test_remb_and_the_time_of_sending_are_accepted_where_there_is_nothing_better() -> None:
    video = section(Stage(1e6).player_answer, "video")
    assert f"a=rtcp-fb:97 {REMB}\r\n" in video
    assert f"a=extmap:{SEND_TIME_ID} {rtp.ABS_SEND_TIME}\r\n" in video
    assert TRANSPORT not in video


def test_audio_is_stamped_too_where_its_player_can_count_it() -> None:
    """Chromium less transport-wide feedback, as browsers were: it counts all that has the extension."""
    stage = Stage(
        1e6, offer=lambda _: without(TRANSPORT, without(rtp.TRANSPORT_CC, offer_text("chromium-whep")))
    )
    for kind in ("audio", "video"):
        assert rtp.ABS_SEND_TIME in section(stage.player_answer, kind)
    assert f"a=rtcp-fb:96 {REMB}" in section(stage.player_answer, "video")


def test_transport_wide_feedback_goes_first() -> None:
    """A receiver's own estimate beside ours could only hold it down."""
    stage = Stage(1e6, offer=lambda _: offer_text("chromium-whep"))
    assert TRANSPORT in stage.player_answer
    assert REMB not in stage.player_answer and rtp.ABS_SEND_TIME not in stage.player_answer
    before = stage.estimate_bps
    stage.answer(rtcp.build_remb(1, 64_000, [stage.video_ssrc]))
    stage.advance(0.1)
    assert stage.estimate_bps == before, "it was not agreed upon"


# --- what is sent


def test_packets_say_when_they_left_the_pacer() -> None:
    stage = Stage(20e6)
    stage.advance(3.0)
    player = stage.player
    assert player is not None and player.padding, "padding is stamped like media"
    for at, packet in player.video:
        said = int.from_bytes(packet.extensions[SEND_TIME_ID], "big") / 2**18
        assert (at - said) % 64.0 == pytest.approx(0.025, abs=0.002), "the delay of the line, and no more"


def test_what_is_sent_again_says_when_it_was_sent_again() -> None:
    stage = Stage(20e6)
    stage.advance(1.0)
    player = stage.player
    assert player is not None
    lost = player.rtp[-1]
    stage.answer(rtcp.build_nack(1, stage.video_ssrc, [lost.sequence]))
    stage.advance(0.2)
    [again] = (p for p in player.rtp if p.ssrc == stage.sender.numbers.rtx_ssrc)
    assert rtp.rtx_unwrap(again.payload) == (lost.sequence, lost.payload)
    first, second = (int.from_bytes(p.extensions[SEND_TIME_ID], "big") for p in (lost, again))
    assert (second - first) % 2**24 >= 0.05 * 2**18, "a round trip later"


# --- what is followed: aiortc's estimator as the peer


@pytest.mark.parametrize("loss", [0.0, 0.02])
def test_a_player_settles_on_the_layer_its_line_carries_goes_down_after_a_cut_and_up_after_its_end(
    loss: float,
) -> None:
    stage = Stage(700e3, loss=loss)
    stage.advance(30.0)
    assert stage.share_of(1, 12.0, 30.0) == 1.0, stage.steps
    stage.line.apply(stage.now, rate_bps=280e3)
    stage.advance(15.0)
    assert stage.share_of(0, 31.5, 45.0) == 1.0, stage.steps
    stage.line.apply(stage.now, rate_bps=700e3)
    stage.advance(35.0)
    assert stage.share_of(1, 70.0, 80.0) == 1.0, stage.steps


@pytest.mark.parametrize(("rate_bps", "level"), [(200e3, 0), (3e6, 2)])
def test_a_narrow_line_stays_at_the_bottom_and_a_wide_one_reaches_the_top(
    rate_bps: float, level: int
) -> None:
    stage = Stage(rate_bps)
    stage.advance(40.0)
    assert stage.share_of(level, 28.0, 40.0) == 1.0, stage.steps


def test_a_line_that_is_no_wider_is_not_kept_full() -> None:
    stage = Stage(700e3)
    stage.advance(90.0)
    layer = stage.received_bps(50.0, 90.0)
    assert 400e3 <= layer <= 0.8 * 700e3


def test_without_any_remb_receiver_reports_lead() -> None:
    stage = Stage(3e6)
    assert stage.player is not None
    stage.player.sends_rembs = False
    stage.advance(60.0)
    assert stage.level_at(60.0) == 2, stage.steps


def test_what_others_send_than_those_it_names_comes_on_top() -> None:
    """aiortc speaks of its video alone. Were audio not counted, a video that just fits would be paused."""
    stage = Stage(20e6)
    player = stage.player
    assert player is not None
    player.sends_rembs = False
    for number in range(150):
        stage.camera.speak(stage.core, stage.now, number, 400)
        stage.advance(0.02)
    heard = [packet for packet in player.rtp if packet.ssrc != stage.video_ssrc and not packet.padding_only]
    assert len(heard) >= 140, "audio is played"
    stage.answer(rtcp.build_remb(1, 300_000, [stage.video_ssrc]))
    stage.advance(0.1)
    assert 300e3 + 150e3 <= stage.estimate_bps <= 1.2 * 300e3 + 200e3


# --- a peer that stops, and one that lies


def test_rembs_that_stop_lapse_and_reports_lead_on() -> None:
    stage = Stage(3e6)
    stage.advance(20.0)
    player = stage.player
    assert player is not None
    player.sends_rembs = False
    stage.answer(rtcp.build_remb(1, 200_000, [stage.video_ssrc]))
    stage.advance(9.0)
    assert stage.estimate_bps <= 1.3 * 200e3
    stage.advance(20.0)
    assert stage.estimate_bps >= 1.5 * 200e3, "nothing is lost"


def test_a_peer_that_says_nothing_more_is_sent_less_and_less() -> None:
    stage = Stage(3e6)
    stage.advance(30.0)
    player = stage.player
    assert player is not None
    before = stage.estimate_bps
    player.sends_rembs = player.sends_reports = False
    stage.advance(5.5)
    assert stage.estimate_bps <= 0.51 * before
    stage.advance(60.0)
    assert stage.estimate_bps < START_BPS
    player.sends_rembs = player.sends_reports = True
    stage.advance(40.0)
    assert stage.level_at(stage.now - stage.began) >= 1, "it is heard again"


@pytest.mark.parametrize("bitrate", [0, 1, 2**63, (2**18 - 1) << 63])
def test_an_absurd_rate_is_bounded(bitrate: int) -> None:
    stage = Stage(20e6)
    assert stage.player is not None
    stage.player.sends_rembs = False
    stage.advance(2.0)
    stage.answer(rtcp.build_remb(1, bitrate, [stage.video_ssrc]))
    stage.advance(0.1)
    assert stage.estimate_bps == (MIN_BPS if bitrate < 2 else MAX_BPS)
    stage.advance(5.0)
    assert stage.received_bps(3.0, 7.0) <= 1.6e6, "no more than there is to send"


def test_a_rate_for_sources_of_others_is_not_followed() -> None:
    stage = Stage(20e6)
    assert stage.player is not None
    stage.player.sends_rembs = False
    stage.advance(2.0)
    before = stage.estimate_bps
    stage.answer(rtcp.build_remb(1, 64_000, [stage.video_ssrc ^ 1, 7]))
    stage.advance(0.1)
    assert stage.estimate_bps >= before
    state = stage.session.send_side.debug_state()["remb"]
    assert state == {"said_bps": {}, "foreign": 1}


def test_a_flood_of_rembs_moves_nothing_faster_than_layers_are_chosen() -> None:
    stage = Stage(20e6)
    player = stage.player
    assert player is not None
    player.sends_rembs = False
    stage.advance(5.0)
    before = len(stage.steps)
    pleas = len(stage.pleas)
    for k in range(5000):
        stage.answer(rtcp.build_remb(1, (50_000, 5_000_000)[k % 2], [stage.video_ssrc, k]))
        stage.advance(0.0002)
    assert len(stage.steps) - before <= 2 * 10 + 2, "each choice: one encoding ends, another begins"
    assert len(stage.pleas) - pleas <= 20, "and keyframes are not asked for without end"
    state = stage.session.send_side.debug_state()["remb"]
    assert isinstance(state, dict) and len(state["said_bps"]) == 1
