"""What is too long for a datagram: cut in two, carried, repaired, joined; and against a peer that lies."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.protocol import acks, arq, fec, frames
from relaymesh.protocol import datagram as sealed
from relaymesh.protocol.acks import DELAY_UNKNOWN, Ack
from relaymesh.protocol.arrivals import HOLE_KEPT
from relaymesh.protocol.contexts import SentContexts
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.fragments import MAX_WAITING, MAX_WHOLE_BYTES, Reassembly, fragmented
from relaymesh.protocol.frames import Fragment, MediaFrame, decode_fragment, encode_fragment, halves
from relaymesh.protocol.ids import TrackId
from relaymesh.protocol.link import Link
from relaymesh.protocol.outflow import Outflow
from relaymesh.protocol.recovery import Sender
from relaymesh.protocol.repair import Adaptive
from tests.lossy_link import Pair
from tests.protocol.test_recovery import Liar, make_link, make_pair, recovered_by, repair_of
from tests.protocol.test_shedding import GivenRate
from tests.sealing import seal

LONGEST_PAYLOAD = 1460  # bytes; what an Ethernet frame leaves after IPv4, UDP and RTP headers
HEAD = len(frames.encode_media(MediaFrame(TrackId(1, 2, 3), 0, 0, 0, b"", destinations=4)))


def media(
    sequence: int, size: int = LONGEST_PAYLOAD, *, priority: int = 2, hops: tuple[int, ...] = ()
) -> bytes:
    payload = random.Random(sequence).randbytes(size)
    frame = MediaFrame(
        TrackId(1, 2, 3), 0, sequence, 0, payload, priority=priority, hop_limit=16, generation=1,
        destinations=4,
    )  # fmt: skip
    return frames.detour(frames.encode_media(frame), hops)


def fragments_of(frame: bytes, priority: int = 0) -> list[Fragment]:
    return [decode_fragment(half[3:]) for half in halves(frame, priority)]


def received(pair: Pair, link: Link) -> list[bytes]:
    """The frames that *link* handed up, whole."""
    return [frame for routed in pair.received[link] for frame in routed]


def state_of(link: Link) -> dict[str, int]:
    state = link.debug_state()["fragments"]
    assert isinstance(state, dict)
    return state


def feed(pair: Pair, sender: Link, sent: list[bytes], every: float = 0.002) -> None:
    def send(frame: bytes) -> None:
        for datagram in sender.send(frame, pair.now):
            pair.send(sender, datagram)

    for i, frame in enumerate(sent):
        pair.at(pair.now + i * every, lambda frame=frame: send(frame))  # type: ignore[misc]


# --- the codec -----------------------------------------------------------------------------------


@given(st.binary(min_size=2, max_size=frames.MAX_FRAME_BYTES), st.integers(0, 3))
def test_two_halves_are_the_frame_and_as_long_as_each_other(frame: bytes, priority: int) -> None:
    first, second = fragments_of(frame, priority)
    assert first.data + second.data == frame
    assert (first.second, second.second) == (False, True)
    assert first.priority == second.priority == priority
    assert len(first.data) - len(second.data) in (0, 1)


def test_each_half_of_the_longest_frame_can_be_repaired_both_ways() -> None:
    longest = max(map(len, halves(bytes(frames.MAX_FRAME_BYTES), 3)))
    assert longest <= min(fec.MAX_SOURCE_BYTES, arq.MAX_SOURCE_BYTES)
    with pytest.raises(ProtocolError, match="oversized"):
        halves(bytes(frames.MAX_FRAME_BYTES + 1), 3)


def test_the_longest_packet_of_a_client_fits_a_frame_for_any_edge_on_any_detour() -> None:
    payload = bytes(1500 - 12 - 10)  # less RTP header and the shortest tag of SRTP
    extensions = ((3, bytes(250)), (4, b"\0"))
    frame = MediaFrame(TrackId(1, 2, 3), 0, 1, 1, payload, extensions=extensions, destinations=1 << 2039)
    longest = frames.detour(frames.encode_media(frame), range(13))
    assert len(longest) == 2055 <= frames.MAX_FRAME_BYTES
    first, second = make_link(1).send(longest, 0.0)
    assert len(first) - len(second) in (0, 1)


def test_a_fragment_cut_anywhere_is_refused_and_a_sealed_one_changes_nothing() -> None:
    whole = encode_fragment(Fragment(True, 1, b"some bytes"))
    for end in range(2):
        with pytest.raises(ProtocolError, match="truncated"):
            decode_fragment(whole[3 : 3 + end])
    link = make_link(1)
    before = link.debug_state()
    for end in range(len(whole)):
        with pytest.raises(ProtocolError, match="malformed"):
            link.handle_datagram(Liar().datagram(whole[:end]), 0.0)
        assert link.debug_state() == before


@pytest.mark.parametrize(
    "wrong", [Fragment(False, 4, b"x"), Fragment(False, -1, b"x"), Fragment(True, 0, b"")]
)
def test_our_own_mistakes_are_value_errors(wrong: Fragment) -> None:
    with pytest.raises(ValueError, match="fragment"):
        encode_fragment(wrong)


@pytest.mark.parametrize("priority", range(4))
def test_both_halves_have_the_class_of_their_frame(priority: int) -> None:
    for half in fragmented(media(1, priority=priority)):
        assert frames.priority_of(half) == priority
        assert frames.is_enhancement(half) == (priority == 3)
    for half in fragmented(media(1, priority=priority, hops=(7,))):
        assert frames.priority_of(half) == 0, "as the detour that it is half of"


def test_what_is_no_fragment_and_no_media_has_no_class() -> None:
    for frame in (b"\x20\x00\x00", b"\x12\x00\x01\xff", b"\x05\x00\x02\xff\xff"):
        assert frames.priority_of(frame) == 0
        assert not frames.is_enhancement(frame)


# --- joining -------------------------------------------------------------------------------------


@given(st.permutations(range(20)), st.sets(st.integers(0, 19), max_size=8))
def test_frames_whose_halves_both_come_are_joined_once_whatever_the_order(
    order: list[int], lost: set[int]
) -> None:
    sent = [media(i, 1300 + i) for i in range(10)]
    fragments = [half for frame in sent for half in fragments_of(frame)]
    reassembly = Reassembly()
    joined = []
    for place in order:
        if place not in lost:
            joined += reassembly.add(100 + place, fragments[place], 0.0)
    whole = {i for i in range(10) if not {2 * i, 2 * i + 1} & lost}
    assert sorted(joined) == sorted(sent[i] for i in whole)
    halves_left = sum(len({2 * i, 2 * i + 1} & lost) == 1 for i in range(10))
    assert reassembly.debug_state() == {
        "joined": len(whole), "waiting": halves_left, "dropped": 0, "invalid": 0
    }  # fmt: skip
    reassembly.forget_old(HOLE_KEPT + 0.001)
    assert reassembly.debug_state() == {
        "joined": len(whole), "waiting": 0, "dropped": halves_left, "invalid": 0
    }  # fmt: skip


def test_a_half_waits_as_long_as_the_other_may_be_repaired() -> None:
    first, second = fragments_of(media(1))
    patient, late = Reassembly(), Reassembly()
    for reassembly in (patient, late):
        assert reassembly.add(7, first, 1.0) == []
    assert patient.add(8, second, 1.0 + HOLE_KEPT) == [media(1)]
    assert late.add(8, second, 1.001 + HOLE_KEPT) == []
    assert late.debug_state() == {"joined": 0, "waiting": 1, "dropped": 1, "invalid": 0}


def test_halves_of_nothing_are_held_in_bounded_number() -> None:
    first, second = fragments_of(media(1))
    reassembly = Reassembly()
    for number in range(2 * MAX_WAITING):
        assert reassembly.add(2 * number, first, 0.0) == []
    assert reassembly.debug_state() == {
        "joined": 0, "waiting": MAX_WAITING, "dropped": MAX_WAITING, "invalid": 0
    }  # fmt: skip
    assert reassembly.add(2 * (2 * MAX_WAITING - 1) + 1, second, 0.0) == [media(1)]
    assert reassembly.add(1, second, 0.0) == [], "the oldest made room"


def test_neighbouring_halves_that_are_not_each_others_stay_apart() -> None:
    one, other = fragments_of(media(1)), fragments_of(media(2))
    reassembly = Reassembly()
    assert reassembly.add(10, one[0], 0.0) == []
    assert reassembly.add(12, other[1], 0.0) == []  # its own first half would be 11
    assert reassembly.add(11, other[0], 0.0) == [media(2)]


@pytest.mark.parametrize(
    "pair",
    [
        (Fragment(False, 0, media(1)[:700]), Fragment(False, 0, media(1)[700:])),  # twice the first half
        (Fragment(False, 0, media(1)[:700]), Fragment(True, 0, media(1)[701:])),  # a byte is missing
        (Fragment(False, 0, media(1)[:700]), Fragment(True, 0, media(1)[699:])),  # … is there twice
        (
            Fragment(False, 0, media(1)[:700]),
            Fragment(True, 0, media(1)[700:] + media(2, 10)),
        ),  # more than a frame
        (Fragment(False, 0, b"\x10"), Fragment(True, 0, b"\x00")),  # no frame header
        (Fragment(False, 0, b"\x04\x00\x01"), Fragment(True, 0, b"x")),  # link-local
        (Fragment(False, 0, b"\x20\x00\x02"), Fragment(True, 0, b"\x00x")),  # a fragment inside
        (
            Fragment(False, 0, b"\x10\x0a\x26" + bytes(1300)),
            Fragment(True, 0, bytes(1298)),
        ),  # longer than frames are
    ],
)
def test_two_fragments_that_are_no_frame_are_counted_and_nothing_else(
    pair: tuple[Fragment, Fragment],
) -> None:
    reassembly = Reassembly()
    assert reassembly.add(5, pair[0], 0.0) == []
    assert reassembly.add(5 + pair[1].second, pair[1], 0.0) == []
    assert reassembly.debug_state() == {"joined": 0, "waiting": 0, "dropped": 0, "invalid": 1}


# --- a link --------------------------------------------------------------------------------------


def test_what_fits_travels_whole_and_what_is_longer_in_two_datagrams_one_behind_the_other() -> None:
    a, b = make_link(1), make_link(2)
    for size in range(1200, 1461):
        frame = media(size, size)
        datagrams = a.send(frame, 0.0)
        assert len(datagrams) == (1 if len(frame) <= MAX_WHOLE_BYTES else 2)
        assert max(map(len, datagrams)) <= sealed.MAX_DATAGRAM_BYTES
        numbers = [sealed.read_header(datagram)[2] for datagram in datagrams]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        routed = [b.handle_datagram(datagram, 0.0) for datagram in datagrams]
        assert routed == [[]] * (len(datagrams) - 1) + [[frame]]
    assert state_of(b) == {
        "joined": 1460 - (MAX_WHOLE_BYTES - HEAD),
        "waiting": 0,
        "dropped": 0,
        "invalid": 0,
    }


def test_the_latter_half_may_come_first_and_each_counts_as_a_packet_of_media() -> None:
    a, b = make_link(1), make_link(2)
    first, second = a.send(media(1), 0.0)
    assert b.handle_datagram(second, 0.0) == []
    assert b.handle_datagram(first, 0.001) == [media(1)]
    for again in (first, second):
        with pytest.raises(ProtocolError, match="replayed"):
            b.handle_datagram(again, 0.002)
    assert b.sample(0.0).received_packets == 2
    (ack,) = b.poll_datagrams(0.1)
    assert a.handle_datagram(ack, 0.1) == []
    assert repair_of(a)["stored"] == 0


def test_what_is_longer_than_a_frame_may_be_is_refused_before_anything_is_sent() -> None:
    link = make_link(1)
    with pytest.raises(ProtocolError, match="oversized"):
        link.send(b"\x1f\x0a\x26" + bytes(2598), 0.0)
    assert link.sample(0.0).sent_packets == 0


def test_a_fragment_is_alone_in_its_datagram() -> None:
    link, liar = make_link(1), Liar()
    half = halves(media(1, 100), 0)[0]
    for plaintext in (half + half, half + media(2, 10), media(2, 10) + half):
        before = link.debug_state()
        with pytest.raises(ProtocolError, match="malformed"):
            link.handle_datagram(liar.datagram(plaintext), 0.0)
        assert link.debug_state() == before
    # Nor is one taken out of what is sent again with others.
    link.handle_datagram(liar.datagram(media(1, 10)), 0.0)
    liar.number += 1
    again = arq.encode_retransmission(1, 2, half + half)
    assert link.handle_datagram(liar.datagram(again), 0.1) == []
    assert state_of(link)["waiting"] == 0


def test_halves_that_are_sent_again_or_computed_are_joined_with_what_came() -> None:
    link, liar = make_link(1), Liar()
    link.handle_datagram(liar.datagram(media(0, 10)), 0.0)  # 1
    first, second = halves(media(1), 0)
    liar.number += 1  # 2 is lost
    assert link.handle_datagram(liar.datagram(second), 0.0) == []
    again = arq.encode_retransmission(1, 2, first)
    assert link.handle_datagram(liar.datagram(again), 0.1) == [media(1)]
    # Both halves by a block, in which nothing else is.
    liar.number += 2  # 5 and 6 are lost
    blocks = fec.encode_block(1, (5, 6), list(halves(media(2), 0)), 2)
    assert link.handle_datagram(liar.datagram(blocks[0]), 0.2) == []
    assert link.handle_datagram(liar.datagram(blocks[1]), 0.2) == [media(2)]


@pytest.mark.parametrize("policy", ["none", "arq", "fec", "adaptive"])
def test_long_packets_over_a_clean_link_cost_nothing_but_a_second_header(policy: str) -> None:
    a, b, pair = make_pair(policy)
    sent = [media(i) for i in range(500)]
    feed(pair, a, sent)
    pair.run(3.0)
    assert received(pair, b) == sent
    assert repair_of(a)["sent_bytes"] == 0
    assert a.sample(pair.now).sent_packets < 2 * 500 + 150  # the rest are probes and their echoes


@pytest.mark.parametrize(
    # As few datagrams stay lost as of short packets; but each frame is two.
    ("policy", "least"),
    [("none", 1700), ("arq", 1990), ("fec", 1900), ("adaptive", 1996)],
)
def test_at_five_percent_loss_long_packets_are_repaired_as_short_ones_are(policy: str, least: int) -> None:
    a, b, pair = make_pair(policy, loss=0.05, duplicate=0.02, reorder=0.02)
    sent = [media(i, priority=i % 4) for i in range(2000)]
    feed(pair, a, sent)
    pair.run(7.0)
    came = received(pair, b)
    assert len(came) == len(set(came)) >= least
    assert set(came) <= set(sent)
    if policy in ("arq", "adaptive"):
        assert recovered_by(b)["by_retransmission"] > 100
        assert repair_of(a)["unprotected"] == 0
    if policy in ("fec", "adaptive"):
        assert recovered_by(b)["by_code"] > 0
    state = state_of(b)
    assert state["joined"] == len(came)
    assert state["waiting"] == state["invalid"] == 0
    assert state["dropped"] <= 2 * (len(sent) - len(came))


def test_long_and_short_packets_share_a_bad_link() -> None:
    """So much jitter is taken for a full path now and then, by every third seed; some are given up then."""
    missing = []
    for seed in range(1, 9):
        a, b, pair = make_pair("adaptive", loss=0.05, jitter=0.03, seed=seed)
        sent = [media(i, 1200 + i % 261) for i in range(2000)]
        feed(pair, a, sent)
        pair.run(7.0)
        came = received(pair, b)
        assert len(came) == len(set(came))
        assert set(came) <= set(sent)
        missing.append(len(sent) - len(came))
    assert sorted(missing)[-2] <= 2, missing
    assert sum(missing) <= 16, missing  # 1 in 1000


def test_a_new_key_tears_no_frame_apart() -> None:
    a, b, pair = make_pair("adaptive", loss=0.02)
    sent = [media(i) for i in range(1000)]
    feed(pair, a, sent, 0.007)
    for epoch, when in ((2, 1.0), (3, 4.5)):
        for link, own in ((a, 1), (b, 2)):
            keys = bytes([10 * epoch + own] * 16), bytes([10 * epoch + 3 - own] * 16)
            pair.at(when, lambda link=link, epoch=epoch, keys=keys: link.install_key(epoch, *keys, pair.now))  # type: ignore[misc]
    pair.run(8.0)
    came = received(pair, b)
    assert len(came) == len(set(came)) >= 998
    assert state_of(b)["invalid"] == 0


# --- what did not arrive -------------------------------------------------------------------------


def acknowledge(link: Link, liar: Liar, base: int, *runs: int) -> None:
    link.handle_datagram(liar.datagram(acks.encode_ack(Ack(1, base, runs, 0, 0))), 0.1)


def test_what_a_dead_link_swallowed_is_taken_whole_and_once() -> None:
    link, liar = make_link(1, "none"), Liar()
    sent = [media(0, 10), media(1), media(2), media(3)]
    for i, frame in enumerate(sent):
        link.send(frame, i * 0.001)  # 1, 2 and 3, 4 and 5, 6 and 7
    acknowledge(link, liar, 1, 4)  # of the third the first half only
    assert link.take_unacknowledged() == [media(2), media(3)]
    assert link.take_unacknowledged() == []


def test_a_half_that_was_lost_takes_its_frame_along() -> None:
    link, liar = make_link(1, "arq"), Liar()
    link.send(media(1), 0.0)
    link.send(media(2), 0.001)
    acknowledge(link, liar, 1, 1, 1, 1)  # the second is lost and waits to be sent again; 4 is not told of
    assert repair_of(link)["lost"] == 1
    assert link.take_unacknowledged() == [media(1), media(2)]


# --- a short link --------------------------------------------------------------------------------


def crossing(seconds: float, kbytes_per_second: float) -> tuple[list[bytes], list[bytes], Link]:
    """Offer long packets of all classes to a link that carries so much: (sent, received, the receiver)."""
    a, b, pair = make_pair("adaptive")
    sent = [media(i, priority=i % 4) for i in range(round(seconds / 0.004))]
    free_at = 0.0
    deliver = pair.send

    def bottleneck(sender: object, datagram: bytes) -> None:
        nonlocal free_at
        if sender is not a:
            deliver(sender, datagram)  # type: ignore[arg-type]
            return
        free_at = max(free_at, pair.now) + len(datagram) / (kbytes_per_second * 1e3)
        if free_at < pair.now + 0.3:  # else its queue is full
            pair.at(free_at, lambda: deliver(a, datagram))

    pair.send = bottleneck  # type: ignore[method-assign,assignment]
    feed(pair, a, sent, 0.004)
    pair.run(seconds + 2.0)
    return sent, received(pair, b), b


def test_a_short_link_leaves_out_whole_frames_and_no_halves() -> None:
    sent, came, receiver = crossing(6.0, 260.0)  # of 375 + headers
    assert len(came) == len(set(came)) < 0.9 * len(sent)
    late = set(sent[len(sent) // 2 :]) & set(came)
    classes = [sum(frames.priority_of(frame) == priority for frame in late) for priority in range(4)]
    offered = len(sent) // 2 / 4
    assert classes[0] >= 0.98 * offered
    assert classes[3] < 0.5 * offered, "the dispensable class is what goes"
    # Halves are lost in the full queue of the path at the beginning, and never left out here.
    assert state_of(receiver)["invalid"] == 0


@pytest.mark.parametrize(("priority", "needed"), [(3, 0.0), (2, 1500.0 / 0.01)])
def test_halves_of_what_can_be_left_out_are_not_counted_as_needed(priority: int, needed: float) -> None:
    asked: list[object] = []

    class Asked(GivenRate):
        def handle_ack(self, **told: object) -> bool:
            asked.append(told["needed"])
            return super().handle_ack(**told)

    outflow = Outflow(Sender(Adaptive()), SentContexts().wholes)
    outflow.rate = Asked()
    for i in range(100):
        for half in fragmented(media(i, priority=priority)):
            outflow.note_sent(i, half, frames.priority_of(half), 750, i * 0.01)
        outflow.handle_ack(Ack(0, 1, (1,), DELAY_UNKNOWN, 0), i * 0.01)
    assert asked[-1] == pytest.approx(needed, rel=0.1)


def test_what_waits_is_counted_and_dropped_as_whole_frames() -> None:
    outflow = Outflow(Sender(Adaptive()), SentContexts().wholes)
    outflow.rate = rate = GivenRate()
    rate.given = 10_000.0
    outflow.handle_ack(Ack(0, 1, (1,), DELAY_UNKNOWN, 0), 0.0)
    for i in range(1000):
        frame = outflow.admit(media(i), frames.priority_of(media(i)), 0.0)
        if frame is not None:
            outflow.note_sent(i, frame, frames.priority_of(frame), LONGEST_PAYLOAD, 0.0)
    waiting = outflow.take_waiting()
    assert waiting
    assert all(frame[0] == frames.MEDIA and len(frame) == HEAD + LONGEST_PAYLOAD for frame in waiting)


# --- a peer that holds the keys ------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_random_fragments_of_a_liar_are_bounded_and_hand_up_no_torn_frame(seed: int) -> None:
    rng = random.Random(seed)
    link, liar = make_link(1), Liar()
    true = [media(i) for i in range(4)]
    for i in range(300):
        liar.number += rng.choice((0, 0, 0, 1, 5))
        frame = rng.choice(true)
        first, second = halves(frame, 0)
        junk = encode_fragment(
            Fragment(rng.random() < 0.5, rng.randrange(4), rng.randbytes(rng.randrange(1, 1400)))
        )
        plaintext = rng.choice((first, second, junk))
        if rng.random() < 0.3:
            plaintext = arq.encode_retransmission(1, max(0, liar.number - rng.randrange(8)), plaintext)
        if rng.random() < 0.05:
            plaintext = plaintext[: rng.randrange(1, len(plaintext))]
        try:
            routed = link.handle_datagram(liar.datagram(plaintext), i * 0.001)
        except ProtocolError as error:
            assert error.reason in {"malformed", "misconduct"}  # noqa: PT017
            continue
        # Halves of two frames as long as each other may meet: that is a frame of the liar's own making.
        for frame in routed:
            assert frames.ROUTED_FIRST <= frame[0] <= frames.ROUTED_LAST
            assert len(frame) <= frames.MAX_FRAME_BYTES
    assert state_of(link)["waiting"] <= MAX_WAITING


def test_after_misconduct_no_half_is_left() -> None:
    link = make_link(1)
    sealer = bytes([2] * 16)
    number, now = 0, 0.0
    while link.debug_state()["conduct"]["offences"] == 0:  # type: ignore[index]
        for half in (
            Fragment(False, 0, b"\x10\x00"),
            Fragment(True, 0, b"\x00no frame"),
            Fragment(False, 0, b"alone"),
        ):
            number += 1
            now += 0.01
            link.handle_datagram(seal(sealer, 1, 2, number, encode_fragment(half)), now)
        assert number < 3000
        link.handle_timeout(now)
    assert link.debug_state()["conduct"]["last_offence"] == "fragments_invalid"  # type: ignore[index]
    assert state_of(link) == {"joined": 0, "waiting": 0, "dropped": 0, "invalid": 0}
