"""Batches of datagrams over loopback: order, sizes, trains, addresses that fail, sockets that are closed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kernels.both import over_both

udp = over_both("udp")


class Pair:
    """Two sockets on loopback, the receiver with room for a burst."""

    def __init__(self, family: int, host: str) -> None:
        self.sender, self.receiver = (
            socket.socket(family, socket.SOCK_DGRAM),
            socket.socket(family, socket.SOCK_DGRAM),
        )
        for sock in (self.sender, self.receiver):
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            sock.bind((host, 0))
        self.address = self.receiver.getsockname()[:2]
        self.source = self.sender.getsockname()[:2]

    def close(self) -> None:
        self.sender.close()
        self.receiver.close()


@pytest.fixture(params=["v4", "v6"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    family, host = (socket.AF_INET, "127.0.0.1") if request.param == "v4" else (socket.AF_INET6, "::1")
    made = Pair(family, host)
    yield made
    made.close()


def read_all(udp: Any, sock: socket.socket) -> list[tuple[bytes, Any]]:
    every: list[tuple[bytes, Any]] = []
    while batch := udp.receive(sock.fileno(), 64):
        every += batch
    return every


@pytest.mark.parametrize("joined", [False, True], ids=["plain", "gro"])
@pytest.mark.parametrize(
    "sizes",
    [
        [1200] * 8,
        [1200] * 7 + [3],
        [1200] * 200,
        [100, 100, 200, 200, 50, 50, 50, 1, 300],
        [1, 2, 3, 2, 1],
        [2000] * 40,
        [0, 5, 5, 0, 0, 5],
        [1472, 1472, 1471, 1471],
    ],
    ids=str,
)
def test_what_is_sent_arrives_whole_and_in_order(
    udp: Any, pair: Pair, sizes: list[int], joined: bool
) -> None:
    if joined:
        udp.enable_gro(pair.receiver.fileno())
    sent = [bytes([k & 0xFF]) * size for k, size in enumerate(sizes)]
    assert udp.send(pair.sender.fileno(), [(data, pair.address) for data in sent]) == 0
    assert read_all(udp, pair.receiver) == [(data, pair.source) for data in sent]


def test_trains_that_the_system_refuses_go_singly(udp: Any, pair: Pair) -> None:
    # Linux cuts up no train of a socket that sends no checksums (udp_send_skb): EINVAL, as on a route with
    # a small MTU. SO_NO_CHECK for IPv4, UDP_NO_CHECK6_TX for IPv6, whose receiver must want them.
    if pair.sender.family == socket.AF_INET:
        pair.sender.setsockopt(socket.SOL_SOCKET, 11, 1)
    else:
        pair.sender.setsockopt(socket.IPPROTO_UDP, 101, 1)
        pair.receiver.setsockopt(socket.IPPROTO_UDP, 102, 1)
    sent = [bytes([k]) * size for k, size in enumerate([1200] * 9 + [7])]
    assert udp.send(pair.sender.fileno(), [(data, pair.address) for data in sent]) == 0
    assert read_all(udp, pair.receiver) == [(data, pair.source) for data in sent]


def test_a_batch_is_bounded_and_the_rest_stays(udp: Any, pair: Pair) -> None:
    for k in range(10):
        udp.send(pair.sender.fileno(), [(bytes([k]), pair.address)])
    first = udp.receive(pair.receiver.fileno(), 6)
    assert [data[0] for data, _ in first] == list(range(6))
    assert [data[0] for data, _ in udp.receive(pair.receiver.fileno(), 6)] == [6, 7, 8, 9]
    assert udp.receive(pair.receiver.fileno(), 6) == []
    assert udp.receive(pair.receiver.fileno(), 0) == []


def test_a_train_that_is_read_comes_whole(udp: Any, pair: Pair) -> None:
    udp.enable_gro(pair.receiver.fileno())
    udp.send(pair.sender.fileno(), [(bytes([k]), pair.address) for k in range(100)])
    batch = udp.receive(pair.receiver.fileno(), 10)
    assert 10 <= len(batch) <= 10 + 63
    assert [data[0] for data, _ in batch + read_all(udp, pair.receiver)] == list(range(100))


def test_datagrams_to_several_addresses(udp: Any, pair: Pair) -> None:
    other = Pair(pair.sender.family, pair.address[0])
    batch = [(bytes([k]) * 50, (pair, other)[k % 3 == 0].address) for k in range(30)]
    assert udp.send(pair.sender.fileno(), batch) == 0
    for each in (pair, other):
        expected = [(data, pair.source) for data, address in batch if address == each.address]
        assert read_all(udp, each.receiver) == expected
    other.close()


def test_a_datagram_that_is_too_long_is_cut_so_that_it_shows(udp: Any, pair: Pair) -> None:
    udp.send(pair.sender.fileno(), [(bytes(9000), pair.address), (b"x", pair.address)])
    assert [len(data) for data, _ in udp.receive(pair.receiver.fileno(), 9)] == [2048, 1]


@pytest.mark.parametrize("joined", [False, True], ids=["plain", "gro"])
def test_trains_of_long_datagrams_are_cut_too(udp: Any, pair: Pair, joined: bool) -> None:
    if joined:
        udp.enable_gro(pair.receiver.fileno())
    udp.send(pair.sender.fileno(), [(bytes([k]) * 3000, pair.address) for k in range(5)])
    assert [data for data, _ in read_all(udp, pair.receiver)] == [bytes([k]) * 2048 for k in range(5)]


@pytest.mark.parametrize(
    "address",
    [
        ("fe80::1%\0", 9),
        ("fe80::1%é" + "x" * 80, 9),
        ("::1%\0", 9),
        ("127.0.0.1", 70_000),
        ("127.0.0.1", -1),
        ("1.2.3.4.5", 9),
        ("\ud800", 9),
        ("127.0.0.1",),
        (),
        "127.0.0.1",
        None,
        (b"127.0.0.1", None),
        ("127.0.0.1", "9"),
    ],
    ids=repr,
)
def test_an_address_that_is_none_costs_its_own_datagram_only(udp: Any, pair: Pair, address: Any) -> None:
    batch = [(b"a", pair.address), (b"b", address), (b"c", pair.address)]
    assert udp.send(pair.sender.fileno(), batch) == 1
    assert [data for data, _ in udp.receive(pair.receiver.fileno(), 9)] == [b"a", b"c"]


def test_an_address_of_the_other_family_is_a_failure(udp: Any, pair: Pair) -> None:
    other = "::1" if pair.sender.family == socket.AF_INET else "127.0.0.1"
    assert udp.send(pair.sender.fileno(), [(b"x", (other, pair.address[1])), (b"y", pair.address)]) == 1
    assert [data for data, _ in udp.receive(pair.receiver.fileno(), 9)] == [b"y"]


def test_one_that_is_longer_than_udp_carries_is_a_failure(udp: Any, pair: Pair) -> None:
    batch = [
        (b"a", pair.address),
        (bytes(70_000), pair.address),
        (bytes(70_000), pair.address),
        (b"b", pair.address),
    ]
    assert udp.send(pair.sender.fileno(), batch) == 2
    assert [data for data, _ in udp.receive(pair.receiver.fileno(), 9)] == [b"a", b"b"]


def test_an_icmp_error_of_an_earlier_send_hides_nothing(udp: Any, pair: Pair) -> None:
    gone = Pair(pair.sender.family, pair.address[0])
    address = gone.address
    gone.close()
    pair.sender.connect(address)  # only a connected socket is told
    udp.send(pair.sender.fileno(), [(b"x", address)])
    assert udp.receive(pair.sender.fileno(), 9) == []
    assert udp.send(pair.sender.fileno(), [(b"x", address)] * 2) <= 2


def test_a_closed_socket_takes_nothing_and_gives_an_error(udp: Any) -> None:
    assert udp.send(-1, [(b"x", ("127.0.0.1", 9))] * 3) == 3
    assert udp.send(-1, []) == 0
    for fileno in (-1, 2**20):
        with pytest.raises((OSError, ValueError)):
            udp.receive(fileno, 5)


def test_a_full_socket_buffer_is_a_failure_not_a_wait(udp: Any) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        batch = [(bytes(1400), ("127.0.0.1", 9))] * 500
        assert 0 <= udp.send(sender.fileno(), batch) <= 500


def test_the_native_kernel_joins_trains_where_linux_does() -> None:
    from tests.kernels.both import native

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert native("udp").enable_gro(sock.fileno()) in (True, False)
