"""Reliable control: codecs, two links over a bad network, and peers that break the rules."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.protocol import control, frames
from relaymesh.protocol.control import (
    CHANNELS,
    FLYING_BYTES,
    MAX_MESSAGE_BYTES,
    QUEUE,
    WINDOW,
    ChannelFull,
    Control,
    ControlAck,
    ControlChannels,
    ControlMessage,
    ControlReset,
    ControlResetFrame,
)
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.link import Link
from tests.lossy_link import Conditions, Pair
from tests.protocol.test_link import install, make_link, rekey, two_links

u32 = st.integers(0, 0xFFFFFFFF)
channels = st.integers(0, CHANNELS - 1)
messages = st.builds(
    lambda channel, token, sequence, back, data: Control(channel, token, sequence, min(back, sequence), data),
    channels,
    u32,
    u32,
    st.integers(0, WINDOW - 1),
    st.binary(max_size=MAX_MESSAGE_BYTES),
)
CODECS: list[tuple[Any, int, Callable[[Any], bytes], Callable[[bytes], Any]]] = [
    (messages, frames.CONTROL, control.encode_control, control.decode_control),
    (
        st.builds(ControlAck, channels, u32, u32, u32),
        frames.CONTROL_ACK,
        control.encode_control_ack,
        control.decode_control_ack,
    ),
    (
        st.builds(ControlResetFrame, channels, u32),
        frames.CONTROL_RESET,
        control.encode_control_reset,
        control.decode_control_reset,
    ),
]


@pytest.mark.parametrize(("made", "kind", "encode", "decode"), CODECS)
@given(data=st.data())
def test_frames_round_trip(made: Any, kind: int, encode: Any, decode: Any, data: st.DataObject) -> None:
    frame = data.draw(made)
    (whole,) = frames.split_frames(encode(frame))
    assert whole[0] == kind
    assert decode(whole[3:]) == frame


@pytest.mark.parametrize(("made", "kind", "encode", "decode"), CODECS)
@given(body=st.binary(max_size=1100))
def test_decoders_raise_one_error(made: Any, kind: int, encode: Any, decode: Any, body: bytes) -> None:
    try:
        decode(body)
    except ProtocolError as error:
        refused = error.reason
    else:
        refused = ""
    assert refused in ("truncated", "invalid", "")


# --- two links over a bad network ----------------------------------------------------------------


class Talk:
    """Two links; what each heard by channel, and which streams started over."""

    def __init__(
        self, seed: int = 1, forth: Conditions | None = None, back: Conditions | None = None
    ) -> None:
        self.a, self.b = two_links(seed)
        self.pair = Pair(self.a, self.b, forth=forth, back=back, seed=seed, errors=(ProtocolError,))
        self.heard: dict[Link, dict[int, list[bytes]]] = {self.a: {}, self.b: {}}
        self.resets: dict[Link, list[ControlReset]] = {self.a: [], self.b: []}
        self.pair.after_step = self.listen
        self.pair.run_until(lambda: self.a.sample(self.pair.now).up and self.b.sample(self.pair.now).up, 5.0)

    def listen(self) -> None:
        for link in (self.pair.a, self.pair.b):
            assert isinstance(link, Link)
            for event in link.poll_control():
                if isinstance(event, ControlMessage):
                    self.heard.setdefault(link, {}).setdefault(event.channel, []).append(event.data)
                else:
                    self.resets.setdefault(link, []).append(event)

    def run(self, seconds: float) -> None:
        self.pair.run(seconds, max_steps=200_000)
        self.listen()


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


@pytest.mark.parametrize("seed", range(20))
def test_messages_arrive_once_and_in_order_over_a_bad_network(seed: int) -> None:
    bad = Conditions(delay=0.03, jitter=0.02, loss=0.2, duplicate=0.05, reorder=0.1)
    talk = Talk(seed, bad, bad)
    for sender in (talk.a, talk.b):
        for i, data in enumerate(numbered(100)):
            for channel in (0, 7):
                talk.pair.at(
                    talk.pair.now + i * 0.01,
                    lambda s=sender, c=channel, d=data: s.send_control(c, d, talk.pair.now),  # type: ignore[misc]
                )
    talk.run(12.0)
    for receiver in (talk.a, talk.b):
        assert talk.heard[receiver] == {0: numbered(100), 7: numbered(100)}
        assert talk.resets[receiver] == []


def test_a_clean_link_carries_a_message_in_half_a_round_trip_and_once() -> None:
    talk = Talk(forth=Conditions(0.04), back=Conditions(0.04))
    talk.run(1.0)
    sent_at = talk.pair.now
    talk.a.send_control(3, b"now", sent_at)
    assert talk.pair.run_until(lambda: 3 in talk.heard[talk.b], sent_at + 1.0)
    assert talk.pair.now == pytest.approx(sent_at + 0.04, abs=0.001)
    talk.run(1.0)
    counters = talk.a.debug_state()["control"]["counters"]  # type: ignore[index]
    assert counters == {"sent": 1}


@pytest.mark.parametrize("seed", range(10))
def test_one_loss_costs_about_a_round_trip(seed: int) -> None:
    talk = Talk(seed, Conditions(0.04), Conditions(0.04))
    talk.run(1.0)
    talk.pair.forth.loss = 1.0
    sent_at = talk.pair.now
    talk.a.send_control(0, b"lost at first", sent_at)
    talk.run(0.001)
    talk.pair.forth.loss = 0.0
    assert talk.pair.run_until(lambda: 0 in talk.heard[talk.b], sent_at + 1.0)
    assert talk.pair.now - sent_at < 0.04 + 1.25 * 0.08 + control.RETRY_MARGIN + 0.005


def test_an_overtaken_message_is_sent_again_before_its_time() -> None:
    talk = Talk(forth=Conditions(0.1), back=Conditions(0.1))
    talk.run(1.0)
    talk.pair.forth.loss = 1.0
    sent_at = talk.pair.now
    talk.a.send_control(0, b"1", sent_at)
    talk.run(0.001)
    talk.pair.forth.loss = 0.0
    talk.a.send_control(0, b"2", talk.pair.now)
    assert talk.pair.run_until(lambda: talk.heard[talk.b].get(0) == [b"1", b"2"], sent_at + 2.0)
    assert talk.pair.now - sent_at < 0.1 + 0.2 + 0.2 / 8 + 0.01


def test_a_link_that_comes_back_goes_on_where_it_was() -> None:
    talk = Talk()
    talk.a.send_control(0, b"before", talk.pair.now)
    talk.run(0.2)
    talk.pair.forth.loss = talk.pair.back.loss = 1.0
    talk.a.send_control(0, b"into the gap", talk.pair.now)
    talk.run(1.0)
    assert not talk.a.sample(talk.pair.now).up
    talk.a.send_control(0, b"while it is down", talk.pair.now)
    sent = talk.pair.sent[talk.a]
    talk.run(1.0)
    assert talk.pair.sent[talk.a] - sent <= 21, "probes only"
    talk.pair.forth.loss = talk.pair.back.loss = 0.0
    talk.run(0.5)
    assert talk.heard[talk.b] == {0: [b"before", b"into the gap", b"while it is down"]}
    assert talk.resets[talk.a] == talk.resets[talk.b] == []


def test_new_keys_change_nothing() -> None:
    talk = Talk()
    for epoch in range(2, 6):
        talk.a.send_control(0, b"%d" % epoch, talk.pair.now)
        rekey(talk.a, talk.b, epoch, talk.pair.now)
        talk.run(3.0)
    assert talk.heard[talk.b] == {0: [b"2", b"3", b"4", b"5"]}
    assert talk.resets[talk.b] == []


def test_a_peer_that_restarted_starts_the_streams_over_and_both_are_told() -> None:
    talk = Talk()
    for channel in (0, 1):
        talk.a.send_control(channel, b"old", talk.pair.now)
        talk.b.send_control(channel, b"old", talk.pair.now)
    talk.run(0.5)
    fresh = make_link(2, 1, seed=9)
    install(fresh, 2, talk.pair.now)
    install(talk.a, 2, talk.pair.now)
    talk.pair.b = fresh
    talk.pair.sent[fresh] = 0
    talk.pair.received[fresh], talk.pair.errors[fresh] = [], []
    talk.run(0.5)
    talk.a.send_control(0, b"lost", talk.pair.now)
    talk.run(0.5)
    assert talk.resets[talk.a] == [ControlReset(0, sending=True, lost=1)]
    talk.a.send_control(0, b"new", talk.pair.now)
    fresh.send_control(1, b"hello", talk.pair.now)
    talk.run(0.5)
    assert talk.heard[fresh] == {0: [b"new"]}
    assert talk.heard[talk.a] == {0: [b"old"], 1: [b"old", b"hello"]}
    assert talk.resets[talk.a] == [ControlReset(0, sending=True, lost=1), ControlReset(1, sending=False)]


# --- bounds --------------------------------------------------------------------------------------


def channel(seed: int = 1) -> ControlChannels:
    made = ControlChannels(random.Random(seed))
    made.handle_link(True, 0.0)
    return made


def test_the_sender_is_told_when_too_much_waits() -> None:
    own = channel()
    for _ in range(QUEUE):
        own.send(0, b"x", 0.0)
    with pytest.raises(ChannelFull):
        own.send(0, b"x", 0.0)
    own.send(1, b"x", 0.0)
    for bad in ((CHANNELS, b""), (-1, b""), (0, bytes(MAX_MESSAGE_BYTES + 1))):
        with pytest.raises(ValueError, match="control message"):
            own.send(*bad, 0.0)


def test_a_burst_is_bounded_and_goes_on_as_acknowledgements_come() -> None:
    own, peer = channel(1), channel(2)
    for number in range(CHANNELS):
        for _ in range(40):
            own.send(number, bytes(1000), 0.0)
    received, most, now = 0, 0, 0.0
    while received < CHANNELS * 40 and now < 60.0:
        sent = own.poll_frames(0.02, now)
        most = max(most, sum(map(len, sent)))
        assert own.due > now
        received += deliver(sent, peer, now)
        deliver(peer.poll_frames(0.02, now), own, now)
        now += 0.02
    assert received == CHANNELS * 40
    assert FLYING_BYTES / 2 < most < FLYING_BYTES + 2 * 1024


def deliver(sent: list[bytes], to: ControlChannels, now: float) -> int:
    decoders = {kind: decode for _, kind, _, decode in CODECS}
    for frame in sent:
        to.handle_frame(decoders[frame[0]](frame[3:]), 0.02, now)
    return sum(isinstance(event, ControlMessage) for event in to.poll_events())


def answers(own: ControlChannels) -> list[Any]:
    decoders = {kind: decode for _, kind, _, decode in CODECS}
    return [decoders[frame[0]](frame[3:]) for frame in own.poll_frames(0.02, 0.0)]


@pytest.mark.parametrize(
    "bad",
    [
        Control(0, 7, WINDOW + 1, 0, b"beyond the window"),
        Control(0, 7, 3, 0, b"it says that 2 was acknowledged"),
    ],
)
def test_a_peer_that_breaks_the_rules_starts_over(bad: Control) -> None:
    own = channel()
    own.handle_frame(Control(0, 7, 0, 0, b"fine"), 0.02, 0.0)
    own.handle_frame(bad, 0.02, 0.0)
    assert own.poll_events() == [ControlMessage(0, b"fine"), ControlReset(0, sending=False)]
    assert answers(own) == [ControlResetFrame(0, 7)]
    own.handle_frame(Control(0, 7, 1, 1, b"as if nothing was"), 0.02, 0.0)
    assert own.poll_events() == []
    assert answers(own) == [ControlResetFrame(0, 7)], "it may not have heard"
    own.handle_frame(Control(0, 8, 0, 0, b"anew"), 0.02, 0.0)
    assert own.poll_events() == [ControlMessage(0, b"anew")]
    assert own.counters["violations"] == 1


def test_false_and_stale_answers_change_nothing() -> None:
    own = channel()
    own.send(0, b"1", 0.0)
    [sent] = answers(own)
    for bad in (
        ControlAck(0, sent.token, 2, 0),
        ControlAck(0, sent.token, 0, 1),
        ControlAck(0, sent.token ^ 1, 1, 0),
        ControlAck(5, sent.token, 1, 0),
        ControlResetFrame(0, sent.token ^ 1),
        ControlResetFrame(5, 0),
    ):
        own.handle_frame(bad, 0.02, 0.0)
    assert own.poll_events() == []
    assert own.debug_state()["sending"] == {0: {"next": 1, "on_the_way": 1, "waiting": 0}}
    assert (own.counters["false_acks"], own.counters["stale_acks"]) == (2, 2)


def test_late_frames_of_former_streams_start_nothing_over() -> None:
    own = channel()
    for token in range(5):
        own.handle_frame(Control(0, token, 0, 0, b"%d" % token), 0.02, 0.0)
    own.poll_events()
    own.handle_frame(Control(0, 2, 0, 0, b"2"), 0.02, 0.0)
    own.handle_frame(Control(0, 4, 1, 1, b"next"), 0.02, 0.0)
    assert own.poll_events() == [ControlMessage(0, b"next")]


@given(st.lists(st.one_of(messages, CODECS[1][0], CODECS[2][0]), max_size=200), st.integers(0, 3))
def test_whatever_a_peer_says_state_is_bounded_and_our_messages_stay(said: list[Any], tokens: int) -> None:
    own = channel()
    for number in range(CHANNELS):
        own.send(number, b"ours", 0.0)
    for frame in said:
        few = type(frame)(frame.channel, frame.token & tokens, *list(fields(frame))[2:])
        own.handle_frame(few, 0.02, 0.0)
        state: Any = own.debug_state()
        assert all(stream["held"] < WINDOW for stream in state["receiving"].values())
        assert len(state["receiving"]) <= CHANNELS
        assert sum(s["on_the_way"] for s in state["sending"].values()) == CHANNELS
        assert len(own.poll_frames(0.02, 0.0)) <= 3 * CHANNELS


def fields(frame: Any) -> list[Any]:
    return [getattr(frame, name) for name in frame.__dataclass_fields__]
