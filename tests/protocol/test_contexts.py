"""Contexts: the codec, and two peers that use it over a path that loses and reorders; and peers that lie."""

from __future__ import annotations

import random
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.protocol import acks, contexts, frames
from relaymesh.protocol.acks import Ack
from relaymesh.protocol.contexts import (
    HELD,
    IDLE,
    MAX_STREAMS,
    REFRESH,
    UNKNOWN_INTERVAL,
    ContextTable,
    SentContexts,
    UnknownContexts,
)
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.frames import Context, MediaFrame
from relaymesh.protocol.frames.compact import MAX_UNKNOWN, context_of, prefix_of
from relaymesh.protocol.ids import TrackId
from relaymesh.protocol.keyring import Key
from relaymesh.protocol.link import Link
from tests.lossy_link import Conditions, Pair
from tests.protocol.test_link import install, make_link, two_links
from tests.sealing import seal

KEY = Key(1, bytes([1] * 16), bytes([2] * 16), 1)
LONGEST = 1353


def audio(index: int, stream: int = 1, **fields: object) -> bytes:
    """Packet *index* of an audio stream."""
    values: dict[str, object] = {
        "audio": True, "extensions": ((1, bytes([index % 128])),), "hop_limit": 16, "generation": 1,
        "destinations": 4,
    } | fields  # fmt: skip
    payload = bytes([index % 256]) * 80
    sequence, timestamp = index & 0xFFFFFFFF, index * 960 & 0xFFFFFFFF
    media = MediaFrame(TrackId(1, stream, 3), 0, sequence, timestamp, payload, **values)  # type: ignore[arg-type]
    return frames.encode_media(media)


def video(index: int, stream: int = 9) -> bytes:
    """Packet *index* of a video stream, five to a picture."""
    picture, place = divmod(index, 5)
    return frames.encode_media(
        MediaFrame(
            TrackId(1, stream, 3), 0, index, picture * 3000, random.Random(index).randbytes(1000),
            keyframe=index % 500 == 0, marker=place == 4, priority=2, layer_start=place == 0,
            layer_end=place == 4, hop_limit=16, generation=1, destinations=1 << 9,
        )
    )  # fmt: skip


# --- the codec -----------------------------------------------------------------------------------

any_media = st.builds(
    lambda bits, head, extensions, payload: (
        b"\x10"
        + struct.pack("!H", 6 + len(bits) + 29 + 1 + len(extensions) + len(payload))
        + b"\x0f" + bytes([len(bits)]) + b"\0\0\0\7" + bits
        + head + bytes([len(extensions)]) + extensions + payload
    ),
    st.binary(min_size=1, max_size=8),
    st.binary(min_size=29, max_size=29),
    st.one_of(st.just(b""), st.just(b"\x01\x01\x33"), st.binary(max_size=20)),
    st.binary(max_size=30),
)  # fmt: skip


