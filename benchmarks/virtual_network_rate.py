"""How many packets a CPU second the emulated network carries, and how that compares to a bare heap.

Each of a ring of hosts sends small bursts to the next two and answers what it
gets, over links with delay, jitter and loss, with the trace switched on: what a
packet costs before any node has looked at it. The baseline pushes and pops as
many entries on a heap of the same depth in the same run, so that the ratio
means something on another machine.

    python benchmarks/virtual_network_rate.py [--packets 200000] [--hosts 20]
"""

from __future__ import annotations

import argparse
import heapq
import json
import platform
import random
import time

import trio

from relaymesh.netsim.clock import run_virtual
from relaymesh.netsim.link_model import LinkConditions, LinkModel
from relaymesh.netsim.net import Network

PORT = 6000
BURST = 4  # datagrams for each neighbour: a video frame at 1 Mbit/s
INTERVAL_S = 1 / 30
PAYLOAD = bytes(1100)


def make_network(seed: int, grain: float) -> Network:
    def link(source: str, target: str) -> LinkModel:
        conditions = LinkConditions(delay_ms=20.0, jitter_ms=2.0, loss=0.01)
        return LinkModel(conditions, rng=random.Random(f"{seed}:{source}:{target}"))

    return Network(seed, link, grain=grain)


async def host(network: Network, address: str, targets: list[str], tasks: bool) -> None:
    port = network.udp_port(address, PORT)

    async def receive() -> None:
        while True:
            echo = [(data[:100], source) for data, source in await port.receive() if len(data) > 100]
            if echo:
                port.send_batch(echo)

    def handle(data: bytes, source: tuple[str, int]) -> None:
        if len(data) > 100:
            port.send_batch(((data[:100], source),))

    async with trio.open_nursery() as nursery:
        if tasks:
            nursery.start_soon(receive)
        else:
            port.deliver_to(handle)
        await trio.sleep(random.random() * INTERVAL_S)
        while True:
            port.send_batch([(PAYLOAD, (target, PORT)) for target in targets] * BURST)
            await trio.sleep(INTERVAL_S)


def measure(packets: int, hosts: int, *, tasks: bool, grain: float = 0.0) -> float:
    """Packets for each CPU second."""
    addresses = [f"10.0.0.{number}" for number in range(1, hosts + 1)]
    a_second = hosts * 2 * BURST / INTERVAL_S * 2  # with the echoes

    async def main(network: Network) -> None:
        async with trio.open_nursery() as nursery:
            for number, address in enumerate(addresses):
                targets = [addresses[(number + step) % hosts] for step in (1, 2)]
                nursery.start_soon(host, network, address, targets, tasks)
            await trio.sleep(packets / a_second)
            nursery.cancel_scope.cancel()

    network = make_network(1, grain)
    began = time.process_time()
    run_virtual(main, seed=1, network=network)
    return network.packets / (time.process_time() - began)


def bare_heap(packets: int, depth: int) -> float:
    """Pushes and pops of entries like ours, for each CPU second."""
    rng = random.Random(1)
    times = [rng.random() for _ in range(1000)]
    heap = [(rng.random(), number, print, (PAYLOAD,)) for number in range(depth)]
    heapq.heapify(heap)
    began = time.process_time()
    for number in range(packets):
        when, _, act, arguments = heapq.heappop(heap)
        heapq.heappush(heap, (when + times[number % 1000], number + depth, act, arguments))
    return packets / (time.process_time() - began)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--packets", type=int, default=200_000)
    options.add_argument("--hosts", type=int, default=20)
    chosen = options.parse_args()
    heap = bare_heap(chosen.packets, depth=chosen.hosts * 2 * BURST)
    rates = {
        "task for each port": measure(chosen.packets, chosen.hosts, tasks=True),
        "task for each port, grain 0.1 ms": measure(chosen.packets, chosen.hosts, tasks=True, grain=1e-4),
        "handler for each port": measure(chosen.packets, chosen.hosts, tasks=False),
    }
    print(
        json.dumps(
            {
                "python": platform.python_version(),
                "trio": trio.__version__,
                "machine": platform.machine(),
                "bare_heap_per_cpu_s": round(heap),
                "packets_per_cpu_s": {name: round(rate) for name, rate in rates.items()},
                "heap_operations_for_a_packet": {name: round(heap / rate, 1) for name, rate in rates.items()},
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
