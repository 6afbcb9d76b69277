"""Ports and timers without tasks, and links that count."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest
import trio
from pydantic import SecretStr

from relaymesh.netsim.clock import run_virtual
from relaymesh.netsim.direct import MEDIA_LEAST, DirectPort, NetworkDriver, NetworkTimer, RelayLink
from relaymesh.netsim.link_model import LinkConditions, LinkModel
from relaymesh.netsim.net import Network
from relaymesh.node.app import Entropy, Node, NodePorts
from relaymesh.node.offers import MediaEndpoint
from relaymesh.node.settings import NodeSettings
from relaymesh.protocol.arrivals import ACK_INTERVAL_MIN
from relaymesh.protocol.link import Link
from relaymesh.protocol.messages import Address, LinkConfig, Links, Welcome
from tests.node.mesh import CERTIFICATE

A, B = "10.0.0.1", "10.0.0.2"


def make_network() -> Network:
    return Network(1, lambda a, b: LinkModel(LinkConditions(delay_ms=10), Random(f"{a}:{b}")))


def test_what_arrives_together_is_handed_over_together() -> None:
    network = make_network()
    batches: list[tuple[float, list[bytes]]] = []

    async def main(network: Network) -> None:
        port = DirectPort(network, B, 7500)
        port.give_to(lambda batch: batches.append((network.now, [data for data, _ in batch])))
        sender = network.udp_port(A, 1)
        sender.send_batch([(b"1", (B, 7500)), (b"2", (B, 7500))])
        await trio.sleep(0.005)
        sender.send_batch([(b"3", (B, 7500))])
        await trio.sleep(0.1)
        port.close()
        sender.send_batch([(b"4", (B, 7500))])
        await trio.sleep(0.1)

    run_virtual(main, seed=1, network=network)
    assert batches == [(0.01, [b"1", b"2"]), (0.015, [b"3"])]


def test_what_arrives_in_one_instant_by_several_ways_is_handed_over_together() -> None:
    network = make_network()
    batches: list[list[tuple[bytes, str]]] = []

    async def main(network: Network) -> None:
        port = DirectPort(network, B, 7500)
        port.give_to(lambda batch: batches.append([(data, source[0]) for data, source in batch]))
        for host in (A, "10.0.0.3"):
            network.udp_port(host, 1).send_batch([(host.encode(), (B, 7500))])
        await trio.sleep(0.1)

    run_virtual(main, seed=1, network=network)
    assert batches == [[(b"10.0.0.1", A), (b"10.0.0.3", "10.0.0.3")]]


def test_a_timer_fires_when_its_core_says_and_earlier_when_poked() -> None:
    network = make_network()
    due: list[float | None] = [1.0]
    fired: list[float] = []

    def on_timeout(now: float) -> None:
        fired.append(now)
        due[0] = now + 1.0 if now < 2.5 else None

    async def main(network: Network) -> None:
        timer = NetworkTimer(network, lambda: due[0], on_timeout)
        timer.poke()  # it does not run yet
        async with trio.open_nursery() as nursery:
            nursery.start_soon(timer.run)
            await trio.sleep(1.5)
            due[0] = 1.75
            timer.poke()
            await trio.sleep(5)
            due[0] = 6.75
            timer.poke()
            nursery.cancel_scope.cancel()
        await trio.sleep(5)

    run_virtual(main, seed=1, network=network)
    assert fired == [1.0, 1.75, 2.75]  # and not at 6.75: it was cancelled


def test_a_relay_link_counts_bytes_media_and_what_is_lost_of_it() -> None:
    link = RelayLink(LinkModel(LinkConditions(delay_ms=1, loss=1.0), Random(1)))
    assert link.due(0.0, MEDIA_LEAST + 1) == ()
    link.model.apply(0.0, loss=0.0)
    assert link.due(0.0, 1000) == (0.001,)
    link.due(0.0, 60)
    assert (link.bytes, link.media, link.lost) == (MEDIA_LEAST + 1 + 1000 + 60, 2, 1)


def test_a_node_is_called_when_a_packet_made_something_due_earlier() -> None:
    """A hole is told 5 ms after the last ACK, though no further datagram comes and no timeout is near."""
    network = make_network()
    keys = bytes(range(16)), bytes(range(16, 32))
    acks: list[float] = []

    async def main(network: Network) -> None:
        node = make_node(network, A)
        node.core.handle_message(Welcome(1, 1000.0, 5000.0, 60_000.0), 0.0)
        config = LinkConfig(2, "peer", Address(B, 7500), 0, keys[0], keys[1])
        node.core.handle_message(Links(set=(config,)), 0.0)
        peer = Link(own_index=2, peer_index=1, probe_interval=1.0, dead_after=5.0, rng=Random(3))
        peer.install_key(0, keys[1], keys[0], 0.0)
        port = DirectPort(network, B, 7500)
        port.give_to(lambda batch: acks.extend(network.now for _ in batch))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.driver.run)
            await trio.sleep(0.1)
            frames = [b"\x1f\0\x07\1\1\0\0\0\1\1" for _ in range(4)]
            first, second, _, fourth = (peer.seal(frame, network.now) for frame in frames)
            port.send_batch([(first, (A, 7500))])
            await trio.sleep(0.1)
            acks.clear()
            port.send_batch([(second, (A, 7500)), (fourth, (A, 7500))])
            await trio.sleep(0.1)
            nursery.cancel_scope.cancel()

    run_virtual(main, seed=1, network=network)
    # 10 ms there and back: what came is told at once, what is missing as soon as another ACK may follow.
    assert acks == pytest.approx([0.22, 0.22 + ACK_INTERVAL_MIN])


def make_node(network: Network, host: str) -> Node:
    rng = Random(5)
    relay = DirectPort(network, host, 7500)
    return Node(
        NodeSettings(
            name="n1",
            region="r",
            controller="ws://127.0.0.1:7400",
            token=SecretStr("t"),
            relay=f"{host}:7500",
            media=f"{host}:7600",
        ),
        NodePorts(DirectPort(network, host, 7600), relay),
        MediaEndpoint(host, 7600, CERTIFICATE, "n1"),
        relay_address=Address(host, 7500),
        http_url=f"http://{host}",
        entropy=Entropy(rng, rng.randbytes),
        make_driver=partial(NetworkDriver, network),  # type: ignore[arg-type]  # its own ports
    )
