"""A small mesh on the emulated network, made of shipping parts; prints the hash of its trace.

Agents keep control channels (trio-websocket) to a controller over lossy links,
while ports send datagrams in a ring; hosts die, come back and are cut off.
``python -m tests.netsim.program SEED``
"""

import json
import random
import sys

import trio
from trio_websocket import ConnectionClosed, serve_websocket

from relaymesh.netsim.clock import run_virtual
from relaymesh.netsim.net import Network
from relaymesh.node.agent import Agent
from relaymesh.protocol.messages import Address, Join, Welcome, decode_node_message, encode_message
from tests.netsim.links import RandomLink

CONTROLLER = "10.0.0.100"
HOSTS = [f"10.0.0.{number}" for number in range(1, 6)]
URL = "ws://controller.test:7400"
WELCOME = Welcome(3, 100.0, 600.0, 1000.0)


async def controller(heard, *, task_status=trio.TASK_STATUS_IGNORED):
    async def handle(request):
        socket = await request.accept()
        try:
            while True:
                heard.append(decode_node_message(await socket.get_message()))
                await socket.send_message(encode_message(WELCOME))
        except ConnectionClosed:
            pass

    await serve_websocket(handle, None, 7400, None, task_status=task_status)


def make_agent(name: str, seed: int, told: list) -> Agent:
    return Agent(
        [URL],
        None,
        make_join=lambda: Join(
            1, name, "r", "token", "boot-id-1", Address("127.0.0.1", 1), "http://127.0.0.1:1"
        ),
        on_message=lambda message: told.append((name, message)),
        on_disconnected=lambda: told.append((name, "disconnected")),
        rng=random.Random(f"{seed}:{name}"),
    )


async def chatter(network, host, target):
    port = network.udp_port(host, 6000)

    async def talk():
        number = 0
        while True:
            port.send_batch([(f"{host} {number} {k}".encode(), (target, 6000)) for k in range(3)])
            number += 1
            await trio.sleep(0.053)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(talk)
        while True:
            for data, source in await port.receive():
                if not data.startswith(b"echo"):
                    port.send_batch([(b"echo " + data, source)])


async def node(network, host, target, seed, told):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(make_agent(f"node-{host}", seed, told).run)
        nursery.start_soon(chatter, network, host, target)


async def main(network):
    heard, told = [], []
    async with trio.open_nursery() as everything:
        with network.on_host(CONTROLLER):
            await everything.start(controller, heard)
        for host, target in zip(HOSTS[1:], [*HOSTS[2:], HOSTS[0]], strict=True):
            with network.on_host(host):
                everything.start_soon(node, network, host, target, network.seed, told)
        with network.on_host(HOSTS[0]):
            for _ in range(2):  # it dies and is started again
                try:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(node, network, HOSTS[0], HOSTS[1], network.seed, told)
                        await trio.sleep(4)
                        nursery.cancel_scope.cancel()  # in one step with the kill: no time for farewells
                        network.kill_host(HOSTS[0])
                except* trio.ClosedResourceError:
                    pass  # of a farewell that was tried
                await trio.sleep(1)
        network.partition(HOSTS[:2], [*HOSTS[2:], CONTROLLER])
        await trio.sleep(3)
        network.heal()
        await trio.sleep(7)
        everything.cancel_scope.cancel()
    return heard, told


def run(seed: int):
    network = Network(
        seed,
        lambda source, target: RandomLink(f"{seed}:{source}:{target}", loss=0.03),
        {"controller.test": CONTROLLER},
    )
    heard, told = run_virtual(main, seed=seed, network=network)
    return network, heard, told


if __name__ == "__main__":
    network, heard, told = run(int(sys.argv[1]))
    print(
        json.dumps(
            {
                "hash": network.trace_sha256(),
                "packets": network.packets,
                "dropped": network.dropped,
                "joins": [message.name for message in heard],
                "told": [name for name, _ in told],
            }
        )
    )
