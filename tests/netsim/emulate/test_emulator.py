"""The emulator's loop, on socket pairs instead of TUN devices and a clock that is set."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from random import Random

import pytest

from relaymesh.netsim.emulate.emulator import HEAD_START_S, Emulator, receive, send
from relaymesh.netsim.emulate.lateness import Lateness
from relaymesh.netsim.link_model import LinkConditions, LinkModel

A, B = "10.77.0.1", "10.77.0.2"


def packet(source: str, target: str, payload: bytes = b"x") -> bytes:
    """As much of an IPv4 packet as the emulator looks at."""
    return b"\x45" + bytes(11) + socket.inet_aton(source) + socket.inet_aton(target) + payload


class Bench:
    """Two hosts, A and B, and the emulator between them."""

    def __init__(self) -> None:
        self.now = 100.0
        self.emulator = Emulator(clock=lambda: self.now)
        self.ends: dict[str, socket.socket] = {}
        self.devices: dict[str, socket.socket] = {}
        for host in (A, B):
            mine, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            for sock in (mine, device):
                sock.setblocking(False)
            self.ends[host], self.devices[host] = mine, device
            self.emulator.add_device(device.fileno())

    def wire(self, source: str, target: str, **conditions: object) -> None:
        model = LinkModel(LinkConditions(**conditions), Random(1))  # type: ignore[arg-type]
        self.emulator.add_wire(source, target, model, self.devices[target].fileno())

    def turn(self) -> None:
        self.emulator.turn(longest_wait=0.0)

    def received(self, host: str) -> list[bytes]:
        packets = []
        while True:
            try:
                packets.append(self.ends[host].recv(2048))
            except BlockingIOError:
                return packets

    def close(self) -> None:
        for sock in (*self.ends.values(), *self.devices.values()):
            sock.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_a_packet_arrives_when_its_link_says(bench: Bench) -> None:
    bench.wire(A, B, delay_ms=20)
    bench.ends[A].send(packet(A, B))
    bench.turn()
    assert bench.emulator.queued == 1
    bench.now += 0.019
    bench.turn()
    assert bench.received(B) == []
    bench.now += 0.0015
    bench.turn()
    assert bench.received(B) == [packet(A, B)]
    assert bench.emulator.lateness.maximum == pytest.approx(0.0005 + HEAD_START_S)
    assert bench.emulator.wire(A, B).counters()[:3] == (1, 21, 1)


def test_each_direction_has_its_own_link(bench: Bench) -> None:
    bench.wire(A, B, delay_ms=1)
    bench.wire(B, A, down=True)
    bench.ends[A].send(packet(A, B))
    bench.ends[B].send(packet(B, A))
    bench.turn()
    bench.now += 1
    bench.turn()
    assert (len(bench.received(B)), len(bench.received(A))) == (1, 0)
    assert bench.emulator.wire(B, A).model.lost_down == 1


def test_packets_leave_in_order_of_their_time_and_twice_when_duplicated(bench: Bench) -> None:
    bench.wire(A, B, delay_ms=5, duplicate=1)
    for number in range(3):
        bench.ends[A].send(packet(A, B, bytes([number])))
        bench.turn()
        bench.now += 0.001
    bench.now += 1
    bench.turn()
    assert [data[-1] for data in bench.received(B)] == [0, 0, 1, 1, 2, 2]


def test_conditions_change_for_what_is_sent_from_then_on(bench: Bench) -> None:
    bench.wire(A, B, delay_ms=5, loss=1)
    bench.emulator.wire(A, B).set(bench.now, LinkConditions(delay_ms=1))
    bench.ends[A].send(packet(A, B))
    bench.turn()
    bench.now += 0.0011
    bench.turn()
    assert len(bench.received(B)) == 1


@pytest.mark.parametrize(
    "data", [packet(A, "10.77.9.9"), b"\x60" + packet(A, B)[1:], b"", b"\x45", os.urandom(9)]
)
def test_what_no_wire_takes_is_counted(bench: Bench, data: bytes) -> None:
    bench.wire(A, B)
    bench.ends[A].send(data)
    bench.turn()
    assert bench.emulator.unroutable == 1
    assert bench.emulator.stats()["wires"] == {}


def test_a_full_device_loses_packets_and_counts_them(bench: Bench) -> None:
    bench.wire(A, B)
    sent = 0
    for _ in range(400):
        bench.ends[A].send(packet(A, B, bytes(1400)))
        sent += 1
        bench.turn()
    bench.turn()
    assert bench.emulator.overflowed > 0
    assert len(bench.received(B)) + bench.emulator.overflowed == sent


def test_messages_come_through_whole() -> None:
    a, b = socket.socketpair()
    with a, b:
        send(a, ("set", A, B, LinkConditions(delay_ms=3)))
        assert receive(b) == ("set", A, B, LinkConditions(delay_ms=3))
        a.close()
        assert receive(b) is None


def test_lateness_quantiles_are_rounded_up_to_a_bucket() -> None:
    lateness = Lateness()
    assert lateness.quantile(0.99) == 0.0
    for microseconds in range(1, 1001):
        lateness.add(microseconds / 1e6)
    assert lateness.quantile(0.5) == pytest.approx(500e-6, abs=11e-6)
    assert lateness.quantile(0.99) == pytest.approx(990e-6, abs=11e-6)
    lateness.add(5.0)
    assert lateness.summary()["max"] == 5000.0
    assert lateness.summary()["packets"] == 1001
