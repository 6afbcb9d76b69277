"""What a node is given in the emulated network instead of sockets and timers of its own.

A task for each port and timer would cost more than what the node does with a
packet. Here datagrams and time come to it by calls from the network's timeline,
which lead to the same methods as those of real sockets. Also here: a link that counts.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import trio

from relaymesh.netsim.link_model import LinkModel
from relaymesh.netsim.local_clock import LocalClock
from relaymesh.netsim.net import Network
from relaymesh.node.app import Batch
from relaymesh.node.driver import CallDriver, Driven

MEDIA_LEAST = 120  # bytes of an IP packet on a relay link; probes and echoes are smaller, media is not


class DirectPort:
    """A node's UDP port whose datagrams go to *handle* without a task in between.

    What arrives in one instant is handed over together, as a real port does
    with what waits in it.
    """

    def __init__(self, network: Network, host: str, port: int) -> None:
        self._inner = network.udp_port(host, port)
        self._inner.deliver_batches_to(_ignore)
        self.address = self._inner.address
        self.send_batch = self._inner.send_batch
        self.send_fan_out = self._inner.send_fan_out
        self.close = self._inner.close

    def give_to(self, handle: Callable[[Batch], None]) -> None:
        self._inner.deliver_batches_to(handle)

    async def receive(self) -> Batch:
        await trio.sleep_forever()
        raise AssertionError("it sleeps for ever")


def _ignore(batch: Batch) -> None:
    """The node is not there (any more)."""


class NetworkTimer:
    """A :class:`~relaymesh.runtime.timer.Timer` in the network's timeline instead of a task.

    With a *clock* the timeouts, and what is told of the time, are its; without one, the network's.
    """

    def __init__(
        self,
        network: Network,
        next_timeout: Callable[[], float | None],
        on_timeout: Callable[[float], None],
        *,
        clock: LocalClock | None = None,
    ) -> None:
        self._timeline = network.timeline
        self._clock = clock
        self._next_timeout = next_timeout
        self._on_timeout = on_timeout
        self._due = inf
        self._turn = 0  # of what was scheduled only the latest counts
        self._running = False

    def poke(self) -> None:
        if not self._running or self._due == -inf:
            return
        deadline = self._next_timeout()
        if deadline is not None and deadline < self._due:
            self._schedule(deadline)

    def clock_changed(self) -> None:
        """The clock goes at another speed: what is due comes at another time."""
        if -inf < self._due < inf:
            self._schedule(self._due)

    async def run(self) -> None:
        self._running = True
        self.poke()
        try:
            await trio.sleep_forever()
        finally:
            self._running = False

    def _schedule(self, when: float) -> None:
        self._due = when
        self._turn += 1
        if self._clock is not None:
            when = self._clock.when(when)
        self._timeline.at(max(when, self._timeline.now), self._fire, self._turn)

    def _fire(self, turn: int) -> None:
        if self._running and turn == self._turn:
            now = self._timeline.now
            self._due = -inf  # what the core wants after this is asked below: a poke until then asks nothing
            self._on_timeout(now if self._clock is None else self._clock.read(now))
            self._due = inf
            self.poke()


class NetworkDriver(CallDriver):
    """A :class:`~relaymesh.node.driver.Driver` of direct ports, in the network's timeline."""

    def __init__(
        self,
        network: Network,
        node: Driven,
        media: DirectPort,
        relay: DirectPort,
        *,
        clock: LocalClock | None = None,
    ) -> None:
        timeline = network.timeline
        # Without a clock of its own the node's is trio's, which says the same for more.
        super().__init__(node, (lambda: timeline.now) if clock is None else node.clock)
        self.timer = NetworkTimer(network, node.next_timeout, self._on_timeout, clock=clock)
        self.poke, self.run = self.timer.poke, self.timer.run
        media.give_to(self._on_media)
        relay.give_to(self._on_relay)


class RelayLink:
    """One direction between two nodes: the model, and what went into it."""

    __slots__ = ("_due", "bytes", "lost", "media", "model")

    def __init__(self, model: LinkModel) -> None:
        self.model = model
        self._due = model.due
        self.bytes = 0  # of IP packets
        self.media = self.lost = 0  # datagrams with media; of those: lost

    def due(self, now: float, size: int) -> tuple[float, ...]:
        arrivals = self._due(now, size)
        self.bytes += size
        if size > MEDIA_LEAST:
            self.media += 1
            if not arrivals:
                self.lost += 1
        return arrivals