@given(any_media, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_an_announcement_is_the_media_and_its_context(frame: bytes, number: int, stride: int) -> None:
    announce = frames.encode_announce(number, stride, frame)
    assert frames.priority_of(announce) == frames.priority_of(frame)
    assert frames.decode_announce(announce[3:]) == (number, context_of(frame, stride), frame)


@given(
    any_media,
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    st.integers(-70_000, 70_000),
    st.one_of(st.none(), st.integers(-(1 << 24), 1 << 24)),
    st.booleans(),
    st.integers(0, 12),
)
def test_what_is_restored_is_what_was_sent_to_the_byte(
    frame: bytes, number: int, stride: int, ahead: int, later: int | None, same_flags: bool, cut: int
) -> None:
    prefix = prefix_of(frame)
    assert prefix is not None
    _, _, sequence, timestamp, _ = struct.unpack_from("!BBIIB", frame, 3 + len(prefix))
    flags, layers = struct.unpack_from("!BB", frame, 3 + len(prefix))
    base = Context(
        prefix, sequence - ahead & 0xFFFFFFFF,
        timestamp - (ahead * stride if later is None else later) & 0xFFFFFFFF,
        flags if same_flags else flags ^ 0x31, layers, stride,
    )  # fmt: skip
    if prefix_of(frame[: len(frame) - cut]) is not None:
        frame = frame[: len(frame) - cut]  # also what a neighbour cut short is passed on as it is
        frame = frame[:1] + struct.pack("!H", len(frame) - 3) + frame[3:]
    compact = frames.encode_compact(frame, number, base)
    if compact is None:
        assert abs(ahead) > 0x7FFF or (later is not None and abs(later) > 0x7FFFFF) or later is None
        return
    assert len(compact) <= len(frame) - len(prefix)
    assert frames.priority_of(compact) == frames.priority_of(frame)
    assert frames.split_frames(compact) == [compact]
    assert frames.restore(compact, {number: base}) == (number, frame)
    assert frames.restore(compact, {number ^ 1: base}) == (number, None)
    longer = frames.with_length(compact)
    assert frames.split_frames(longer + longer) == [longer] * 2
    assert frames.restore(longer, {number: base}) == (number, frame)


@given(st.binary(min_size=1, max_size=60))
def test_hostile_bytes_are_refused_or_restored(data: bytes) -> None:
    base = context_of(audio(0), 960)
    for decode in (
        lambda: frames.decode_announce(data),
        lambda: frames.decode_unknown(data),
        lambda: frames.restore(
            bytes([0x80 | data[0] & 0x3F]) + data[1:], dict.fromkeys(range(0x10000), base)
        ),
        lambda: frames.restore(
            bytes([0x40 | data[0] & 0x3F]) + b"\0\0" + data[1:], dict.fromkeys(range(0x10000), base)
        ),
    ):
        with suppress(ProtocolError):
            decode()


def test_what_is_cut_at_any_byte_is_refused_or_ends_in_the_payload() -> None:
    base, frame = context_of(audio(0), 960), audio(3)
    compact = frames.encode_compact(frame, 7, base)
    full = frames.encode_compact(audio(3, copy=True, extensions=((2, b"\1"),)), 7, base)
    assert compact is not None
    assert full is not None
    for whole, shortest in ((compact, 5), (full, 11)):
        for end in range(1, len(whole)):
            if end < shortest:
                with pytest.raises(ProtocolError):
                    frames.restore(whole[:end], {7: base})
            else:
                assert frames.restore(whole[:end], {7: base})[1] is not None
    announce = frames.encode_announce(7, 960, frame)
    for end in range(len(announce) - 3):
        if end < 4 + 7 + 19 + 11:
            with pytest.raises(ProtocolError, match="truncated"):
                frames.decode_announce(announce[3 : 3 + end])
        else:
            assert frames.decode_announce(announce[3 : 3 + end])[:2] == (7, base._replace(
                sequence=3, timestamp=3 * 960
            ))  # fmt: skip


def test_an_announcement_cut_anywhere_is_refused_whole_and_changes_nothing() -> None:
    a, b = two_links()
    announce = frames.encode_announce(7, 960, audio(1))
    before = b.debug_state()
    for end in range(1, 3 + 4 + 7 + 19 + 11):
        cut = announce[:1] + struct.pack("!H", max(0, end - 3)) + announce[3:end]
        with pytest.raises(ProtocolError, match="malformed"):
            b.handle_datagram(a.seal(cut, 0.0), 0.0)
        assert b.debug_state() == before


@pytest.mark.parametrize("wrong", [(-1, 0), (1 << 16, 0), (0, 1 << 16)])
def test_our_own_mistakes_are_value_errors(wrong: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="announce"):
        frames.encode_announce(*wrong, audio(1))
    for epoch, numbers in ((1, []), (1, list(range(MAX_UNKNOWN + 1))), (256, [1]), (1, [1 << 16])):
        with pytest.raises(ValueError, match=r"numbers|contexts"):
            frames.encode_unknown(epoch, numbers)


# --- the tables ----------------------------------------------------------------------------------


def test_a_number_given_again_is_another_and_a_late_announcement_replaces_none() -> None:
    table, old, new = ContextTable(), context_of(audio(1), 0), context_of(audio(2), 0)
    table.put(5, old)
    table.put(5 + HELD, new)
    table.put(5, old)
    assert table.get(5) is None
    assert table.get(5 + HELD) == new
    for number in range(3 * HELD):
        table.put(number, old)
    assert len(table) == HELD


class Sending:
    """The sending side alone, which is told what came."""

    def __init__(self) -> None:
        self.contexts = SentContexts()
        self.number = 0
        self.now = 0.0

    def send(self, frame: bytes, key: Key = KEY) -> int:
        """The type that *frame* is sent as."""
        sent = self.contexts.compact(frame, key, LONGEST, self.now)
        self.number += 1
        if sent[0] == frames.ANNOUNCE:
            self.contexts.note_announced(key.prefix | self.number)
        assert self.contexts.wholes(sent) == [frame]
        return frames.COMPACT_TO_END if sent[0] >= frames.COMPACT_TO_END else sent[0]

    def ack(self, *runs: int, base: int = 1, repaired: tuple[int, ...] = (), key: Key = KEY) -> None:
        self.contexts.handle_ack(Ack(1, base, runs, 0, 0, (), repaired), key.prefix)


def test_a_stream_is_announced_with_its_second_packet_and_compact_once_that_was_acknowledged() -> None:
    sending = Sending()
    assert [sending.send(audio(i)) for i in range(4)] == [
        frames.MEDIA, frames.ANNOUNCE, frames.MEDIA, frames.MEDIA
    ]  # fmt: skip
    sending.ack(1)  # not yet the announcement
    assert sending.send(audio(4)) == frames.MEDIA
    sending.ack(2)
    assert sending.send(audio(5)) == frames.COMPACT_TO_END
    assert len(sending.contexts.compact(audio(6), KEY, LONGEST, 0.0)) == 85
    assert sending.send(audio(6, generation=2)) == frames.MEDIA, "another prefix is another stream"


@pytest.mark.parametrize(("repaired", "then"), [((), frames.ANNOUNCE), ((1,), frames.COMPACT_TO_END)])
def test_an_announcement_that_was_lost_is_made_again(repaired: tuple[int, ...], then: int) -> None:
    sending = Sending()
    for i in range(3):
        sending.send(audio(i))
    sending.ack(1, 1, 1, repaired=repaired)
    assert sending.send(audio(3)) == then


def test_it_is_refreshed_while_in_use_and_meanwhile_what_was_known_serves() -> None:
    sending = Sending()
    for i in range(2):
        sending.send(audio(i))
    sending.ack(2)
    sent = []
    for i in range(2, 400):
        sending.now += 0.02
        sent.append(sending.send(audio(i)))
    assert set(sent) == {frames.COMPACT_TO_END, frames.ANNOUNCE}
    # One is due; the others since no answer came to it.
    assert 3 <= sent.count(frames.ANNOUNCE) <= 8.0 / contexts.ANSWERED_WITHIN
    sending.ack(sending.number)
    sent = []
    for i in range(400, 400 + int(REFRESH / 0.02) + 2):
        sending.now += 0.02
        sent.append(sending.send(audio(i)))
    assert sent.count(frames.ANNOUNCE) == 1


@pytest.mark.parametrize(
    "jump", [{"sequence": 0x8000}, {"timestamp": 0x800000}, {"sequence": -0x8002}, {"timestamp": -0x800400}]
)
def test_what_is_too_far_from_the_announced_packet_goes_whole_and_is_announced(jump: dict[str, int]) -> None:
    sending = Sending()

    def packet(index: int, sequence: int = 0, timestamp: int = 0) -> bytes:
        return frames.encode_media(
            MediaFrame(
                TrackId(1, 2, 3), 0, (1 << 20) + index + sequence, (1 << 30) + 960 * index + timestamp, b"x",
                hop_limit=1, destinations=1,
            )
        )  # fmt: skip

    for i in range(2):
        sending.send(packet(i))
    sending.ack(2)
    assert [sending.send(packet(2 + i, **jump)) for i in range(2)] == [frames.MEDIA, frames.ANNOUNCE]


def test_a_new_key_and_a_link_that_went_down_void_what_was_told() -> None:
    sending, newer = Sending(), Key(2, bytes([3] * 16), bytes([4] * 16), 2)
    for i in range(2):
        sending.send(audio(i))
    sending.ack(2)
    assert sending.send(audio(2), newer) == frames.MEDIA
    assert sending.send(audio(3), newer) == frames.ANNOUNCE
    sending.ack(4, key=newer)
    assert sending.send(audio(4), newer) == frames.COMPACT_TO_END
    sending.contexts.void()
    assert sending.send(audio(5), newer) == frames.MEDIA


def test_streams_are_bounded_and_idle_ones_make_room() -> None:
    sending = Sending()
    for stream in range(MAX_STREAMS):
        for i in range(2):
            sending.send(audio(i, stream))
    assert [sending.send(audio(i, MAX_STREAMS)) for i in range(3)] == [frames.MEDIA] * 3
    sending.now = IDLE + 1.0
    assert [sending.send(audio(i, MAX_STREAMS)) for i in range(2)] == [frames.MEDIA, frames.ANNOUNCE]


def test_a_peer_whose_streams_change_at_full_rate_uses_up_no_numbers() -> None:
    sending, rng = Sending(), random.Random(1)
    for i in range(20_000):
        sending.now += 0.0001
        sending.send(audio(i, rng.randrange(100_000)))
        if i % 100 == 99:
            sending.ack(sending.number)
    state = sending.contexts.debug_state()
    assert state["streams"] == MAX_STREAMS
    assert sending.contexts.announcements <= MAX_STREAMS * 2


def test_a_word_of_numbers_that_are_not_in_use_changes_nothing() -> None:
    sending = Sending()
    for i in range(2):
        sending.send(audio(i))
    sending.ack(2)
    for unknown in ((1, (77,)), (2, (0,))):
        sending.contexts.handle_unknown(frames.ContextUnknown(*unknown))
    assert sending.send(audio(2)) == frames.COMPACT_TO_END
    sending.contexts.handle_unknown(frames.ContextUnknown(1, (0,)))
    assert sending.send(audio(3)) == frames.ANNOUNCE


def test_words_of_unknown_numbers_are_few_and_short() -> None:
    unknown, words = UnknownContexts(), 0
    for i in range(10_000):
        now = i / 10_000
        unknown.note(i // 5000, [i & 0xFFFF, 3], now)
        for frame in unknown.poll(now):
            words += 1
            assert len(frames.decode_unknown(frame[3:]).numbers) <= MAX_UNKNOWN
    assert words <= 1.0 / UNKNOWN_INTERVAL + 1
    assert unknown.dropped == 20_000


# --- two peers -----------------------------------------------------------------------------------


def feed(pair: Pair, sender: Link, packets: list[bytes], every: float = 0.005, at: float = 0.0) -> None:
    def send(frame: bytes) -> None:
        for datagram in sender.send(frame, pair.now):
            pair.send(sender, datagram)

    for i, frame in enumerate(packets):
        pair.at(pair.now + at + i * every, lambda frame=frame: send(frame))  # type: ignore[misc]


def came(pair: Pair, link: Link) -> list[bytes]:
    return [frame for routed in pair.received[link] for frame in routed]


def state_of(link: Link) -> dict[str, int]:
    state = link.debug_state()["contexts"]
    assert isinstance(state, dict)
    return state


def mixed(count: int, streams: int = 4) -> list[bytes]:
    """Packets of some audio and video streams in turn."""
    return [
        (audio if i % streams % 2 else video)(i // streams, i % streams) for i in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "way",
    [
        Conditions(delay=0.02),
        Conditions(delay=0.02, loss=0.05),
        Conditions(delay=0.02, jitter=0.01, reorder=0.05, duplicate=0.05),
        Conditions(delay=0.08, loss=0.1, jitter=0.005),
    ],
)
def test_all_that_comes_is_what_was_sent_whatever_the_path_does(way: Conditions, seed: int) -> None:
    a, b = two_links(seed, dead_after=2.0)
    pair = Pair(a, b, forth=way, back=way, seed=seed, errors=(ProtocolError,))
    pair.run(1.0)
    sent = mixed(2000)
    feed(pair, a, sent, every=0.004)
    pair.run(12.0)
    got = came(pair, b)
    assert set(got) <= set(sent)
    assert len(got) == len(set(got)) >= len(sent) * (0.995 if way.loss else 1.0)
    state = state_of(a)
    assert state["announcements"] >= 4 * 3, "each is refreshed"
    assert state["refused"] == state_of(b)["unknown"] == 0
    if not way.loss:
        headers = a.debug_state()["media_bytes"] - sum(map(len, sent))  # type: ignore[operator]
        assert headers < 2000 * 2, "a datagram's header and seal cost less than the context saves"


def test_keys_that_change_lose_nothing_and_each_stream_is_announced_anew() -> None:
    a, b = two_links(dead_after=2.0)
    pair = Pair(a, b, forth=Conditions(delay=0.02, loss=0.02, jitter=0.01), errors=(ProtocolError,))
    pair.run(1.0)
    sent = mixed(2000)
    feed(pair, a, sent, every=0.004)
    for epoch in (2, 3):
        pair.at(pair.now + 3.1 * (epoch - 1), lambda epoch=epoch: install(a, epoch, pair.now))  # type: ignore[misc]
        pair.at(pair.now + 3.1 * (epoch - 1) + 0.3, lambda epoch=epoch: install(b, epoch, pair.now))  # type: ignore[misc]
    pair.run(12.0)
    got = came(pair, b)
    assert set(got) <= set(sent)
    assert len(got) == len(set(got)) >= len(sent) - 4
    assert state_of(b)["unknown"] == 0


def test_a_receiver_that_restarts_is_told_anew_and_one_that_forgot_says_so() -> None:
    a, b = two_links()
    pair = Pair(a, b, forth=Conditions(delay=0.02), errors=(ProtocolError,))
    pair.run(1.0)
    feed(pair, a, mixed(1000), every=0.002)
    pair.run(2.0)
    assert state_of(a)["pending"] == 0
    # b loses power and comes back with nothing; the controller gives both ends epoch 2.
    reborn = make_link(2, 1, seed=77)
    second = Pair(a, reborn, start=pair.now, errors=(ProtocolError,))
    install(reborn, 2, second.now)
    second.at(second.now + 0.2, lambda: install(a, 2, second.now))
    sent = mixed(1000)
    feed(second, a, sent, every=0.004, at=1.5)
    second.run(7.0)
    assert came(second, reborn)[-1000:] == sent
    assert state_of(reborn)["unknown"] == 0
    # It loses what it was told, which nobody does who follows the rules.
    more = [audio(i, 1) for i in range(250, 500)]
    feed(second, a, more, every=0.004)

    def forget() -> None:
        for key in reborn._keys.held():
            key.contexts = ContextTable()

    second.at(second.now + 0.5, forget)
    second.run(3.0)
    lost = len(more) - len(set(came(second, reborn)) & set(more))
    assert 0 < lost <= 0.05 / 0.004 + 1, "a round trip of packets and no more"
    assert state_of(reborn)["unknown"] == lost
    assert state_of(a)["refused"] == 1
    assert came(second, reborn)[-1] == more[-1]


def test_a_sender_that_restarts_begins_with_numbers_that_meant_something_else() -> None:
    a, b = two_links()
    pair = Pair(a, b, forth=Conditions(delay=0.02), errors=(ProtocolError,))
    pair.run(1.0)
    feed(pair, a, [audio(i, 1) for i in range(200)])
    pair.run(2.0)
    reborn = make_link(1, 2, seed=5)
    second = Pair(reborn, b, start=pair.now, errors=(ProtocolError,))
    install(reborn, 2, second.now)
    install(b, 2, second.now)
    sent = [audio(i, 2) for i in range(400)]
    feed(second, reborn, sent, at=1.0)
    second.run(4.0)
    assert came(second, b) == sent
    assert state_of(b)["unknown"] == 0


def test_what_a_dead_link_swallowed_is_whole_for_the_others() -> None:
    a, b = two_links()
    pair = Pair(a, b, errors=(ProtocolError,))
    pair.run(1.0)
    feed(pair, a, mixed(400), every=0.002)
    pair.run(1.0)
    pair.forth.loss = pair.back.loss = 1.0
    swallowed = mixed(480)[400:]
    feed(pair, a, swallowed, every=0.001)
    pair.run(0.1)
    assert a.take_unacknowledged() == swallowed


def test_numbers_that_were_never_announced_cost_their_packets_and_a_short_word() -> None:
    a, b = two_links()
    pair = Pair(a, b)
    pair.run(1.0)
    base = context_of(audio(0), 960)
    before = pair.sent[b]
    for number in range(1000):
        compact = frames.encode_compact(audio(5), number, base)
        assert compact is not None
        pair.at(pair.now + number * 0.0001, lambda data=compact: pair.send(a, a.seal(data, pair.now)))  # type: ignore[misc]
    pair.run(0.2)
    assert came(pair, b) == []
    assert state_of(b)["unknown"] == 1000
    assert pair.sent[b] - before < 0.2 / UNKNOWN_INTERVAL + 0.2 / 0.005 + 10, "words, ACKs and echoes"
    feed(pair, a, [audio(i) for i in range(100)])
    pair.run(1.0)
    assert len(came(pair, b)) == 100


def test_announcements_at_full_rate_are_bounded_and_the_newest_holds() -> None:
    _, b = two_links()
    key = 1 + (1 << 16 | 1 << 8 | 2)
    for number in range(1, 5001):
        plaintext = frames.encode_announce(number & 0xFFFF, 960, audio(number, number))
        [frame] = b.handle_datagram(seal(key.to_bytes(16, "big"), 1, 1, number, plaintext), number / 1e4)
        assert frame == audio(number, number)
    base = context_of(audio(5000, 5000), 960)
    compact = frames.encode_compact(audio(5001, 5000), 5000, base)
    assert compact is not None
    datagram = seal(key.to_bytes(16, "big"), 1, 1, 5001, compact)
    assert b.handle_datagram(datagram, 0.6) == [audio(5001, 5000)]
    held = b.debug_state()["keys"][0]["contexts"]  # type: ignore[index]
    assert held == HELD


def test_a_false_word_that_all_arrived_costs_the_liar_only() -> None:
    a, b = two_links()
    a.send(audio(0), 0.0)
    [announced] = a.send(audio(1), 0.0)
    # b never saw it, and says it did.
    lie = acks.encode_ack(Ack(1, 1, (2,), 0, 0))
    a.handle_datagram(b.seal(lie, 0.0), 0.0)
    [datagram] = a.send(audio(2), 0.01)
    assert len(datagram) < len(announced)
    assert b.handle_datagram(datagram, 0.02) == []
    [word] = b.poll_datagrams(0.02)
    a.handle_datagram(word, 0.03)
    [again] = a.send(audio(3), 0.04)
    assert b.handle_datagram(again, 0.05) == [audio(3)]
