from __future__ import annotations

from collections.abc import Iterable
from random import Random

import pytest
import trio
from trio.testing import MockClock

from relaymesh.netsim.emulated_port import EARLY, EmulatedPort
from relaymesh.netsim.link_model import LinkConditions, LinkModel
from relaymesh.runtime.udp import Address, DatagramPort

NEAR, FAR, LOCAL = ("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.3", 3)


class RecordingPort:
    """The inner port: notes what is sent and when; receives what it is given."""

    def __init__(self) -> None:
        self.address: Address = ("127.0.0.1", 9)
        self.sent: list[tuple[float, bytes, Address]] = []
        self.batches = 0
        self.closed = False
        self.incoming: list[tuple[bytes, Address]] = [(b"in", FAR)]

    async def receive(self) -> list[tuple[bytes, Address]]:
        await trio.lowlevel.checkpoint()
        return self.incoming

    def send_batch(self, datagrams: Iterable[tuple[bytes, Address]]) -> None:
        self.batches += 1
        self.sent += [(trio.current_time(), data, address) for data, address in datagrams]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def clock() -> MockClock:
    return MockClock(autojump_threshold=0)


@pytest.fixture
def inner() -> RecordingPort:
    return RecordingPort()


def links(**models: LinkModel) -> dict[Address, LinkModel]:
    return {{"near": NEAR, "far": FAR}[name]: model for name, model in models.items()}


async def test_it_has_the_face_of_a_port(inner: RecordingPort, clock: MockClock) -> None:
    port: DatagramPort = EmulatedPort(inner, lambda _: None)
    assert port.address == ("127.0.0.1", 9)
    assert await port.receive() == [(b"in", FAR)]
    port.close()
    assert inner.closed


async def test_each_destination_has_its_delay(
    inner: RecordingPort, clock: MockClock, nursery: trio.Nursery
) -> None:
    models = links(
        near=LinkModel(LinkConditions(delay_ms=10), Random(1)),
        far=LinkModel(LinkConditions(delay_ms=50), Random(2)),
    )
    port = EmulatedPort(inner, models.get)
    await nursery.start(port.run)
    start = trio.current_time()
    port.send_batch([(b"far", FAR), (b"near", NEAR), (b"local", LOCAL)])
    port.send(b"near too", NEAR)
    await trio.sleep(1)
    # In virtual time the task wakes exactly when it asks to: early by EARLY.
    expected = [
        (0.0, b"local"),
        (0.010 - EARLY, b"near"),
        (0.010 - EARLY, b"near too"),
        (0.050 - EARLY, b"far"),
    ]
    assert [data for _, data, _ in inner.sent] == [data for _, data in expected]
    for (at, _, _), (after, _) in zip(inner.sent, expected, strict=True):
        assert at - start == pytest.approx(after, abs=1e-6)
    assert inner.batches == 3  # what is due together leaves together
    assert port.queued == 0


async def test_a_nearer_datagram_overtakes_the_sleep_of_a_farther_one(
    inner: RecordingPort, clock: MockClock, nursery: trio.Nursery
) -> None:
    models = links(
        near=LinkModel(LinkConditions(delay_ms=1), Random(1)),
        far=LinkModel(LinkConditions(delay_ms=500), Random(2)),
    )
    port = EmulatedPort(inner, models.get)
    await nursery.start(port.run)
    port.send(b"far", FAR)
    await trio.sleep(0.1)
    port.send(b"near", NEAR)
    await trio.sleep(0.1)
    assert [data for _, data, _ in inner.sent] == [b"near"]
    await trio.sleep(0.4)
    assert [data for _, data, _ in inner.sent] == [b"near", b"far"]


async def test_order_is_kept_on_each_link_and_every_datagram_is_near_its_time(
    inner: RecordingPort, clock: MockClock, nursery: trio.Nursery
) -> None:
    models = links(
        near=LinkModel(LinkConditions(delay_ms=8, jitter_ms=5), Random(1)),
        far=LinkModel(LinkConditions(delay_ms=8, jitter_ms=5), Random(2)),
    )
    port = EmulatedPort(inner, models.get)
    await nursery.start(port.run)
    for number in range(500):
        for address in (NEAR, FAR):
            port.send(number.to_bytes(2, "big"), address)
        await trio.sleep(0.0007)
    await trio.sleep(1)
    for address in (NEAR, FAR):
        assert [data for _, data, to in inner.sent if to == address] == [
            n.to_bytes(2, "big") for n in range(500)
        ]


async def test_loss_and_cuts_happen_on_the_way_out(
    inner: RecordingPort, clock: MockClock, nursery: trio.Nursery
) -> None:
    link = LinkModel(LinkConditions(delay_ms=5), Random(1))
    port = EmulatedPort(inner, links(far=link).get)
    await nursery.start(port.run)
    port.send(b"under way", FAR)
    link.apply(trio.current_time(), down=True)
    port.send(b"cut", FAR)
    await trio.sleep(1)
    link.apply(trio.current_time(), down=False)
    port.send(b"back", FAR)
    await trio.sleep(1)
    assert [data for _, data, _ in inner.sent] == [b"under way", b"back"]
    assert link.lost == 1


async def test_a_full_queue_drops_and_counts(
    inner: RecordingPort, clock: MockClock, nursery: trio.Nursery
) -> None:
    port = EmulatedPort(inner, links(far=LinkModel(LinkConditions(delay_ms=5), Random(1))).get, max_queued=3)
    await nursery.start(port.run)
    port.send_batch([(bytes([number]), FAR) for number in range(5)] + [(b"direct", LOCAL)])
    assert (port.queued, port.dropped) == (3, 2)
    await trio.sleep(1)
    assert [data for _, data, _ in inner.sent] == [b"direct", b"\0", b"\1", b"\2"]
    assert port.debug_state() == {"queued": 0, "sent": 3, "dropped": 2}


async def test_what_is_sent_before_run_waits_for_it(
    inner: RecordingPort, clock: MockClock, nursery: trio.Nursery
) -> None:
    port = EmulatedPort(inner, links(far=LinkModel(LinkConditions(delay_ms=5), Random(1))).get)
    port.send(b"early", FAR)
    await trio.sleep(1)
    assert inner.sent == []
    await nursery.start(port.run)
    await trio.sleep(0)
    await trio.sleep(0.001)
    assert [data for _, data, _ in inner.sent] == [b"early"]


async def test_closing_ends_run_and_forgets_what_is_under_way(inner: RecordingPort, clock: MockClock) -> None:
    port = EmulatedPort(inner, links(far=LinkModel(LinkConditions(delay_ms=5), Random(1))).get)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(port.run)
            port.send(b"lost", FAR)
            port.close()
            port.send(b"after", FAR)
    assert inner.closed and inner.sent == [] and port.queued == 0


async def test_cancelling_run_ends_it(inner: RecordingPort, clock: MockClock) -> None:
    port = EmulatedPort(inner, links(far=LinkModel(LinkConditions(delay_ms=5), Random(1))).get)
    with trio.move_on_after(1) as scope:
        await port.run()
    assert scope.cancelled_caught
