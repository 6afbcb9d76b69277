"""The thread that drives a node: what it takes together, when it wakes, how it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import trio

from relaymesh.node.driver import ThreadDriver
from relaymesh.runtime.udp import BATCH, UdpPort

pytestmark = pytest.mark.skipif(not ThreadDriver.is_possible(), reason="the system has no epoll")


@dataclass
class Toy:
    """Answers each datagram, and notes in which wake, thread and order it was called."""

    media: UdpPort = field(default_factory=lambda: UdpPort.open("127.0.0.1", 0))
    relay: UdpPort = field(default_factory=lambda: UdpPort.open("127.0.0.1", 0))
    clock: Callable[[], float] = time.monotonic
    due: float | None = None
    called: list[tuple[str, int]] = field(default_factory=list)  # which way, how many datagrams
    wakes: list[list[tuple[str, int]]] = field(default_factory=list)  # of those that called anything
    threads: set[int] = field(default_factory=set)
    on_flush: Callable[[], None] = lambda: None

    def take_media(self, batch: list[tuple[bytes, tuple[str, int]]], now: float) -> None:
        self.called.append(("media", len(batch)))
        if batch[0][0] == b"bug":
            raise ValueError("a bug that nobody caught")
        self.media.send_batch(batch)

    def take_relay(self, batch: list[tuple[bytes, tuple[str, int]]], now: float) -> None:
        self.called.append(("relay", len(batch)))

    def take_time(self, now: float) -> None:
        assert self.due is None or now >= self.due
        self.due = None
        self.called.append(("time", 0))

    def next_timeout(self) -> float | None:
        return self.due

    def flush(self) -> None:
        self.threads.add(threading.get_ident())
        if self.called:
            self.wakes.append(self.called)
            self.called = []
        self.on_flush()

    def close(self) -> None:
        self.media.close()
        self.relay.close()


async def until(true: Callable[[], bool]) -> None:
    with trio.fail_after(5):
        while not true():
            await trio.sleep(0.001)


async def test_one_wake_takes_what_waits_on_both_ports_and_a_thread_of_its_own_does_it() -> None:
    toy = Toy()
    client = UdpPort.open("127.0.0.1", 0)
    driver = ThreadDriver(toy, toy.media, toy.relay)
    client.send_batch([(bytes([k]), toy.media.address) for k in range(5)])
    client.send_batch([(b"x", toy.relay.address)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run)
        with trio.fail_after(5):
            answered = [data for data, _ in await client.receive()]
        await until(lambda: len(toy.wakes) > 0)
        nursery.cancel_scope.cancel()
    assert answered == [bytes([k]) for k in range(5)]
    assert sorted(toy.wakes[0]) == [("media", 5), ("relay", 1)]
    assert threading.get_ident() not in toy.threads and len(toy.threads) == 1
    toy.close()
    client.close()


async def test_a_batch_is_bounded_so_that_time_and_signalling_have_their_turn() -> None:
    toy = Toy()
    client = UdpPort.open("127.0.0.1", 0)
    for k in range(BATCH + 5):
        client.send_batch([(bytes([k]), toy.relay.address)])
    driver = ThreadDriver(toy, toy.media, toy.relay)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run)
        await until(lambda: len(toy.wakes) >= 2)
        nursery.cancel_scope.cancel()
    assert [size for wake in toy.wakes for way, size in wake if way == "relay"] == [BATCH, 5]
    toy.close()
    client.close()


async def test_it_calls_when_the_core_is_due_and_a_poke_makes_that_earlier() -> None:
    toy = Toy(due=time.monotonic() + 0.05)
    driver = ThreadDriver(toy, toy.media, toy.relay)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run)
        await until(lambda: len(toy.wakes) == 1)
        with driver.lock:
            toy.due = time.monotonic() + 0.01
            driver.poke()
        await until(lambda: len(toy.wakes) == 2)
        nursery.cancel_scope.cancel()
    assert toy.wakes == [[("time", 0)]] * 2
    toy.close()


async def test_what_the_core_says_is_handed_out_in_trios_thread() -> None:
    toy = Toy()
    client = UdpPort.open("127.0.0.1", 0)
    driver = ThreadDriver(toy, toy.media, toy.relay)
    heard: list[int] = []
    toy.on_flush = lambda: driver.tell(lambda: heard.append(threading.get_ident()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run)
        client.send_batch([(b"x", toy.relay.address)])
        await until(lambda: bool(heard))
        nursery.cancel_scope.cancel()
    assert set(heard) == {threading.get_ident()}
    toy.close()
    client.close()


async def test_a_thread_that_dies_takes_the_node_with_it_and_says_why() -> None:
    toy = Toy()
    client = UdpPort.open("127.0.0.1", 0)
    driver = ThreadDriver(toy, toy.media, toy.relay)
    client.send_batch([(b"bug", toy.media.address)])
    with pytest.raises(ExceptionGroup) as caught, trio.fail_after(5):
        await driver.run()
    assert caught.group_contains(ValueError, match="a bug that nobody caught")
    toy.close()
    client.close()


async def test_it_ends_when_it_is_cancelled_though_it_waits_for_ever() -> None:
    toy = Toy()
    driver = ThreadDriver(toy, toy.media, toy.relay)
    with trio.move_on_after(0.05):
        await driver.run()
    with driver.lock:
        toy.due = 0.0
        driver.poke()  # nobody is there to be woken
    assert len(toy.wakes) <= 1
    toy.close()


async def test_how_long_a_turn_takes_is_seen_from_outside() -> None:
    toy = Toy()
    client = UdpPort.open("127.0.0.1", 0)
    driver = ThreadDriver(toy, toy.media, toy.relay)
    hangs, goes_on = threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        goes_on.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run)
        assert driver.busy_s() == 0.0
        toy.on_flush = hang
        client.send_batch([(b"x", toy.relay.address)])
        await until(hangs.is_set)
        await until(lambda: driver.busy_s() > 0.02)
        goes_on.set()
        await until(lambda: driver.busy_s() == 0.0)
        nursery.cancel_scope.cancel()
    toy.close()
    client.close()
