"""A peer that holds the keys and means harm gets bounded work, bounded memory and counters, and no more."""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Callable, Iterator
from itertools import count
from types import FunctionType, MethodType, ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaymesh.protocol import acks, arq, fec, frames
from relaymesh.protocol.acks import Ack, decode_ack
from relaymesh.protocol.arq import decode_retransmission
from relaymesh.protocol.conduct import HOLD_FIRST, Conduct
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.fec import Repair, decode_repair
from relaymesh.protocol.frames import Echo, Fragment, Probe, decode_echo, decode_fragment, decode_probe
from relaymesh.protocol.ids import TrackId
from relaymesh.protocol.link import MAX_ECHOES, Link
from relaymesh.protocol.repair import MAX_RESERVE
from tests.protocol.test_conduct import counters_of
from tests.protocol.test_recovery import KEYS, make_link, media
from tests.sealing import seal

_SEALER = KEYS[2]
EVERY = 0.001  # seconds between datagrams of the attack
SOLVED_MOST = fec.MAX_SOLVED_AT_ONCE + fec.MAX_SOURCES


def by_peer(number: int, plaintext: bytes) -> bytes:
    return seal(_SEALER, 1, 2, number, plaintext)


Attack = Callable[[random.Random], Iterator[tuple[int, bytes]]]  # packet number, plaintext


# --- the attacks: each for ever ------------------------------------------------------------------------


def acks_of_what_was_never_sent(rng: random.Random) -> Iterator[tuple[int, bytes]]:
    for number in count(1):
        base = rng.randrange(1, 2**32 - 5000)
        yield number, acks.encode_ack(Ack(1, base, (rng.randrange(4000), rng.randrange(1, 90)), 0, 0))


