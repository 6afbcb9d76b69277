"""Small frames of one wake share a datagram; they are repaired and sent another way as those alone are."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.protocol import frames
from relaymesh.protocol.bundles import MAX_BUNDLED_BYTES, Bundles, join
from relaymesh.protocol.datagram import MAX_DATAGRAM_BYTES, seal_jobs
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.fragments import MAX_WHOLE_BYTES
from relaymesh.protocol.link import Link
from tests.lossy_link import Conditions, Pair
from tests.protocol.test_contexts import audio, came, video
from tests.protocol.test_link import make_link, two_links

sizes = st.lists(st.tuples(st.integers(3, 1000), st.integers(0, 3)), max_size=60)


@given(sizes)
def test_each_frame_goes_once_in_the_order_of_its_class_and_none_waits_longer_than_the_wake(
    ready: list[tuple[int, int]],
) -> None:
    bundles = Bundles()
    sent: list[tuple[list[bytes], int]] = []
    given_in: dict[int, list[bytes]] = {priority: [] for priority in range(4)}
    for i, (size, priority) in enumerate(ready):
        frame = i.to_bytes(3, "big") + bytes(size - 3)
        given_in[priority].append(frame)
        sent += [(together, priority) for together in bundles.add(frame, priority) or []]
    sent += bundles.take()
    assert not bundles.ready
    assert bundles.take() == []
    for priority in range(4):
        assert [f for together, p in sent for f in together if p == priority] == given_in[priority]
    for together, _ in sent:
        assert len(together) == 1 or sum(map(len, together)) <= MAX_WHOLE_BYTES
        assert len(together) == 1 or max(map(len, together)) <= MAX_BUNDLED_BYTES


PARTS = (b"\x12\x00\x02ab", b"\x84\x02\x01\x03\x7fopus", b"\xa0" + bytes(12))


@given(st.lists(st.sampled_from(PARTS), min_size=1))
def test_frames_joined_are_the_frames(parts: list[bytes]) -> None:
    split = frames.split_frames(join(parts))
    longer = [p if p[0] < 0x80 or i == len(parts) - 1 else frames.with_length(p) for i, p in enumerate(parts)]
    assert split == longer


def ready_at_once(link: Link, packets: list[bytes], now: float) -> list[bytes]:
    """The datagrams of a wake in which *packets* are ready."""
    jobs = [job for packet in packets for job in link.send_jobs(packet, now)]
    return seal_jobs(jobs + link.poll_jobs(now))


def test_audio_of_several_people_shares_a_datagram_and_video_does_not_wait_for_it() -> None:
    a, b = two_links()
    a.poll_jobs(0.0)
    assert a.send_jobs(audio(0, 1), 0.0) == []
    [large] = a.send_jobs(video(0), 0.0)
    assert a.send_jobs(audio(0, 2), 0.0) == []
    [shared] = a.poll_jobs(0.0)
    assert len(shared[2]) == len(audio(0)) * 2
    assert a.poll_jobs(0.0) == []
    assert a.sample(0.0).sent_packets == 2
    assert large[2] == video(0)
    for datagram in ready_at_once(a, [audio(1, 1), audio(1, 2)], 0.1)[:1]:
        assert b.handle_datagram(datagram, 0.1) == [audio(1, 1), audio(1, 2)]


def test_a_wake_of_many_frames_fills_datagrams_and_no_more() -> None:
    a, b = two_links()
    sent = [audio(i, 1) for i in range(100)]
    datagrams = ready_at_once(a, sent, 0.0)
    assert len(datagrams) < 15
    assert max(map(len, datagrams)) <= MAX_DATAGRAM_BYTES
    assert [frame for datagram in datagrams for frame in b.handle_datagram(datagram, 0.0)] == sent


def test_without_a_key_nothing_waits() -> None:
    link = make_link(1, 2)
    with pytest.raises(ProtocolError, match="unknown_key"):
        link.send_jobs(audio(1), 0.0)
    assert link.poll_jobs(0.0) == []


class Waking:
    """Sends all streams' packets of a moment in one wake."""

    def __init__(self, pair: Pair, sender: Link) -> None:
        self.pair, self.sender = pair, sender

    def wake(self, packets: list[bytes]) -> None:
        for datagram in ready_at_once(self.sender, packets, self.pair.now):
            self.pair.send(self.sender, datagram)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_what_shares_a_datagram_is_repaired_together(loss: float, seed: int) -> None:
    a, b = two_links(seed, dead_after=2.0)
    way = Conditions(delay=0.02, loss=loss, jitter=0.002)
    pair = Pair(a, b, forth=way, back=way, seed=seed, errors=(ProtocolError,))
    pair.run(1.0)
    waking, rng = Waking(pair, a), random.Random(seed)
    sent = []
    for i in range(600):
        packets = [audio(i, stream) for stream in range(6)]
        rng.shuffle(packets)
        sent += packets
        pair.at(pair.now + 0.02 * i, lambda packets=packets: waking.wake(packets))  # type: ignore[misc]
    before = pair.sent[a]
    pair.run(14.0)
    got = came(pair, b)
    assert set(got) <= set(sent)
    assert len(got) == len(set(got)) >= len(sent) * (0.995 if loss else 1.0)
    assert pair.sent[a] - before < 600 * 2.5, "one for six packets, probes, echoes and repair"


def test_what_a_dead_link_swallowed_or_had_ready_is_whole_for_the_others() -> None:
    a, b = two_links()
    pair = Pair(a, b, errors=(ProtocolError,))
    pair.run(1.0)
    waking = Waking(pair, a)
    for i in range(100):
        pair.at(pair.now + 0.02 * i, lambda i=i: waking.wake([audio(i, s) for s in range(3)]))  # type: ignore[misc]
    pair.run(2.5)
    pair.forth.loss = 1.0
    swallowed = [audio(100, s) for s in range(3)]
    waking.wake(swallowed)
    ready = [audio(101, s) for s in range(2)]
    for packet in ready:
        assert a.send_jobs(packet, pair.now) == []
    assert a.take_unacknowledged() == swallowed + ready
    assert a.poll_jobs(pair.now) == []
