"""Repair of a link, as two peers over a bad network, and against a peer that holds the keys and lies."""

from __future__ import annotations

import random

import pytest

from relaymesh.protocol import acks, arq, fec, frames
from relaymesh.protocol.acks import DELAY_UNKNOWN, Ack
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.frames import MediaFrame, priority_of
from relaymesh.protocol.ids import TrackId
from relaymesh.protocol.link import Link
from relaymesh.protocol.path_estimate import PathEstimate
from relaymesh.protocol.recovery import Sender
from relaymesh.protocol.repair import MAX_RESERVE, Adaptive, policy_called
from tests.lossy_link import Conditions, Pair
from tests.sealing import seal

KEYS = {1: bytes([1] * 16), 2: bytes([2] * 16)}
SIZE = 300


def media(sequence: int, priority: int = 2) -> bytes:
    return frames.encode_media(
        MediaFrame(
            TrackId(1, 2, 3), 0, sequence, 0, bytes(SIZE), priority=priority, hop_limit=16, generation=1,
            destinations=4,
        )
    )  # fmt: skip


def make_link(own: int, policy: str = "adaptive") -> Link:
    peer = 3 - own
    link = Link(
        own_index=own, peer_index=peer, probe_interval=0.1, dead_after=2.0, rng=random.Random(own),
        repair=policy_called(policy),
    )  # fmt: skip
    link.install_key(1, KEYS[own], KEYS[peer], 0.0)
    return link


def make_pair(policy: str, *, seed: int = 3, **conditions: float) -> tuple[Link, Link, Pair]:
    a, b = make_link(1, policy), make_link(2, policy)
    both = {"delay": 0.02, **conditions}
    return (
        a,
        b,
        Pair(a, b, forth=Conditions(**both), back=Conditions(**both), seed=seed, errors=(ProtocolError,)),
    )


def feed(pair: Pair, sender: Link, count: int, every: float = 0.002) -> None:
    for i in range(count):
        pair.at(pair.now + i * every, lambda i=i: pair.send(sender, sender.seal(media(i), pair.now)))  # type: ignore[misc]


def sequences(pair: Pair, link: Link) -> list[int]:
    return [frames.decode_media(frame, 3).sequence for routed in pair.received[link] for frame in routed]


def reasons(pair: Pair, link: Link) -> set[str]:
    return {error.reason for error in pair.errors[link] if isinstance(error, ProtocolError)}


def repair_of(link: Link) -> dict[str, int]:
    state = link.debug_state()["repair"]
    assert isinstance(state, dict)
    return state


def recovered_by(link: Link) -> dict[str, int]:
    state = link.debug_state()["recovered"]
    assert isinstance(state, dict)
    return state


@pytest.mark.parametrize("policy", ["none", "arq", "fec", "adaptive"])
def test_a_clean_link_gets_no_repair_and_nothing_waits(policy: str) -> None:
    a, b, pair = make_pair(policy)
    feed(pair, a, 1000)
    pair.run(4.0)
    assert sequences(pair, b) == list(range(1000))
    assert repair_of(a)["sent_bytes"] == 0
    assert repair_of(a)["stored"] == 0


@pytest.mark.parametrize(
    ("policy", "least"), [("none", 850), ("arq", 1995), ("fec", 1900), ("adaptive", 1998)]
)
def test_each_packet_comes_once_and_most_of_them_come(policy: str, least: int) -> None:
    a, b, pair = make_pair(policy, loss=0.05, duplicate=0.02, reorder=0.02)
    feed(pair, a, 2000)
    pair.run(6.0)
    came = sequences(pair, b)
    assert len(came) == len(set(came)) >= least
    assert reasons(pair, b) <= {"replayed"}  # duplicates, and late originals


def test_with_codes_alone_nothing_is_sent_again() -> None:
    a, b, pair = make_pair("fec", loss=0.05)
    feed(pair, a, 2000)
    pair.run(6.0)
    assert recovered_by(b)["by_retransmission"] == 0
    assert recovered_by(b)["by_code"] > 50