def everything_is_lost(rng: random.Random) -> Iterator[tuple[int, bytes]]:
    for number in count(1):
        first = max(1, number // 2 - rng.randrange(60))
        yield number, acks.encode_ack(Ack(1, first, (0, max(1, number // 2 - first)), 0, 0))


def absurd_times(rng: random.Random) -> Iterator[tuple[int, bytes]]:
    for number in count(1):
        received = max(2, number // 2 - 1)
        deltas = tuple(rng.randrange(-0x8000, 0x8000) for _ in range(min(received - 1, 20)))
        base = max(1, received - 100)
        runs = (received - base + 1,)
        deltas = deltas[: runs[0] - 1]
        yield number, acks.encode_ack(Ack(1, base, runs, rng.getrandbits(16), rng.getrandbits(32), deltas))


def repairs_that_contradict(rng: random.Random) -> Iterator[tuple[int, bytes]]:
    number = 1
    while True:
        number += rng.randrange(1, 40)  # leaves holes
        k = rng.randrange(1, 33)
        first = max(0, number - 40)
        numbers = tuple(sorted(rng.sample(range(first, first + 80), k)))
        yield number, fec.encode_repair(Repair(1, numbers, 32, rng.randrange(32), rng.randbytes(1200)))


def retransmissions_of_anything(rng: random.Random) -> Iterator[tuple[int, bytes]]:
    number = 1
    while True:
        number += rng.choice((1, 1, 1, 5, 900))
        original = rng.choice(
            (number - rng.randrange(900), rng.getrandbits(32), number + rng.randrange(2000))
        )
        source = rng.choice((media(number), rng.randbytes(1000)))
        yield number, arq.encode_retransmission(1, max(0, original) & 0xFFFFFFFF, source)


def retransmissions_of_what_came(rng: random.Random) -> Iterator[tuple[int, bytes]]:
    for number in count(1):
        yield (
            number,
            arq.encode_retransmission(1, rng.randrange(max(1, number - 50), number + 1), media(number)),
        )


def halves_of_nothing(rng: random.Random) -> Iterator[tuple[int, bytes]]:
    number = 1
    while True:
        number += 2
        yield number, frames.encode_fragment(Fragment(bool(rng.getrandbits(1)), 3, rng.randbytes(1400)))


def halves_that_are_no_frame(rng: random.Random) -> Iterator[tuple[int, bytes]]:
    for number in count(1):
        yield (
            number,
            frames.encode_fragment(Fragment(number % 2 == 0, 0, rng.randbytes(rng.randrange(1, 1400)))),
        )


def jumping_numbers(rng: random.Random) -> Iterator[tuple[int, bytes]]:
    number = 1
    while number < 2**32 - 10_000:
        number += rng.choice((1, 2, 700, 1024, 1026, 9000))
        yield number, media(number)


def probes_without_end(rng: random.Random) -> Iterator[tuple[int, bytes]]:
    for number in count(1):
        probes = (
            Probe(rng.getrandbits(32), rng.getrandbits(64), bool(rng.getrandbits(1))) for _ in range(90)
        )
        yield number, b"".join(frames.encode_probe(probe) for probe in probes)


def echoes_of_nothing(rng: random.Random) -> Iterator[tuple[int, bytes]]:
    for number in count(1):
        echoes = (Echo(rng.getrandbits(32), rng.getrandbits(64), rng.getrandbits(32), 0) for _ in range(60))
        yield number, b"".join(frames.encode_echo(echo) for echo in echoes)


def contexts_without_end(rng: random.Random) -> Iterator[tuple[int, bytes]]:
    for number in count(1):
        stream = frames.encode_media(
            frames.MediaFrame(
                TrackId(1, number, 3), 0, 1, 1, bytes(1000), destinations=1 << 2039, hop_limit=1
            )
        )
        yield number, frames.encode_announce(rng.randrange(0x10000), rng.randrange(0x10000), stream)


def contexts_never_announced(rng: random.Random) -> Iterator[tuple[int, bytes]]:
    for number in count(1):
        named = (bytes([0x40, 0, 3]) + rng.randbytes(3) for _ in range(20))
        yield number, b"".join(named) + bytes([0x80]) + rng.randbytes(3)


def contexts_refused_without_end(rng: random.Random) -> Iterator[tuple[int, bytes]]:
    for number in count(1):
        told = acks.encode_ack(Ack(1, 1, (max(1, number // 2),), 0, 0))
        yield number, told + frames.encode_unknown(1, [(number + i) & 0xFFFF for i in range(-30, 2)])


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        acks_of_what_was_never_sent,
        everything_is_lost,
        absurd_times,
        repairs_that_contradict,
        retransmissions_of_anything,
        retransmissions_of_what_came,
        halves_of_nothing,
        halves_that_are_no_frame,
        jumping_numbers,
        probes_without_end,
        echoes_of_nothing,
        contexts_without_end,
        contexts_never_announced,
        contexts_refused_without_end,
    )
}


@pytest.fixture
def solved(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many packets each call of the decoder was to find: that is its work."""
    found: list[int] = []
    recover = fec.recover

    def counted(known: dict[int, bytes], symbols: dict[int, bytes], k: int, m: int) -> dict[int, bytes]:
        found.append(k - len(known))
        return recover(known, symbols, k, m)

    monkeypatch.setattr(fec, "recover", counted)
    return found


class Victim:
    """An honest link that sends media, one packet for two of the attack, and counts what leaves it."""

    def __init__(self) -> None:
        self.link = make_link(1)
        self.now = 0.0
        self.media_bytes = self.other_bytes = self.other_datagrams = self.steps = 0
        self.refused: set[str] = set()

    def suffer(self, datagram: bytes) -> int:
        """Take one datagram of the attack; the datagrams that leave because of it."""
        self.now += EVERY
        self.steps += 1
        if self.steps % 2:
            self.media_bytes += sum(map(len, self.link.send(media(self.steps), self.now)))
        try:
            self.link.handle_datagram(datagram, self.now)
        except ProtocolError as error:
            self.refused.add(error.reason)
        due = self.link.next_timeout()
        if due is not None and due <= self.now:
            self.link.handle_timeout(self.now)
        out = self.link.poll_datagrams(self.now)
        self.link.poll_events()
        self.other_bytes += sum(map(len, out))
        self.other_datagrams += len(out)
        return len(out)


def held_bytes(link: Link) -> int:
    """Memory of everything that *link* leads to, but code."""
    seen: set[int] = set()
    todo: list[object] = [link]
    size = 0
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, type | ModuleType | FunctionType | MethodType):
            continue
        seen.add(id(thing))
        size += sys.getsizeof(thing)
        todo += gc.get_referents(thing)
    return size


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_gets_bounded_work_and_memory(name: str, solved: list[int]) -> None:
    victim, attack = Victim(), ATTACKS[name](random.Random(name))
    held = []
    for step in range(1, 4001):
        solved.clear()
        assert victim.suffer(by_peer(*next(attack))) <= 80  # a bucket of repair, once
        assert sum(solved) <= SOLVED_MOST
        if step % 2000 == 0:
            held.append(held_bytes(victim.link))
    assert held[1] - held[0] < 1_000_000  # 2,000 datagrams of 1,400 bytes would be 2.8 MB
    assert held[1] < 12_000_000
    assert victim.refused <= {"malformed", "replayed", "misconduct"}
    # Repair is a share of the media, and a bucket; ACKs and echoes answer what the peer itself sends.
    assert victim.other_bytes <= MAX_RESERVE * victim.media_bytes + 64_000 + 1452 * victim.steps
    sample = victim.link.sample(victim.now)
    assert 0.0 <= sample.rtt_ms <= 60_000.0
    assert 0.0 <= sample.jitter_ms <= 60_000.0
    assert 0.0 <= sample.loss_in <= 1.0
    assert 0.0 <= sample.loss_out <= 1.0
    assert sample.received_packets <= victim.steps


@pytest.mark.parametrize(
    ("name", "offence"),
    [
        ("acks_of_what_was_never_sent", "acks_invalid"),
        ("repairs_that_contradict", "blocks_invalid"),
        ("retransmissions_of_anything", "recovered_malformed"),
        ("retransmissions_of_what_came", "retransmissions_useless"),
        ("halves_that_are_no_frame", "fragments_invalid"),
        ("jumping_numbers", "outages"),
        ("probes_without_end", "echoes_dropped"),
        ("echoes_of_nothing", "echoes_unmatched"),
        ("contexts_never_announced", "contexts_unknown"),
    ],
)
def test_an_attack_is_an_offence(name: str, offence: str) -> None:
    victim, attack, conduct = Victim(), ATTACKS[name](random.Random(name)), Conduct()
    verdicts = set()
    for step in range(6000):
        victim.suffer(by_peer(*next(attack)))
        if step % 50 == 0:
            received = victim.link.sample(victim.now).received_packets
            verdicts.add(conduct.judge(counters_of(victim.link), received, victim.now))
    assert offence in verdicts


@pytest.mark.parametrize("loss", ["everything_is_lost", "absurd_times"])
def test_lies_about_the_path_cost_a_share_of_the_media(loss: str) -> None:
    victim, attack = Victim(), ATTACKS[loss](random.Random(loss))
    for _ in range(6000):
        victim.suffer(by_peer(*next(attack)))
    assert victim.other_bytes <= MAX_RESERVE * victim.media_bytes + 64_000 + 100 * victim.steps


# --- blocks prepared to be solved at once ---------------------------------------------------------------


def set_trap(link: Link, *, honest: bool, chained: bool) -> int:
    """Open as many blocks as there may be, each short of one packet; the next packet number.

    Each lacks the 31 sources it has symbols for, and packet 1 or, *chained*, the last source of the block
    before. *honest*: the symbols are true.
    """
    width = fec.MAX_SOURCES - 1
    first = fec.MAX_OPEN_BLOCKS * width + 100
    for own in range(64, first, 1000):  # jumps that leave holes, and are no outage
        link.handle_datagram(by_peer(own, media(own)), 0.0)
    trigger, at, own = 1, 2, first
    for _ in range(fec.MAX_OPEN_BLOCKS):
        numbers = (trigger, *[n for n in range(at, at + width + 1) if n % 1000 != 64][:width])
        blocks = fec.encode_block(1, numbers, [media(n) for n in numbers], fec.MAX_REPAIRS)
        for repair in (decode_repair(block[3:]) for block in blocks[:width]):
            symbol = repair.symbol if honest else bytes(b ^ 0x55 for b in repair.symbol)
            told = fec.encode_repair(Repair(1, numbers, fec.MAX_REPAIRS, repair.index, symbol))
            link.handle_datagram(by_peer(own, told), 0.001)
            own += 1
        at = numbers[-1] + 1
        trigger = numbers[-1] if chained else 1
    return own


@pytest.mark.parametrize("honest", [True, False])
@pytest.mark.parametrize("chained", [True, False])
def test_one_packet_does_not_set_off_all_blocks(honest: bool, chained: bool, solved: list[int]) -> None:
    link = make_link(1)
    number = set_trap(link, honest=honest, chained=chained)
    solved.clear()
    routed = link.handle_datagram(by_peer(number, arq.encode_retransmission(1, 1, media(1))), 0.002)
    assert solved, "the trap was one"
    assert sum(solved) <= SOLVED_MOST
    assert len(routed) == (1 + sum(solved) if honest else 1)


# --- whatever it sends --------------------------------------------------------------------------------

u8, u16, u32 = st.integers(0, 255), st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)
_ACKS = st.builds(
    lambda base, runs, delay, at: acks.encode_ack(Ack(1, base, (runs[0] - 1, *runs[1:]), delay, at)),
    st.one_of(st.integers(0, 300), u32), st.lists(st.integers(1, 60), min_size=1, max_size=8), u16, u32,
)  # fmt: skip
_REPAIRS = st.builds(
    lambda first, gaps, m, index, symbol: fec.encode_repair(
        Repair(1, (first, *(first + sum(gaps[: i + 1]) for i in range(len(gaps)))), m, index % m, symbol)
    ),
    st.integers(0, 300), st.lists(st.integers(1, 9), max_size=6), st.integers(1, 4), u8,
    st.binary(min_size=3, max_size=60),
)  # fmt: skip
_RETRANSMISSIONS = st.builds(
    lambda number, source: arq.encode_retransmission(1, number, source),
    st.one_of(st.integers(0, 300), u32),
    st.one_of(st.binary(min_size=1, max_size=40), st.integers(0, 99).map(media)),
)
_PROBES = st.builds(lambda n, at, deaf: frames.encode_probe(Probe(n, at, deaf)), u32, u32, st.booleans())
_ECHOES = st.builds(lambda *fields: frames.encode_echo(Echo(*fields)), u32, u32, u32, u32)
_FRAGMENTS = st.builds(
    lambda *fields: frames.encode_fragment(Fragment(*fields)),
    st.booleans(), st.integers(0, 3),
    st.one_of(st.binary(min_size=1, max_size=40), st.integers(0, 99).map(media)),
)  # fmt: skip
_LOCAL = st.one_of(_ACKS, _REPAIRS, _RETRANSMISSIONS, _FRAGMENTS, _PROBES, _ECHOES)
_ANY = st.one_of(st.lists(_LOCAL, min_size=1, max_size=4).map(b"".join), st.binary(min_size=1, max_size=60))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 80), _ANY), max_size=40))
def test_whatever_a_peer_sends_the_link_goes_on(sent: list[tuple[int, bytes]]) -> None:
    victim, number = Victim(), 1
    for gap, plaintext in sent:
        number += gap
        assert victim.suffer(by_peer(number, plaintext)) <= 80
    assert victim.refused <= {"malformed", "replayed", "misconduct"}
    # And then it is honest, with a number that it has not claimed to send again before.
    honest = max(number, 300) + 1
    assert victim.link.handle_datagram(by_peer(honest, media(7)), victim.now) == frames.split_frames(media(7))
    assert len(victim.link.poll_datagrams(victim.now + 1.0)) <= MAX_ECHOES


@given(
    st.sampled_from([
        (_ACKS, decode_ack), (_REPAIRS, decode_repair), (_RETRANSMISSIONS, decode_retransmission),
        (_FRAGMENTS, decode_fragment), (_PROBES, decode_probe), (_ECHOES, decode_echo),
    ]),
    st.data(),
)  # fmt: skip
def test_a_damaged_frame_is_another_frame_or_a_protocol_error(
    kind: tuple[st.SearchStrategy[bytes], Callable[[bytes], object]], data: st.DataObject
) -> None:
    frame, decode = data.draw(kind[0]), kind[1]
    body = bytearray(frame[3:])
    for _ in range(data.draw(st.integers(0, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(u8)
    del body[data.draw(st.integers(0, len(body))) :]
    try:
        decode(bytes(body))
    except ProtocolError as error:
        assert error.reason in {"truncated", "invalid", "malformed"}  # noqa: PT017


@pytest.mark.parametrize(
    "name", ["acks_of_what_was_never_sent", "repairs_that_contradict", "probes_without_end"]
)
def test_the_link_is_begun_anew_and_its_peer_is_not_heard_for_a_while(name: str) -> None:
    victim, attack = Victim(), ATTACKS[name](random.Random(name))
    number = 0
    while "misconduct" not in victim.refused:
        number, plaintext = next(attack)
        victim.suffer(by_peer(number, plaintext))
        assert victim.steps < 8000
    before = victim.link.debug_state()
    for extra in range(100):
        victim.suffer(by_peer(number + 1 + extra, media(extra)))
    assert victim.link.sample(victim.now).received_packets == before["received_packets"]
    assert not victim.link.sample(victim.now).up
    # Its time is over, and it is honest.
    victim.now += HOLD_FIRST
    honest = by_peer(number + 200, media(1))
    assert victim.link.handle_datagram(honest, victim.now) == frames.split_frames(media(1))
