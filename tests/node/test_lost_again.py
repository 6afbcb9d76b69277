"""A retransmission that the path loses as well is sent once more, though nobody asks for it again."""

from __future__ import annotations

from struct import pack

import pytest

from relaymesh.kernels.fan_out import Path
from relaymesh.node.egress_rows import EgressRow
from relaymesh.node.path_feedback import PathFeedback
from relaymesh.node.resending import AGAIN_KEPT, AGAIN_TRIES, AGAIN_WITHIN, LostAgain
from relaymesh.node.send_side import SendSide
from relaymesh.webrtc.rtcp import TransportFeedback, parse_rtcp
from relaymesh.webrtc.twcc import TwccReceiver

RTX = 77


def test_only_what_was_lost_is_sent_again_and_not_for_ever() -> None:
    again = LostAgain()
    again.note_sent(1, RTX, pack("!H", 500) + b"x", 0.0)
    again.note_sent(2, RTX, pack("!H", 501) + b"x", 0.0)
    assert again.take_lost([3, 4], 0.1) == []
    assert again.take_lost([2], 0.1) == [(RTX, 501)]
    assert again.take_lost([2], 0.1) == [], "told once more"
    tries = 1
    for number in range(10, 30):
        again.note_sent(number, RTX, pack("!H", 501) + b"x", 0.2)
        tries += bool(again.take_lost([number], 0.3))
    assert tries == AGAIN_TRIES - 1
    again.note_sent(40, RTX, pack("!H", 502), 1.0)
    assert again.take_lost([40], 1.0 + AGAIN_WITHIN) == [], "too late for any picture"
    again.note_sent(41, RTX, b"", 1.0)
    assert again.take_lost([41], 1.0) == []


def test_what_is_kept_is_bounded() -> None:
    again = LostAgain()
    for number in range(3 * AGAIN_KEPT):
        again.note_sent(number, RTX, pack("!H", number & 0xFFFF), 0.0)
    assert len(again.take_lost(range(3 * AGAIN_KEPT), 0.1)) == AGAIN_KEPT


class Asked:
    """Stands for a sender: what it is asked to send again."""

    def __init__(self) -> None:
        self.numbers = self.resending = self
        self.ssrc, self.rtx_ssrc, self.may_pad = 76, RTX, False
        self.asked: list[int] = []

    def handle_nack(self, sequences: list[int], now: float) -> None:
        self.asked += sequences


@pytest.mark.parametrize("lost", [False, True])
def test_feedback_tells_what_was_lost_again(lost: bool) -> None:
    sent: list[bytes] = []
    side, sender, receiver = SendSide(sent.append, Path(), 0.0), Asked(), TwccReceiver()
    side.use_feedback(PathFeedback.ARRIVALS)
    side.add_sender(sender)  # type: ignore[arg-type]
    for k in range(6):
        kind, payload = ("retransmission", pack("!H", 500 + k)) if k == 3 else ("video", b"xx")
        row = EgressRow(kind, 97, False, k, 0, RTX if k == 3 else 76, payload, (), 3)  # type: ignore[arg-type]
        side.send(row, 0.01 * k)
        if not (lost and k == 3):
            receiver.record(k + 1, 0.01 * k + 0.05)
    assert len(sent) == 6
    data = receiver.feedback(1, 76)
    assert data is not None
    [feedback] = parse_rtcp(data)
    assert isinstance(feedback, TransportFeedback)
    side.handle_feedback(feedback, 0.1)
    assert sender.asked == ([503] if lost else [])