def test_a_late_retransmission_is_not_sent() -> None:
    a, b, pair = make_pair("arq", delay=0.02)
    feed(pair, a, 50)
    pair.at(0.05, lambda: setattr(pair.forth, "loss", 1.0))
    pair.at(0.05, lambda: setattr(pair.back, "delay", 0.5))  # ACKs come after the deadline
    pair.at(0.06, lambda: setattr(pair.forth, "loss", 0.0))
    pair.run(3.0)
    assert 43 <= len(sequences(pair, b)) <= 46
    assert repair_of(a)["given_up"] >= 1
    assert repair_of(a)["sent_bytes"] == 0


def test_reordering_alone_soon_costs_nothing() -> None:
    a, b, pair = make_pair("adaptive", reorder=0.05)
    pair.forth.reorder_delay = pair.back.reorder_delay = 0.03
    feed(pair, a, 500)
    pair.run(1.5)
    before = repair_of(a)["sent_bytes"]
    feed(pair, a, 2000)
    pair.run(6.0)
    assert len(sequences(pair, b)) == 2500
    assert repair_of(a)["sent_bytes"] - before < 0.005 * 2000 * SIZE


def test_a_new_key_loses_nothing() -> None:
    a, b, pair = make_pair("adaptive", loss=0.05)
    feed(pair, a, 2000)
    for link, own in ((a, 1), (b, 2)):
        pair.at(
            2.0,
            lambda link=link, own=own: link.install_key(
                2, bytes([own + 10] * 16), bytes([13 - own] * 16), 2.0
            ),
        )  # type: ignore[misc]
    pair.run(6.0)
    assert len(sequences(pair, b)) >= 1998


def test_priority_is_read_from_the_frame() -> None:
    assert [priority_of(media(1, priority)) for priority in range(4)] == [0, 1, 2, 3]
    assert priority_of(b"\x12\x00\x00") == 0
    assert priority_of(b"\x10\x00\x02\x01\xff") == 0


# --- a peer that holds the keys ------------------------------------------------------------------------


class Liar:
    """Seals whatever it likes as node 2."""

    def __init__(self) -> None:
        self.number = 0

    def datagram(self, plaintext: bytes) -> bytes:
        self.number += 1
        return seal(KEYS[2], 1, 2, self.number, plaintext)


def test_endless_requests_for_retransmission_cost_a_share_of_the_media() -> None:
    link, liar = make_link(1), Liar()
    media_bytes = repair_bytes = 0
    now = 0.0
    for i in range(5000):
        now += 0.001
        media_bytes += len(link.seal(media(i), now))
        state = link.debug_state()["keys"]
        assert isinstance(state, list)
        top = state[0]["sent"]
        base = max(1, top - 50)
        ack = Ack(1, base, (0, top - base + 1), 0, 0)
        link.handle_datagram(liar.datagram(acks.encode_ack(ack)), now)
        repair_bytes += sum(map(len, link.poll_datagrams(now)))
    assert repair_bytes < MAX_RESERVE * media_bytes + 100_000
    assert repair_of(link)["refused"] > 0
    assert repair_of(link)["lost"] < arq.MAX_LOST


def test_acks_of_what_was_never_sent_change_nothing() -> None:
    link, liar = make_link(1), Liar()
    link.seal(media(1), 0.0)
    link.handle_datagram(liar.datagram(acks.encode_ack(Ack(1, 1, (1, 3000), 0, 0))), 0.1)
    assert repair_of(link)["acks_invalid"] == 1
    assert repair_of(link)["lost"] == 0
    link.handle_datagram(liar.datagram(acks.encode_ack(Ack(9, 1, (1,), 0, 0))), 0.1)  # no such key


def test_retransmissions_nobody_misses_are_useless_and_not_handed_up() -> None:
    link, liar = make_link(1), Liar()
    first = link.handle_datagram(liar.datagram(media(1)), 0.0)
    assert len(first) == 1
    for number in (1, 1, 5_000_000):
        again = arq.encode_retransmission(1, number, media(1))
        assert link.handle_datagram(liar.datagram(again), 0.1) == []
    assert recovered_by(link)["useless"] == 3


