"""Unmodified trio programs over emulated streams: time, order, loss, ends and crashes."""

import hashlib
import random
import ssl

import pytest
import trio
import trio.testing
import trustme

from relaymesh.netsim.clock import run_virtual
from relaymesh.netsim.net import Network
from relaymesh.netsim.segments import SEGMENT_BYTES, WINDOW_BYTES
from tests.netsim.links import DroppingLink, FixedLink, RandomLink

A, B = "10.0.0.1", "10.0.0.2"
PORT = 7000


def make_network(link=None) -> Network:
    return Network(1, link or (lambda source, target: FixedLink(0.025)), {"b.test": B})


def run(main, network=None):
    return run_virtual(main, seed=1, network=network or make_network())


async def serve(nursery, network, handler, host=B):
    with network.on_host(host):
        return await nursery.start(trio.serve_tcp, handler, PORT)


async def echo(stream):
    async for data in stream:
        await stream.send_all(data)


def on(network, host=A):
    return network.on_host(host)


def test_connecting_takes_a_round_trip_and_so_does_an_echo():
    async def main(network):
        async with trio.open_nursery() as nursery:
            await serve(nursery, network, echo)
            with on(network):
                stream = await trio.open_tcp_stream("b.test", PORT)
                times = [trio.current_time()]
                await stream.send_all(b"hello")
                assert await stream.receive_some() == b"hello"
                times.append(trio.current_time())
            assert stream.socket.getpeername() == (B, PORT)
            assert stream.socket.getsockname()[0] == A
            nursery.cancel_scope.cancel()
            return times

    assert run(main) == pytest.approx([0.05, 0.1])


def test_the_server_sees_who_calls():
    async def main(network):
        seen = []

        async def handler(stream):
            seen.append(stream.socket.getpeername()[0])

        async with trio.open_nursery() as nursery:
            await serve(nursery, network, handler)
            for host in (A, B):
                with on(network, host):
                    await trio.open_tcp_stream("b.test" if host == A else "localhost", PORT)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        return seen

    assert sorted(run(main)) == [A, B]


def test_nobody_listens():
    async def main(network):
        with on(network), pytest.raises(OSError, match="all attempts") as caught:
            await trio.open_tcp_stream(B, PORT)
        return repr(caught.value.__cause__), trio.current_time()

    cause, when = run(main)
    assert "ConnectionRefusedError" in cause
    assert when == pytest.approx(0.05)


def test_there_is_no_way_or_no_such_name():
    async def main(network):
        with on(network):
            with pytest.raises(OSError, match="all attempts"):
                await trio.open_tcp_stream("10.9.9.9", PORT)
            with pytest.raises(OSError, match="no such name"):
                await trio.open_tcp_stream("c.test", PORT)

    run(main, make_network(lambda source, target: None))


def test_connecting_through_a_cut_gives_up_or_gets_through_once_it_is_healed():
    async def main(network):
        async with trio.open_nursery() as nursery:
            await serve(nursery, network, echo)
            network.partition([A], [B])
            with on(network):
                with pytest.raises(OSError, match="all attempts") as caught:
                    await trio.open_tcp_stream(B, PORT)
                assert "TimeoutError" in repr(caught.value.__cause__)
                gave_up = trio.current_time()
                network.at(network.now + 2.5, network.heal)
                await trio.open_tcp_stream(B, PORT)
            nursery.cancel_scope.cancel()
            return gave_up, trio.current_time() - gave_up

    gave_up, took = run(main)
    assert gave_up == 127.0  # 1 + 2 + 4 + … + 64, as Linux
    assert took == pytest.approx(3.05)  # tried at 0, 1 and 3 s


@pytest.mark.parametrize("chunk", [1, 1000, 100_000])
def test_bytes_come_complete_and_in_order_over_a_bad_link(chunk):
    rng = random.Random(7)
    sent = rng.randbytes(300_000 if chunk > 1 else 500)

    async def main(network):
        got = bytearray()
        done = trio.Event()

        async def handler(stream):
            async for data in stream:
                got.extend(data)
                await trio.sleep(rng.random() * 0.01)
            done.set()

        async with trio.open_nursery() as nursery:
            await serve(nursery, network, handler)
            with on(network):
                stream = await trio.open_tcp_stream(B, PORT)
                for start in range(0, len(sent), chunk):
                    await stream.send_all(sent[start : start + chunk])
                await stream.send_eof()
            with trio.fail_after(1000):
                await done.wait()
            nursery.cancel_scope.cancel()
        return bytes(got)

    assert run(main, make_network(lambda source, target: RandomLink(f"{source}{target}"))) == sent


