"""What calls a node's core: when datagrams came, and when it is due.

Two ways to do it, with one face. :class:`TaskDriver` is three tasks of trio; the emulated network and ports
that are tasks themselves are driven so. :class:`ThreadDriver` is a loop of its own around ``epoll`` in a
thread beside trio's: a wake of trio's costs twice what this one does, and most wakes of a node bring one
datagram (ADR 0025). Signalling and the control channel stay with trio; who calls the core from there holds
:attr:`Driver.lock`, and what the core has to say to them is handed over with :meth:`Driver.tell`.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from math import inf
from typing import TYPE_CHECKING, Protocol

import trio

from relaymesh.runtime.fair_lock import FairLock
from relaymesh.runtime.timer import Timer
from relaymesh.runtime.udp import BATCH, DatagramPort, UdpPort

if TYPE_CHECKING:
    from relaymesh.node.app import Batch

# Seconds after which a thread of Python that computes must let another one in: a datagram waits no longer
# for a request's handler than it would for a task of its own thread.
SWITCH_INTERVAL = 0.001
FOREVER = -1.0  # as epoll has it


class Driven(Protocol):
    """What a driver calls, under its lock; after these :meth:`flush`, once."""

    clock: Callable[[], float]

    def take_media(self, batch: Batch, now: float) -> None:
        """Datagrams of clients came."""

    def take_relay(self, batch: Batch, now: float) -> None:
        """Datagrams of other nodes came."""

    def take_time(self, now: float) -> None:
        """What :meth:`next_timeout` said has come."""

    def flush(self) -> None:
        """Send what the calls caused."""

    def next_timeout(self) -> float | None:
        """When to be called; ``None``: only for what comes."""


class Driver(Protocol):
    """Brings a node its datagrams and its time."""

    lock: AbstractContextManager[object]  # held by whoever calls the core

    async def run(self) -> None:
        """Never returns; cancel it."""

    def poke(self) -> None:
        """The core was called from elsewhere: it may be due earlier than when last asked. Hold the lock."""

    def tell(self, hand_out: Callable[[], None]) -> None:
        """Have *hand_out* called in trio's thread, at once or soon."""

    def busy_s(self) -> float:
        """Seconds that a turn outside of trio's thread has taken so far. Needs no lock."""


MakeDriver = Callable[[Driven, DatagramPort, DatagramPort], Driver]  # the node, its media and relay ports


class CallDriver:
    """What drivers in trio's thread share: what comes by a call is handed on, and what it causes is sent."""

    poke: Callable[[], None]  # of the timer, which calls :meth:`_on_timeout` and then asks anew

    def __init__(self, node: Driven, now: Callable[[], float]) -> None:
        self.lock: AbstractContextManager[object] = nullcontext()
        self._node, self._now = node, now

    def tell(self, hand_out: Callable[[], None]) -> None:
        """Call it at once: this is trio's thread."""
        hand_out()

    def busy_s(self) -> float:
        """0: if trio's thread hangs, so does who asks."""
        return 0.0

    def _on_media(self, batch: Batch) -> None:
        self._node.take_media(batch, self._now())
        self._node.flush()
        self.poke()

    def _on_relay(self, batch: Batch) -> None:
        self._node.take_relay(batch, self._now())
        self._node.flush()
        self.poke()

    def _on_timeout(self, now: float) -> None:
        self._node.take_time(now)
        self._node.flush()


class TaskDriver(CallDriver):
    """Tasks of trio, one for each port and one for time."""

    def __init__(self, node: Driven, media: DatagramPort, relay: DatagramPort) -> None:
        super().__init__(node, node.clock)
        self.timer = Timer(node.next_timeout, self._on_timeout)
        self.poke = self.timer.poke
        self._media, self._relay = media, relay

    async def run(self) -> None:
        """Never returns; cancel it."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_media)
            nursery.start_soon(self._run_relay)
            nursery.start_soon(self.timer.run)

    async def _run_media(self) -> None:
        while True:
            self._on_media(await self._media.receive())

    async def _run_relay(self) -> None:
        while True:
            self._on_relay(await self._relay.receive())


class ThreadDriver:
    """A thread that sleeps in ``epoll`` until a port has something or the core is due.

    One wake takes what is ready on both ports, at most a batch of each, and sends all of what that causes
    together.
    """

    def __init__(self, node: Driven, media: UdpPort, relay: UdpPort) -> None:
        """The ports stay the caller's to close, after :meth:`run` has ended."""
        self.lock: AbstractContextManager[object] = FairLock()
        self._node, self._media, self._relay = node, media, relay
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._due = -inf  # when the thread will look by itself; −∞: it has not begun
        self._busy_since = inf  # when the turn began that is under way
        self._stopping = False
        self._token: trio.lowlevel.TrioToken | None = None

    @staticmethod
    def is_possible() -> bool:
        """Whether the system has what it takes."""
        return hasattr(select, "epoll") and hasattr(os, "eventfd")

    async def run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        sys.setswitchinterval(min(SWITCH_INTERVAL, sys.getswitchinterval()))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, self._loop)
                try:
                    await trio.sleep_forever()
                finally:
                    self._stopping = True
                    os.eventfd_write(self._wake, 1)
        finally:
            os.close(self._wake)
            self._wake = -1

    def poke(self) -> None:
        due = self._node.next_timeout()
        if due is not None and due < self._due and self._wake >= 0:
            self._due = due  # the next poke need not wake it again
            os.eventfd_write(self._wake, 1)

    def tell(self, hand_out: Callable[[], None]) -> None:
        if self._token is not None:  # before, nobody has been called yet
            self._token.run_sync_soon(hand_out, idempotent=True)

    def busy_s(self) -> float:
        return max(0.0, self._node.clock() - self._busy_since)

    def _loop(self) -> None:
        node, lock, clock = self._node, self.lock, self._node.clock
        media, relay, wake = self._media, self._relay, self._wake
        media_fd, relay_fd = media.fileno(), relay.fileno()
        with select.epoll() as poller:
            for fd in (media_fd, relay_fd, wake):
                poller.register(fd, select.EPOLLIN)
            with lock:
                wait = self._look_ahead()
            while True:
                ready = poller.poll(wait)
                with lock:
                    if self._stopping:
                        return
                    now = self._busy_since = clock()
                    for fd, _ in ready:
                        if fd == media_fd:
                            if batch := media.take(BATCH):
                                node.take_media(batch, now)
                        elif fd == relay_fd:
                            if batch := relay.take(BATCH):
                                node.take_relay(batch, now)
                        else:
                            os.eventfd_read(wake)
                    if now >= self._due:
                        node.take_time(now)
                    node.flush()
                    wait = self._look_ahead()
                    self._busy_since = inf

    def _look_ahead(self) -> float:
        """Seconds to sleep; every poke from here on is against when that ends."""
        due = self._node.next_timeout()
        self._due = inf if due is None else due
        return FOREVER if due is None else max(0.0, due - self._node.clock())
