"""Redundant audio (RFC 2198) from its publisher to players with and without it."""

from __future__ import annotations

import re

import pytest

from relaymesh.node.path_feedback import PathFeedback
from relaymesh.protocol.messages import ParticipantName, Welcome
from relaymesh.webrtc import rtcp
from relaymesh.webrtc.red import alone
from relaymesh.webrtc.rtp import RtpPacket
from tests.node.browser import Browser, exchange, offer_text
from tests.node.mesh import make_core

ALICE = ParticipantName("demo", "alice")
RED, OPUS = 63, 111  # Chromium's numbers
# F and the type of the repeated block, its offset of 960, its length of 3; the type of the newest one.
TWO = bytes.fromhex("ef 0f0003 6f") + b"old" + b"newest"


def preferring_red(name: str) -> str:
    """The offer of a page that puts RED first (setCodecPreferences)."""
    return offer_text(name).replace(f"SAVPF {OPUS} {RED} ", f"SAVPF {RED} {OPUS} ", 1)


def renumbered(text: str) -> str:
    """With other numbers for audio; a fingerprint may have the same digits."""
    head, audio, video = re.split(r"(?=^m=)", text, flags=re.MULTILINE)
    lines = [
        line if "fingerprint" in line else re.sub(rf"\b{OPUS}\b", "109", re.sub(rf"\b{RED}\b", "62", line))
        for line in audio.splitlines(keepends=True)
    ]
    return head + "".join(lines) + video


def audio_of(answer: str) -> str:
    return re.split(r"(?m)^m=", answer)[1]


class Stage:
    """A node, a publisher and players."""

    def __init__(self) -> None:
        self.core = make_core()
        self.now = 100.0
        self.core.handle_message(Welcome(1, 100.0, 600.0, 1000.0), self.now)
        self.publisher = Browser(("198.51.100.1", 5000))
        self.players: list[Browser] = []
        self.sequence = 1000

    def publish(self, text: str) -> str:
        session, answer = self.core.publish(ALICE, text, ("VP8",), self.now)
        self.publisher.accept(answer)
        self.publisher.connect(self.core, self.now)
        audio = next(track for track in session.receivers if not track.track.is_video)
        self.ssrc = audio.encodings[0].ssrc or 0
        self.ingress = audio.encodings[0]
        return audio_of(answer)

    def play(self, text: str) -> Browser:
        publication = self.core.directory.find(ALICE)
        assert publication is not None
        player = Browser(("198.51.100.2", 6000 + len(self.players)))
        _, answer = self.core.play(publication, text, self.now)
        player.accept(answer)
        player.connect(self.core, self.now)
        self.players.append(player)
        return player

    def send(self, *payloads: bytes, payload_type: int = RED) -> None:
        for payload in payloads:
            self.publisher.send_rtp(
                self.core, self.now, self.sequence, payload, payload_type=payload_type, ssrc=self.ssrc
            )
            self.sequence += 1
        for _ in range(10):
            self.now += 0.01
            self.core.handle_timeout(self.now)
            exchange(self.core, self.now, self.publisher, *self.players)


def media(player: Browser) -> list[tuple[int, bytes]]:
    return [(p.payload_type, p.payload) for p in player.rtp]


def numbers(packets: list[RtpPacket]) -> list[int]:
    return [(p.sequence - packets[0].sequence) & 0xFFFF for p in packets]


def test_red_is_taken_where_its_publisher_puts_it_first() -> None:
    stage = Stage()
    answer = stage.publish(preferring_red("chromium-whip"))
    assert answer.startswith(f"audio 7600 UDP/TLS/RTP/SAVPF {RED} {OPUS}\r\n")
    assert f"a=rtpmap:{RED} red/48000/2\r\na=fmtp:{RED} {OPUS}/{OPUS}\r\n" in answer
    assert f"a=rtpmap:{OPUS} opus/48000/2\r\n" in answer
    assert f"a=rtcp-fb:{OPUS} transport-cc" in answer


def test_red_is_not_asked_for_where_it_comes_after_opus() -> None:
    """As browsers offer it by themselves: it costs up to twice the rate."""
    answer = Stage().publish(offer_text("chromium-whip"))
    assert answer.startswith(f"audio 7600 UDP/TLS/RTP/SAVPF {OPUS}\r\n")