def test_a_lost_segment_costs_an_rto_and_holds_up_the_next():
    links = {A: DroppingLink(0.15, lost={2}), B: FixedLink(0.15)}  # SYN, ACK, then data

    async def main(network):
        arrivals = []

        async def handler(stream):
            async for data in stream:
                arrivals.append((data, round(trio.current_time() - began, 6)))

        async with trio.open_nursery() as nursery:
            await serve(nursery, network, handler)
            with on(network):
                stream = await trio.open_tcp_stream(B, PORT)
                began = trio.current_time()
                await stream.send_all(b"first ")
                await stream.send_all(b"second")
            await trio.sleep(5)
            nursery.cancel_scope.cancel()
        return arrivals

    # RTO = 2 × 0.3 s, then the way
    assert run(main, make_network(lambda source, target: links[source])) == [(b"first second", 0.75)]


def test_segments_are_no_longer_than_a_packet():
    link = FixedLink(0.01)

    async def main(network):
        async with trio.open_nursery() as nursery:
            await serve(nursery, network, echo)
            with on(network):
                stream = await trio.open_tcp_stream(B, PORT)
                link.sizes.clear()
                await stream.send_all(bytes(2 * SEGMENT_BYTES + 1))
            nursery.cancel_scope.cancel()

    run(main, make_network(lambda source, target: link))
    assert link.sizes[:3] == [1500, 1500, 53]


def test_who_does_not_read_stops_who_sends():
    async def main(network):
        sent = 0
        stopped = []

        async def handler(stream):
            await trio.sleep(100)
            stopped.append(sent)
            async for _ in stream:
                pass

        async with trio.open_nursery() as nursery:
            await serve(nursery, network, handler)
            with on(network):
                stream = await trio.open_tcp_stream(B, PORT)
                for _ in range(40):
                    await stream.send_all(bytes(100_000))
                    sent += 100_000
            nursery.cancel_scope.cancel()
        return stopped[0], sent, trio.current_time()

    stopped, sent, now = run(main)
    assert stopped <= WINDOW_BYTES
    assert sent == 4_000_000
    assert 100 < now < 101


def test_an_end_is_an_end_and_one_side_may_close_alone():
    async def main(network):
        async def handler(stream):
            got = b"".join([data async for data in stream])
            await stream.send_all(got[::-1])

        async with trio.open_nursery() as nursery:
            await serve(nursery, network, handler)
            with on(network):
                stream = await trio.open_tcp_stream(B, PORT)
                await stream.send_all(b"abc")
                await stream.send_eof()
                with pytest.raises(trio.ClosedResourceError):
                    await stream.send_all(b"x")
                got = b"".join([data async for data in stream])
                await stream.aclose()
                with pytest.raises(trio.ClosedResourceError):
                    await stream.receive_some()
            nursery.cancel_scope.cancel()
        return got

    network = make_network()
    assert run(main, network) == b"cba"
    assert network.debug_state()["streams"] == {}


def test_sending_to_who_has_left_breaks():
    async def main(network):
        async def handler(stream):
            await stream.aclose()

        async with trio.open_nursery() as nursery:
            await serve(nursery, network, handler)
            with on(network):
                stream = await trio.open_tcp_stream(B, PORT)
                assert await stream.receive_some() == b""
                await stream.send_all(b"x")  # nobody can know yet
                await trio.sleep(1)
                with pytest.raises(trio.BrokenResourceError):
                    await stream.send_all(b"x")
            nursery.cancel_scope.cancel()

    run(main)


def test_a_killed_host_resets_its_streams_and_can_be_there_again():
    async def main(network):
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as server:
                await serve(server, network, echo)
                with on(network):
                    stream = await trio.open_tcp_stream(B, PORT)
                server.cancel_scope.cancel()
                network.kill_host(B)
            killed_at = trio.current_time()
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
            took = trio.current_time() - killed_at
            with on(network), pytest.raises(OSError, match="all attempts"):
                await trio.open_tcp_stream(B, PORT)
            await serve(nursery, network, echo)
            with on(network):
                again = await trio.open_tcp_stream(B, PORT)
                await again.send_all(b"x")
                assert await again.receive_some() == b"x"
            nursery.cancel_scope.cancel()
        return took

    assert run(main) == pytest.approx(0.025)


def test_the_tasks_of_a_killed_host_find_everything_closed():
    async def main(network):
        async def receive(stream):
            with pytest.raises(trio.ClosedResourceError):
                await stream.receive_some()

        async def accept(listener):
            with pytest.raises(trio.ClosedResourceError):
                await listener.accept()

        with on(network, B):
            [listener] = await trio.open_tcp_listeners(PORT)
        with on(network):
            await trio.open_tcp_stream(B, PORT)
        stream = await listener.accept()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive, stream)
            nursery.start_soon(accept, listener)
            await trio.testing.wait_all_tasks_blocked()
            network.kill_host(B)

    run(main)


def test_after_a_power_failure_the_peer_hears_nothing_and_gives_up():
    async def main(network):
        async with trio.open_nursery() as nursery:
            await serve(nursery, network, echo)
            with on(network):
                stream = await trio.open_tcp_stream(B, PORT)
            nursery.cancel_scope.cancel()
            network.kill_host(B, reset=False)
        began = trio.current_time()
        await stream.send_all(b"x")
        with pytest.raises(trio.BrokenResourceError, match="timed out"):
            await stream.receive_some()
        return trio.current_time() - began

    assert 600 < run(main) < 1000  # as tcp_retries2 has it


