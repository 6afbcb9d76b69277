"""Ports and timers without tasks, and links that count."""

from __future__ import annotations

from random import Random

import trio

from relaymesh.netsim.clock import run_virtual
from relaymesh.netsim.direct import MEDIA_LEAST, DirectPort, NetworkTimer, RelayLink
from relaymesh.netsim.link_model import LinkConditions, LinkModel
from relaymesh.netsim.net import Network

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
