"""Shipping code on the emulated network: it works, unmodified, and a seed says all there is to say."""

import contextlib
import json
import os
import random
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trustme
from trio_websocket import ConnectionClosed, open_websocket_url, serve_websocket

from relaymesh.netsim.clock import run_virtual
from relaymesh.netsim.link_model import LinkConditions, LinkModel
from relaymesh.netsim.net import Network
from tests.netsim import program
from tests.netsim.links import FixedLink

ROOT = Path(__file__).parents[2]
A, B = "10.0.0.1", "10.0.0.2"


def in_another_process(seed: int, hash_seed: int) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.netsim.program", str(seed)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_a_seed_gives_one_trace_in_any_process_and_another_seed_another():
    results = [in_another_process(7, hash_seed) for hash_seed in (1, 2, 3)]
    assert results[0] == results[1] == results[2]
    assert results[0]["packets"] > 5000
    assert in_another_process(8, 1)["hash"] != results[0]["hash"]
    # Nor does it matter what this process did before.
    assert [program.run(7)[0].trace_sha256() for _ in range(2)] == [results[0]["hash"]] * 2


def test_unmodified_agents_join_lose_the_controller_and_come_back():
    network, heard, told = program.run(1)
    joins = [join.name for join in heard]
    assert set(joins) == {f"node-{host}" for host in program.HOSTS}
    assert joins.count("node-10.0.0.1") >= 2  # it was started twice
    assert [name for name, what in told if what == "disconnected"]
    assert network.dropped["nobody"] > 0  # while it was dead
    assert network.dropped["no-way"] > 0  # while they were parted


def test_websockets_with_tls_take_the_round_trips_they_take():
    authority = trustme.CA()
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("b.test").configure_cert(server_tls)
    client_tls = ssl.create_default_context()
    authority.configure_trust(client_tls)

    async def echo(request):
        socket = await request.accept()
        with contextlib.suppress(ConnectionClosed):
            while True:
                await socket.send_message(await socket.get_message())

    async def main(network):
        times = []
        async with trio.open_nursery() as nursery:
            with network.on_host(B):
                await nursery.start(serve_websocket, echo, None, 443, server_tls)
            with network.on_host(A):
                async with open_websocket_url("wss://b.test/", ssl_context=client_tls) as socket:
                    times.append(trio.current_time())
                    await socket.send_message("x" * 100)
                    await socket.get_message()
                    times.append(trio.current_time())
                nursery.cancel_scope.cancel()
        return times

    network = Network(1, lambda source, target: FixedLink(0.025), {"b.test": B})
    assert run_virtual(main, seed=1, network=network) == pytest.approx([0.15, 0.2])


def test_real_links_lose_the_same_with_the_same_seed():
    def run(seed):
        def link(source, target):
            conditions = LinkConditions(delay_ms=20, jitter_ms=2, loss=0.1)
            return LinkModel(conditions, rng=random.Random(f"{seed}:{source}:{target}"))

        async def main(network):
            a, b, got = network.udp_port(A, 1), network.udp_port(B, 1), []
            b.deliver_to(lambda data, source: got.append(data))
            for number in range(500):
                a.send_batch([(str(number).encode(), b.address)])
                await trio.sleep(0.001)
            await trio.sleep(1)
            return got

        network = Network(seed, link)
        got = run_virtual(main, seed=seed, network=network)
        return len(got), network.trace_sha256()

    assert run(1) == run(1) != run(2)
    assert 400 < run(1)[0] < 480