def test_a_reset_leaves_what_came_before_it():
    async def main(network):
        async with trio.open_nursery() as nursery:
            with on(network, B):
                [listener] = await trio.open_tcp_listeners(PORT)
            with on(network):
                stream = await trio.open_tcp_stream(B, PORT)
            server = await listener.accept()
            await server.send_all(b"goodbye")
            await trio.sleep(0.1)
            await stream.send_all(b"unread")
            await trio.sleep(0.1)
            await server.aclose()  # with unread bytes: a reset
            await trio.sleep(0.1)
            assert await stream.receive_some() == b"goodbye"
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
            nursery.cancel_scope.cancel()

    run(main)


def test_giving_up_while_connecting_leaves_nothing_open():
    async def main(network):
        async with trio.open_nursery() as nursery:
            await serve(nursery, network, echo)
            with on(network), trio.move_on_after(0.03) as giving_up:
                await trio.open_tcp_stream(B, PORT)
            await trio.sleep(5)
            nursery.cancel_scope.cancel()
            return giving_up.cancelled_caught, dict(network.debug_state()["streams"])

    assert run(main) == (True, {B: 1})  # the listener


def test_copies_on_the_link_make_no_second_connection():
    async def main(network):
        calls, got = [], bytearray()

        async def handler(stream):
            calls.append(stream)
            async for data in stream:
                got.extend(data)

        async with trio.open_nursery() as nursery:
            await serve(nursery, network, handler)
            with on(network):
                stream = await trio.open_tcp_stream(B, PORT)
                await stream.send_all(b"once")
                await stream.aclose()
            await trio.sleep(5)
            nursery.cancel_scope.cancel()
        return len(calls), bytes(got)

    assert run(main, make_network(lambda source, target: FixedLink(0.01, copies=2))) == (1, b"once")


def test_a_full_backlog_makes_callers_wait():
    async def main(network):
        with on(network, B):
            [listener] = await trio.open_tcp_listeners(PORT, backlog=1)
        times = []

        async def call():
            await trio.open_tcp_stream(B, PORT)
            times.append(round(trio.current_time(), 3))

        with on(network):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call)
                await trio.sleep(0.5)
                nursery.start_soon(call)
                await trio.sleep(0.5)
                await listener.accept()
        return times

    assert run(main) == [0.05, 1.55]


def test_a_port_has_one_listener_and_a_wrong_address_none():
    async def main(network):
        with on(network, B):
            [first] = await trio.open_tcp_listeners(PORT)
            with pytest.raises(OSError, match="in use"):
                await trio.open_tcp_listeners(PORT)
            with pytest.raises(OSError, match="assign"):
                await trio.open_tcp_listeners(PORT, host=A)
            await first.aclose()
            [any_port] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            assert any_port.socket.getsockname()[0] == B
            sock = trio.socket.socket()
            assert sock.getsockname() == ("0.0.0.0", 0)
            with pytest.raises(OSError, match="not connected"):
                await sock.recv(1)
            sock.close()
            sock.close()
            with pytest.raises(OSError, match="Protocol"):
                trio.socket.socket(type=trio.socket.SOCK_DGRAM)

    run(main)


def test_hosts_may_have_ipv6_addresses():
    async def main(network):
        async with trio.open_nursery() as nursery:
            await serve(nursery, network, echo, "fd00::2")
            with on(network, "fd00::1"):
                stream = await trio.open_tcp_stream("fd00::2", PORT)
                await stream.send_all(b"x")
                assert await stream.receive_some() == b"x"
            nursery.cancel_scope.cancel()

    run(main)


def test_tls_runs_over_it():
    authority = trustme.CA()
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("b.test").configure_cert(server_tls)
    client_tls = ssl.create_default_context()
    authority.configure_trust(client_tls)

    async def main(network):
        async with trio.open_nursery() as nursery:
            with on(network, B):
                await nursery.start(trio.serve_ssl_over_tcp, echo, PORT, server_tls)
            with on(network):
                stream = await trio.open_ssl_over_tcp_stream("b.test", PORT, ssl_context=client_tls)
                await stream.send_all(b"sealed")
                assert await stream.receive_some() == b"sealed"
            nursery.cancel_scope.cancel()
            return trio.current_time()

    assert run(main) == pytest.approx(0.15)  # TCP, then TLS 1.3 with the first bytes behind its finish


def test_the_payload_of_streams_does_not_enter_the_trace():
    def hash_of(payload):
        async def main(network):
            async with trio.open_nursery() as nursery:
                await serve(nursery, network, echo)
                with on(network):
                    stream = await trio.open_tcp_stream(B, PORT)
                    await stream.send_all(payload)
                    await stream.receive_some()
                nursery.cancel_scope.cancel()

        network = make_network()
        run(main, network)
        return network.trace_sha256()

    assert hash_of(b"abc") == hash_of(b"xyz") != hash_of(b"longer")
    assert len(hash_of(b"abc")) == hashlib.sha256().digest_size * 2