def test_a_player_with_red_gets_it_and_one_without_its_newest_block() -> None:
    stage = Stage()
    stage.publish(preferring_red("chromium-whip"))
    same, other, without = (
        stage.play(text)
        for text in (
            offer_text("chromium-whep"),
            renumbered(offer_text("chromium-whep")),
            offer_text("aiortc-whep"),
        )
    )
    assert audio_of(same.answer).startswith(f"audio 7600 UDP/TLS/RTP/SAVPF {RED} {OPUS}\r\n")
    assert audio_of(without.answer).startswith("audio 7600 UDP/TLS/RTP/SAVPF 96\r\n")
    stage.send(TWO, TWO)
    assert media(same) == [(RED, TWO)] * 2
    assert media(other) == [(62, bytes.fromhex("ed 0f0003 6d") + b"oldnewest")] * 2
    assert media(without) == [(96, b"newest")] * 2
    for player in stage.players:
        assert numbers(player.rtp) == [0, 1]


def test_red_has_the_feedback_of_what_is_in_it() -> None:
    stage = Stage()
    stage.publish(preferring_red("chromium-whip"))
    player = stage.play(offer_text("chromium-whep"))
    assert PathFeedback.ARRIVALS.value in audio_of(player.answer)
    stage.send(TWO)
    assert 3 in player.rtp[0].extensions, "counted with all else"


def test_plain_opus_of_a_publisher_that_agreed_to_red_is_red_that_repeats_nothing() -> None:
    stage = Stage()
    stage.publish(preferring_red("chromium-whip"))
    player, without = stage.play(offer_text("chromium-whep")), stage.play(offer_text("aiortc-whep"))
    stage.send(b"plain", payload_type=OPUS)
    assert media(player) == [(RED, alone(b"plain", OPUS))]
    assert media(without) == [(96, b"plain")]


def test_what_is_not_red_is_counted_and_leaves_no_hole() -> None:
    stage = Stage()
    stage.publish(preferring_red("chromium-whip"))
    players = [stage.play(offer_text(name)) for name in ("chromium-whep", "aiortc-whep")]
    stage.send(TWO, b"\xef\0", TWO)
    assert stage.ingress.unreadable == 1
    for player in players:
        assert numbers(player.rtp) == [0, 1]


def test_a_nack_of_a_player_without_red_is_answered_without_it() -> None:
    stage = Stage()
    stage.publish(preferring_red("chromium-whip"))
    player = stage.play(offer_text("aiortc-whep"))
    stage.players.remove(player)
    stage.send(TWO)  # is lost
    stage.players.append(player)
    stage.send(TWO)
    [came] = player.rtp
    player.send_rtcp(stage.core, stage.now, rtcp.build_nack(1, came.ssrc, [came.sequence - 1 & 0xFFFF]))
    stage.send()
    assert media(player) == [(96, b"newest")] * 2
    assert numbers(player.rtp) == [0, 0xFFFF]


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True)])
def test_a_publisher_that_comes_back_with_or_without_red_is_heard_by_all(first: bool, second: bool) -> None:
    stage = Stage()
    offers = {True: preferring_red("chromium-whip"), False: offer_text("chromium-whip")}
    stage.publish(offers[first])
    with_red, without = stage.play(offer_text("chromium-whep")), stage.play(offer_text("aiortc-whep"))
    sent = {True: (TWO, RED), False: (b"newest", OPUS)}
    stage.send(sent[first][0], payload_type=sent[first][1])
    [session] = stage.core.edge.publishers()
    stage.core.end_session(session, "it comes back", stage.now)
    stage.publisher = Browser(("198.51.100.1", 5001))
    stage.publish(offers[second])
    stage.send(sent[second][0], payload_type=sent[second][1])
    took_red = {True: [(RED, TWO), (RED, alone(b"newest", OPUS))], False: [(OPUS, b"newest")] * 2}
    assert media(with_red) == took_red[first], "what was agreed upon when it came"
    assert media(without) == [(96, b"newest")] * 2
