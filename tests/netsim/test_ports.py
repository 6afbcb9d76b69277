"""A UDP port of the emulated network does what a real one does."""

import pytest
import trio
import trio.testing

from relaymesh.netsim.clock import run_virtual
from relaymesh.netsim.net import Network
from relaymesh.netsim.ports import QUEUE_DATAGRAMS
from relaymesh.runtime.udp import BATCH, RECEIVE_BYTES
from tests.netsim.links import FixedLink

A, B = "10.0.0.1", "10.0.0.2"


def make_network() -> Network:
    return Network(1, lambda source, target: FixedLink(0.025))


def run(main, network=None):
    return run_virtual(main, seed=1, network=network or make_network())


def test_batches_are_bounded_and_nothing_is_lost():
    async def main(network):
        a, b = network.udp_port(A, 1), network.udp_port(B, 1)
        a.send_batch([(bytes([k]), b.address) for k in range(BATCH + 5)])
        first, second = await b.receive(), await b.receive()
        assert len(first) == BATCH
        return [data[0] for data, _ in first + second]

    assert run(main) == list(range(BATCH + 5))


def test_a_full_queue_drops_and_counts():
    async def main(network):
        a, b = network.udp_port(A, 1), network.udp_port(B, 1)
        a.send_batch([(b"x", b.address)] * (QUEUE_DATAGRAMS + 7))
        await trio.sleep(1)
        return b.dropped

    network = make_network()
    assert run(main, network) == 7
    assert network.dropped == {"queue-full": 7}


def test_a_handler_gets_datagrams_without_a_task():
    async def main(network):
        a, b, got = network.udp_port(A, 1), network.udp_port(B, 1), []
        b.deliver_to(lambda data, source: got.append((data, source, network.now)))
        a.send_batch([(b"x", b.address)])
        await trio.sleep(1)
        return got

    assert run(main) == [(b"x", (A, 1), 0.025)]


def test_a_closed_port_wakes_its_receiver_and_gets_nothing():
    async def main(network):
        a, b = network.udp_port(A, 1), network.udp_port(B, 1)

        async def receive():
            with pytest.raises(trio.ClosedResourceError):
                await b.receive()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await trio.sleep(1)
            b.close()
            b.close()
        with pytest.raises(trio.ClosedResourceError):
            await b.receive()
        a.send_batch([(b"x", b.address)])
        b.send_batch([(b"x", a.address)])
        await trio.sleep(1)
        assert b.send_failures == 1
        network.udp_port(B, 1)  # free again

    network = make_network()
    run(main, network)
    assert network.dropped == {"nobody": 1}


def test_a_port_is_bound_once_and_free_ones_differ():
    async def main(network):
        ports = [network.udp_port(A, 0).address for _ in range(3)]
        assert len(set(ports)) == 3
        with pytest.raises(OSError, match="in use"):
            network.udp_port(*ports[0])
        network.udp_port(B, ports[0][1])

    run(main)


def test_a_cancelled_receiver_may_come_back():
    async def main(network):
        a, b = network.udp_port(A, 1), network.udp_port(B, 1)
        with trio.move_on_after(1):
            await b.receive()
        a.send_batch([(b"x", b.address)])
        return await b.receive()

    assert run(main) == [(b"x", (A, 1))]


def test_two_receivers_are_one_too_many():
    async def main(network):
        b = network.udp_port(B, 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b.receive)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await b.receive()
            nursery.cancel_scope.cancel()

    run(main)


def test_long_datagrams_are_cut_or_refused_as_by_a_real_port():
    async def main(network):
        a, b = network.udp_port(A, 1), network.udp_port(B, 1)
        a.send_batch([(bytes(70_000), b.address), (bytes(9000), b.address)])
        assert a.send_failures == 1
        return [len(data) for data, _ in await b.receive()]

    assert run(main) == [RECEIVE_BYTES]


def test_a_port_says_for_people_what_it_holds():
    async def main(network):
        a, b = network.udp_port(A, 1), network.udp_port(B, 1)
        a.send_batch([(b"x", b.address)])
        await trio.sleep(1)
        return b.debug_state()

    assert run(main) == {"address": (B, 1), "queued": 1, "dropped": 0}
