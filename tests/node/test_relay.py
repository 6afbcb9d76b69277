"""The relay port takes datagrams in batches; what it does must not depend on how they were cut."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaymesh.node.core import NodeCore
from relaymesh.node.forwarder import Forwarder
from relaymesh.node.relay import RelayPort
from relaymesh.protocol.arq import encode_retransmission
from relaymesh.protocol.frames import Probe, encode_probe
from relaymesh.protocol.link import Link
from relaymesh.protocol.link_events import LinkUp
from relaymesh.protocol.messages import Address, LinkConfig, Links, Welcome
from tests.node.mesh import make_core

OWN, NEIGHBOURS = 2, (1, 3)
KINDS = ("frame", "two", "probe", "again", "fragment", "changed", "cut", "stranger", "old epoch", "no frame")


def key(by: int, to: int) -> bytes:
    return bytes((by, to)) * 8


def make_port() -> RelayPort:
    port = RelayPort(random.Random(1))
    for peer in NEIGHBOURS:
        config = LinkConfig(
            peer, f"n{peer}", Address(f"10.0.0.{peer}", 7500), 0, key(OWN, peer), key(peer, OWN)
        )
        port.set_link(config, own_index=OWN, probe_interval=0.05, dead_after=0.2, now=0.0)
    return port


def neighbour(index: int) -> Link:
    link = Link(
        own_index=index, peer_index=OWN, probe_interval=0.05, dead_after=0.2, rng=random.Random(index)
    )
    link.install_key(0, key(index, OWN), key(OWN, index), 0.0)
    return link


def routed(text: bytes) -> bytes:
    """A frame of a type that nobody knows, for node 3."""
    body = b"\x09\x01\x00\x00\x00\x01\x08" + text
    return b"\x1f" + len(body).to_bytes(2, "big") + body


def datagrams(kinds: Iterable[tuple[str, int]]) -> Iterator[bytes]:
    """A datagram of each kind, by the neighbour named; numbers that are left out are holes."""
    links = {index: neighbour(index) for index in NEIGHBOURS}
    for number, (kind, index) in enumerate(kinds):
        link, frame = links[index], routed(b"%d" % number)
        if kind == "two":
            yield link.seal(frame + encode_probe(Probe(number, number)) + frame, 0.0)
        elif kind == "probe":
            yield link.seal(encode_probe(Probe(number, number)), 0.0)
        elif kind == "again":  # what the datagram before it was to bring, which is late or never comes
            link.seal(frame, 0.0)
            lost = int(link.debug_state()["keys"][0]["sent"])  # type: ignore[index]
            yield link.seal(encode_retransmission(0, lost, frame), 0.0)
        elif kind == "fragment":
            yield from link.send(routed(bytes(1500)), 0.0)
        elif kind == "no frame":
            yield link.seal(b"\x1f\xff\xff", 0.0)
        else:
            data = link.seal(frame, 0.0)
            yield {
                "frame": data,
                "changed": data[:-1] + bytes((data[-1] ^ 1,)),
                "cut": data[:20],
                "stranger": data[:2] + b"\x00\x09" + data[4:],
                "old epoch": data[:1] + b"\x07" + data[2:],
            }[kind]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(NEIGHBOURS)), min_size=1, max_size=40),
    st.randoms(use_true_random=False),
)
def test_batches_do_what_single_datagrams_do(kinds, rng):
    sent = list(datagrams(kinds))
    sent += rng.choices(sent, k=len(sent) // 4)  # twice, in one batch or not
    middle = len(sent) // 2
    sent[middle:] = rng.sample(sent[middle:], len(sent) - middle)  # overtaken
    alone, together = make_port(), make_port()
    taken = [pair for data in sent for pair in alone.handle_batch([data], 0.01)]
    found, at = [], 0
    while at < len(sent):
        size = rng.randint(1, 20)
        found += together.handle_batch(sent[at : at + size], 0.01)
        at += size
    assert found == taken
    assert together.poll_datagrams() == alone.poll_datagrams()
    assert together.poll_events() == alone.poll_events()
    assert together.next_timeout() == alone.next_timeout()
    assert together.debug_state() == alone.debug_state()


def test_a_batch_that_holds_a_datagram_twice_takes_it_once():
    port = make_port()
    frame = routed(b"once")
    data = neighbour(1).seal(frame, 0.0)
    assert port.handle_batch([data, data], 0.0) == [(1, frame)]
    assert port.refused == {"replayed": 1}


def test_only_links_that_were_touched_are_asked_what_they_want(monkeypatch):
    asked: list[int] = []
    for name in ("next_timeout", "poll_jobs", "poll_events"):
        monkeypatch.setattr(Link, name, _noting(getattr(Link, name), asked))
    core = make_core()
    core.handle_message(Welcome(OWN, 50.0, 200.0, 1000.0), 0.0)
    configs = tuple(
        LinkConfig(peer, f"n{peer}", Address(f"10.0.0.{peer}", 7500), 0, key(OWN, peer), key(peer, OWN))
        for peer in range(3, 100)
    )
    core.handle_message(Links(set=configs), 0.0)
    core.poll_relay_datagrams()
    core.next_timeout()
    asked.clear()
    core.handle_relay_batch([neighbour(3).seal(routed(b"1"), 0.0)], 0.0)
    core.poll_relay_datagrams()
    core.next_timeout()
    assert set(asked) == {3}
    asked.clear()
    core.next_timeout()
    assert asked == []


def _noting(method, asked: list[int]):
    def noted(link: Link, *arguments):
        asked.append(link.peer_index)
        return method(link, *arguments)

    return noted


def joined() -> NodeCore:
    """A node with its two neighbours, which has a route to node 3."""
    core = make_core()
    core.handle_message(Welcome(OWN, 50.0, 200.0, 1000.0), 0.0)
    configs = tuple(
        LinkConfig(peer, f"n{peer}", Address(f"10.0.0.{peer}", 7500), 0, key(OWN, peer), key(peer, OWN))
        for peer in NEIGHBOURS
    )
    core.handle_message(Links(set=configs), 0.0)
    return core


@pytest.mark.parametrize("place", ["link", "forwarder"])
def test_a_bug_costs_the_datagram_that_woke_it_and_no_other(monkeypatch, place):
    core = joined()
    link = neighbour(1)
    sent = [link.seal(routed(b"%d" % number), 0.0) for number in range(3)]
    handled: list[bytes] = []
    accept = Link.accept

    def faulty(link, key, number, plaintext, now):
        if plaintext.endswith(b"1"):
            raise ZeroDivisionError
        return accept(link, key, number, plaintext, now)

    def handle(forwarder, peer, frame, now):
        if place == "forwarder" and frame.endswith(b"1"):
            raise ZeroDivisionError
        handled.append(frame)

    if place == "link":
        monkeypatch.setattr(Link, "accept", faulty)
    monkeypatch.setattr(Forwarder, "handle_frame", handle)
    bugs: list[Exception] = []
    core.handle_relay_batch(sent, 0.0, bugs.append)
    assert handled == [routed(b"0"), routed(b"2")]
    assert [type(bug) for bug in bugs] == [ZeroDivisionError]
    with pytest.raises(ZeroDivisionError):  # where nobody takes it, as in tests, it is not hidden
        core.handle_relay_batch([link.seal(routed(b"1"), 0.0)], 0.0)


def test_what_a_batch_told_is_told_once_and_what_it_asks_is_answered():
    port, link = make_port(), neighbour(1)
    port.handle_timeout(0.06)  # it probes
    [probe] = [data for data, address in port.poll_datagrams() if address[0] == "10.0.0.1"]
    link.handle_datagram(probe, 0.07)
    echo, *_ = link.poll_datagrams(0.07)
    asking = link.seal(encode_probe(Probe(1, 1)) + encode_probe(Probe(2, 2)), 0.07)
    assert port.handle_batch([echo, asking], 0.08) == []
    assert [(peer, type(event)) for peer, event in port.poll_events()] == [(1, LinkUp)]
    assert port.poll_events() == []
    [(answer, address)] = port.poll_datagrams()
    assert address == ("10.0.0.1", 7500)
    link.handle_datagram(answer, 0.09)
    assert link.debug_state()["prober"]["echoes_unmatched"] == 2, "two echoes, of probes made up here"
    assert port.poll_datagrams() == []


def test_a_port_is_short_while_any_of_its_links_is_and_asks_only_those_that_were_touched(monkeypatch):
    short: set[int] = set()
    asked: list[int] = []

    def is_short(link: Link) -> bool:
        asked.append(link.peer_index)
        return link.peer_index in short

    monkeypatch.setattr(Link, "short", property(is_short))
    port = make_port()
    port.poll_datagrams()
    assert not port.short
    assert sorted(asked) == [1, 3]
    short.update((1, 3))
    asked.clear()
    assert not port.short
    assert asked == [], "nothing that a link does not do changes it"
    for peer in (1, 3):
        port.send(peer, routed(b"more than fits"), 0.01)
        port.poll_datagrams()
    assert port.short
    asked.clear()
    short.discard(1)
    port.send(1, routed(b"as much as fits"), 0.02)
    port.poll_datagrams()
    assert port.short, "the other is"
    assert asked == [1]
    port.remove_link(3)
    assert not port.short


def test_after_a_poll_a_link_knows_when_it_is_due():
    link, rng = neighbour(1), random.Random(5)
    other = make_port()
    now = 0.0
    for number in range(400):
        now += rng.random() * 0.01
        data = link.poll_datagrams(now)
        if rng.random() < 0.5:
            data += link.send(routed(b"%d" % number), now)
            link.poll_jobs(now)
        other.handle_batch(data, now)
        for answer, address in other.poll_datagrams():
            if address == ("10.0.0.1", 7500):
                link.handle_datagram(answer, now)
        other.handle_timeout(now)
        link.handle_timeout(now)
        link.poll_jobs(now)
        assert link.due == link.next_timeout()
