"""How many packets a CPU second the emulated network carries alone, and how that compares to a bare heap.

In: how many packets and hosts. Out: packets for each CPU second. Each of a ring of hosts sends small bursts
to the next two and answers what it gets, over links with delay, jitter and loss, with the trace switched
on: what a packet costs before any node has looked at it. The baseline pushes and pops as many entries on a
heap of the same depth in the same run, so that the ratio means something on another machine.
"""

from __future__ import annotations

import heapq
import random
import time
from dataclasses import dataclass

import trio

from relaymesh.netsim.clock import run_virtual
from relaymesh.netsim.link_model import LinkConditions, LinkModel
from relaymesh.netsim.net import Network

PORT = 6000
BURST = 4  # datagrams for each neighbour: a video frame at 1 Mbit/s
INTERVAL_S = 1 / 30
PAYLOAD = bytes(1100)
ECHO_BYTES = 100
COARSE_GRAIN_S = 1e-4


@dataclass(frozen=True, slots=True)
class NetworkRate:
    """Packets, or operations of a heap, for each CPU second."""

    bare_heap: float  # pushes with pops
    tasks: float  # a task waits at each port
    tasks_coarse: float  # the same, deliveries of 0.1 ms at once
    handlers: float  # a handler is called for each datagram


def measure(packets: int, hosts: int) -> NetworkRate:
    """Each way once."""
    return NetworkRate(
        bare_heap=_bare_heap(packets, depth=hosts * 2 * BURST),
        tasks=_carry(packets, hosts, tasks=True),
        tasks_coarse=_carry(packets, hosts, tasks=True, grain=COARSE_GRAIN_S),
        handlers=_carry(packets, hosts, tasks=False),
    )


def _make_network(seed: int, grain: float) -> Network:
    def link(source: str, target: str) -> LinkModel:
        conditions = LinkConditions(delay_ms=20.0, jitter_ms=2.0, loss=0.01)
        return LinkModel(conditions, rng=random.Random(f"{seed}:{source}:{target}"))

    return Network(seed, link, grain=grain)


async def _host(network: Network, address: str, targets: list[str], tasks: bool, start: float) -> None:
    port = network.udp_port(address, PORT)

    async def receive() -> None:
        while True:
            batch = await port.receive()
            echo = [(data[:ECHO_BYTES], source) for data, source in batch if len(data) > ECHO_BYTES]
            if echo:
                port.send_batch(echo)

    def handle(data: bytes, source: tuple[str, int]) -> None:
        if len(data) > ECHO_BYTES:
            port.send_batch(((data[:ECHO_BYTES], source),))

    async with trio.open_nursery() as nursery:
        if tasks:
            nursery.start_soon(receive)
        else:
            port.deliver_to(handle)
        await trio.sleep(start)
        while True:
            port.send_batch([(PAYLOAD, (target, PORT)) for target in targets] * BURST)
            await trio.sleep(INTERVAL_S)


def _carry(packets: int, hosts: int, *, tasks: bool, grain: float = 0.0) -> float:
    addresses = [f"10.0.0.{number}" for number in range(1, hosts + 1)]
    a_second = hosts * 2 * BURST / INTERVAL_S * 2  # with the echoes
    starts = random.Random(1)

    async def main(network: Network) -> None:
        async with trio.open_nursery() as nursery:
            for number, address in enumerate(addresses):
                targets = [addresses[(number + step) % hosts] for step in (1, 2)]
                start = starts.random() * INTERVAL_S
                nursery.start_soon(_host, network, address, targets, tasks, start)
            await trio.sleep(packets / a_second)
            nursery.cancel_scope.cancel()

    network = _make_network(1, grain)
    began = time.process_time()
    run_virtual(main, seed=1, network=network)
    return network.packets / (time.process_time() - began)


def _bare_heap(packets: int, depth: int) -> float:
    rng = random.Random(1)
    times = [rng.random() for _ in range(1000)]
    heap = [(rng.random(), number, print, (PAYLOAD,)) for number in range(depth)]
    heapq.heapify(heap)
    began = time.process_time()
    for number in range(packets):
        when, _, act, arguments = heapq.heappop(heap)
        heapq.heappush(heap, (when + times[number % 1000], number + depth, act, arguments))
    return packets / (time.process_time() - began)
