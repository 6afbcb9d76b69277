"""Datagrams on the emulated network, in virtual time."""

import pytest
import trio

from relaymesh.netsim.clock import run_virtual
from relaymesh.netsim.net import Network
from tests.netsim.links import FixedLink

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"


def make_network(link=None, **more) -> Network:
    return Network(1, link or (lambda source, target: FixedLink(0.025)), {"b.test": B}, **more)


def run(main, network=None, seed=1):
    return run_virtual(main, seed=seed, network=network or make_network())


def test_a_datagram_takes_the_delay_of_its_link():
    async def main(network):
        a, b = network.udp_port(A, 1), network.udp_port(B, 0)
        a.send_batch([(b"x", b.address), (b"y", b.address)])
        assert await b.receive() == [(b"x", (A, 1)), (b"y", (A, 1))]
        return trio.current_time()

    network = make_network()
    assert run(main, network) == 0.025
    assert network.packets == 2


def test_both_directions_have_their_own_link():
    asked = []

    def link(source, target):
        asked.append((source, target))
        return FixedLink(0.01 if source == A else 0.1)

    async def main(network):
        a, b = network.udp_port(A, 1), network.udp_port(B, 1)
        for _ in range(3):
            a.send_batch([(b"x", b.address)])
            await b.receive()
            b.send_batch([(b"x", a.address)])
            await a.receive()
        return trio.current_time()

    assert run(main, make_network(link)) == pytest.approx(0.33)
    assert asked == [(A, B), (B, A)]


def test_lost_and_doubled_and_no_way():
    links = {(A, B): FixedLink(0.01, copies=2), (B, A): FixedLink(0.01, copies=0)}

    async def main(network):
        a, b = network.udp_port(A, 1), network.udp_port(B, 1)
        a.send_batch([(b"x", b.address), (b"y", (C, 1))])
        b.send_batch([(b"z", a.address)])
        return await b.receive()

    network = make_network(lambda source, target: links.get((source, target)))
    seen = []
    network.on_packet.append(lambda *packet: seen.append(packet))
    assert run(main, network) == [(b"x", (A, 1))] * 2
    assert network.dropped == {"link": 1, "no-way": 1}
    assert (network.sent, network.packets) == (3, 2)
    assert seen == [
        ("udp", (A, 1), (C, 1), 29, 0.0, None),
        ("udp", (B, 1), (A, 1), 29, 0.0, None),
        ("udp", (A, 1), (B, 1), 29, 0.0, 0.01),
        ("udp", (A, 1), (B, 1), 29, 0.0, 0.01),
    ]


def test_a_link_is_told_the_bytes_on_the_wire():
    link = FixedLink(0.01)

    async def main(network):
        network.udp_port(A, 1).send_batch([(bytes(100), (B, 1))])
        network.udp_port("fd00::1", 1).send_batch([(bytes(100), ("fd00::2", 1))])

    run(main, make_network(lambda source, target: link))
    assert link.sizes == [128, 148]


def test_a_partition_stops_what_is_sent_and_heals():
    async def main(network):
        a, b, c = (network.udp_port(host, 1) for host in (A, B, C))
        got = []
        for port in (a, b, c):
            port.deliver_to(lambda data, source, port=port: got.append((data, port.address[0])))
        a.send_batch([(b"before", b.address)])  # under way: it still arrives
        network.partition([A], [B])
        a.send_batch([(b"during", b.address), (b"aside", c.address)])
        b.send_batch([(b"back", a.address)])
        await trio.sleep(1)
        network.heal()
        a.send_batch([(b"after", b.address)])
        await trio.sleep(1)
        return got

    assert run(main) == [(b"before", B), (b"aside", C), (b"after", B)]


def test_a_killed_host_hears_nothing_until_it_is_back():
    async def main(network):
        a, b = network.udp_port(A, 1), network.udp_port(B, 1)
        a.send_batch([(b"lost", b.address)])
        network.kill_host(B)
        with pytest.raises(trio.ClosedResourceError):
            await b.receive()
        await trio.sleep(1)
        b = network.udp_port(B, 1)
        a.send_batch([(b"heard", b.address)])
        return await b.receive()

    assert run(main) == [(b"heard", (A, 1))]


def test_arrivals_on_a_grain_are_never_early_and_less_than_a_grain_late():
    async def main(network):
        a, b, late = network.udp_port(A, 1), network.udp_port(B, 1), []
        b.deliver_to(lambda data, source: late.append(network.now - float(data)))
        for _ in range(200):
            a.send_batch([(repr(network.now + 0.025).encode(), b.address)])
            await trio.sleep(0.00037)
        await trio.sleep(1)
        return late

    late = run(main, make_network(grain=0.001))
    assert len(late) == 200
    assert all(-1e-12 <= value < 0.001001 for value in late)
    assert max(late) > 0.0008


def test_the_trace_knows_payload_and_time():
    def hash_of(payload: bytes, pause: float) -> str:
        async def main(network):
            a, b = network.udp_port(A, 1), network.udp_port(B, 1)
            await trio.sleep(pause)
            a.send_batch([(payload, b.address)])
            await b.receive()

        network = make_network()
        run(main, network)
        return network.trace_sha256()

    assert hash_of(b"x", 1) == hash_of(b"x", 1)
    assert len({hash_of(b"x", 1), hash_of(b"y", 1), hash_of(b"x", 2)}) == 3
    with pytest.raises(ValueError, match="no trace"):
        make_network(trace=False).trace_sha256()


def test_a_task_that_stands_nowhere_gets_no_socket():
    async def main(network):
        with pytest.raises(RuntimeError, match="no emulated host"):
            await trio.open_tcp_stream(B, 1)

    with pytest.raises(BaseExceptionGroup):
        run(main)