def test_a_retransmission_of_no_frames_is_counted() -> None:
    link, liar = make_link(1), Liar()
    link.handle_datagram(liar.datagram(media(1)), 0.0)
    liar.number += 1
    again = arq.encode_retransmission(1, 2, b"\xff\xff")
    assert link.handle_datagram(liar.datagram(again), 0.1) == []
    assert recovered_by(link)["malformed"] == 1


def test_only_routed_frames_are_recovered() -> None:
    link, liar = make_link(1), Liar()
    link.handle_datagram(liar.datagram(media(1)), 0.0)
    liar.number += 1
    inside = arq.encode_retransmission(1, 1, media(1)) + media(2)
    routed = link.handle_datagram(liar.datagram(arq.encode_retransmission(1, 2, inside)), 0.1)
    assert [frame[0] for frame in routed] == [frames.MEDIA]


@pytest.mark.parametrize("seed", range(30))
def test_random_frames_of_a_liar_are_bounded(seed: int) -> None:
    rng = random.Random(seed)
    link, liar = make_link(1), Liar()
    for i in range(200):
        now = i * 0.01
        link.seal(media(i), now)
        liar.number += rng.choice((0, 0, 1, 3, 70))
        what = rng.randrange(3)
        if what == 0:
            runs = (rng.randrange(3), *(rng.randrange(1, 40) for _ in range(rng.randrange(1, 5))))
            plaintext = acks.encode_ack(
                Ack(1, rng.randrange(200), runs, rng.randrange(65536), rng.getrandbits(32))
            )
        elif what == 1:
            first = max(0, liar.number - rng.randrange(10))
            numbers = tuple(first + n for n in range(rng.randrange(1, 8)))
            repairs = rng.randrange(1, 4)
            repair = fec.Repair(
                1, numbers, repairs, rng.randrange(repairs), rng.randbytes(rng.randrange(3, 40))
            )
            plaintext = fec.encode_repair(repair)
        else:
            number = max(0, liar.number - rng.randrange(20))
            plaintext = arq.encode_retransmission(1, number, rng.choice((media(i), rng.randbytes(20))))
        try:
            link.handle_datagram(liar.datagram(plaintext), now)
        except ProtocolError as error:
            assert error.reason in {"malformed", "misconduct"}  # noqa: PT017
        assert len(link.poll_datagrams(now)) < 100
        link.handle_timeout(now)


def test_what_cannot_be_left_out_is_repaired_first() -> None:
    """A cut takes more at once than may be sent again: 300 kB, one packet in ten of audio."""
    sender = Sender(Adaptive())
    for number in range(1, 302):
        priority = 0 if number % 10 == 0 else 3
        sender.note_sent(number, media(number, priority) + bytes(1000), priority, 1340, 1.0)
    sender.handle_ack(Ack(0, 1, (1, 299, 1), DELAY_UNKNOWN, 0), 0, 301, 400_000, 1.05)
    again = [original for _, original in sender.poll(1.2) if original is not None]
    assert set(range(10, 301, 10)) <= set(again)
    assert sender.given_up > 200


def test_a_full_path_repairs_by_retransmission_only_and_for_long() -> None:
    sender = Sender(Adaptive())
    for number in range(1, 302):
        priority = 0 if number < 11 else 3
        sender.note_sent(number, media(number, priority), priority, 340, 1.0)
    sender.full = True
    sender.handle_ack(Ack(0, 1, (1, 299, 1), DELAY_UNKNOWN, 0), 0, 301, 400_000, 1.5)
    assert [original for _, original in sender.poll(2.0)] == list(range(2, 11)), "class 3 is too late by then"
    assert not sender._codes


def test_the_loss_of_a_full_queue_is_not_the_paths_own() -> None:
    estimate = PathEstimate()
    estimate.note_fate(1000, 10, 10)
    estimate.own()
    estimate.note_fate(100, 80, 2)
    assert estimate.loss > 0.05
    estimate.disown()
    assert estimate.loss == pytest.approx(0.01)
    assert estimate.fates_lost == 90, "reports tell of all"
