"""Links by the kernel's netem, where there is one; what can be said of it elsewhere."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from relaymesh.netsim.emulate.cleanup import RunState, new_run
from relaymesh.netsim.emulate.emulator import WireSpec
from relaymesh.netsim.emulate.namespaces import NetworkNamespace
from relaymesh.netsim.emulate.netem import cannot_netem
from relaymesh.netsim.emulate.netem_world import NetemWorld, ToolFailed, run_tool
from relaymesh.netsim.emulate.plan import EmulationPlan, Host
from relaymesh.netsim.link_model import LinkConditions
from relaymesh.netsim.scenario.loader import load_scenario
from tests.netsim.emulate.kernel import needs_kernel, needs_netem

SCENARIOS = Path(__file__).parents[3] / "simulations"
A, B, STRANGER = "10.77.1.0", "10.77.1.1", "10.77.1.2"
SO_TIMESTAMPNS = 35  # asm-generic/socket.h
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="in this process it takes root")


class TwoHosts:
    """As much of a plan as a world looks at."""

    hosts = (Host("a", (A, STRANGER)), Host("b", (B,)))

    def __init__(self, there: LinkConditions) -> None:
        self._there = there

    def wires(self) -> list[WireSpec]:
        return [WireSpec(A, B, self._there, ""), WireSpec(B, A, LinkConditions(), "")]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[RunState]:
    made = new_run(tmp_path)
    yield made
    made.remove()


def open_world(state: RunState, **there: object) -> NetemWorld:
    conditions = LinkConditions(**there)  # type: ignore[arg-type]
    return NetemWorld(cast(EmulationPlan, TwoHosts(conditions)), state)


def arrivals_ms(world: NetemWorld, count: int, source: str = A) -> list[tuple[int, float]]:
    """(number, how long it took) of those of *count* packets from host a that arrive at b."""
    with world.namespaces["a"].inside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with world.namespaces["b"].inside():
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender, receiver:
        sender.bind((source, 0))
        receiver.bind((B, 9))
        receiver.settimeout(0.5)
        receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)  # we may look later
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sent = []
        for number in range(count):
            sent.append(time.time())
            sender.sendto(number.to_bytes(4, "big"), (B, 9))
        found = []
        try:
            while True:
                data, ((_, _, stamp),), _, _ = receiver.recvmsg(100, 100)
                number = int.from_bytes(data, "big")
                seconds, nanoseconds = struct.unpack("=qq", stamp)
                found.append((number, (seconds - sent[number] + nanoseconds / 1e9) * 1000))
        except TimeoutError:
            return found


@needs_netem
@needs_root
def test_packets_take_as_long_as_their_link_says_and_a_change_holds(state: RunState) -> None:
    world = open_world(state, delay_ms=40)
    try:
        first = arrivals_ms(world, 100)
        assert [number for number, _ in first] == list(range(100))
        assert 40 <= min(ms for _, ms in first) < 60
        world.set_link(A, B, LinkConditions(delay_ms=5, loss=0.5))
        second = arrivals_ms(world, 400)
        assert 5 <= min(ms for _, ms in second) < 25
        assert 100 < len(second) < 300
        world.set_link(A, B, LinkConditions(down=True))
        assert arrivals_ms(world, 5) == []
        counters = world.stats()["wires"][A, B]
        assert (counters.packets_in, counters.packets_out) == (505, 100 + len(second))
        assert counters.media_lost == 405 - len(second)
        assert counters.bytes_in == 500 * 32  # a queue that passes nothing does not know how much
    finally:
        world.close()


@needs_netem
@needs_root
def test_jitter_keeps_the_order_unless_asked(state: RunState) -> None:
    for order, kept in (("keep", True), ("free", False)):
        world = open_world(state, delay_ms=5, jitter_ms=10, jitter_order=order)
        try:
            numbers = [number for number, _ in arrivals_ms(world, 200)]
            assert sorted(numbers) == list(range(200))
            assert (numbers == sorted(numbers)) is kept
        finally:
            world.close()


@needs_netem
@needs_root
def test_packets_are_held_back_and_a_rate_has_a_queue(state: RunState) -> None:
    world = open_world(state, delay_ms=5, reorder=0.2, reorder_ms=100)
    try:
        held = [ms for _, ms in arrivals_ms(world, 500) if ms > 80]
        assert 50 < len(held) < 150
        world.set_link(A, B, LinkConditions(rate_bps=320_000, queue_ms=500))  # 32 bytes: 0.8 ms
        arrived = arrivals_ms(world, 100)
        assert 20 <= len(arrived) < 60  # 20 at once, and one more each 0.8 ms
        assert 12 < arrived[-1][1] < 40
    finally:
        world.close()


@needs_netem
@needs_root
def test_what_no_wire_takes_is_lost_and_counted(state: RunState) -> None:
    world = open_world(state)
    try:
        before = world.stats()["unroutable"]
        assert arrivals_ms(world, 5, source=STRANGER) == []
        assert world.stats()["unroutable"] >= before + 5
    finally:
        world.close()


@needs_kernel
@needs_root
def test_what_a_tool_refuses_is_told_with_its_words() -> None:
    space = NetworkNamespace.create("one")
    try:
        with pytest.raises(ToolFailed, match=r"'ip link set nowhere up' failed: .*nowhere"):
            run_tool("ip", space, ["link set lo up", "link set nowhere up"])
        with pytest.raises(ToolFailed, match="there is no 'no-such-tool'"):
            run_tool("no-such-tool", space, [])
    finally:
        space.close()


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.yaml")), ids=lambda path: path.stem)
def test_netem_has_words_for_every_shipped_scenario(path: Path) -> None:
    assert cannot_netem(load_scenario(path)) == []


def test_a_scenario_netem_cannot_do_is_told_by_link_and_condition() -> None:
    fault = "[{kind: conditions, between: [a, t1], at_s: 7, duplicate: 0.1}]"
    problems = cannot_netem(load_scenario(SCENARIOS / "two-hops.yaml", {"faults": fault}))
    assert [text.split(": ")[1:3] for text in problems] == [
        ["a to t1 at 7 s", "duplicate"],
        ["t1 to a at 7 s", "duplicate"],
    ]
