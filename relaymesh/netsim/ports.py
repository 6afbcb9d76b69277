"""A UDP port of an emulated host, with the face of :class:`relaymesh.runtime.udp.DatagramPort`.

Arrivals go straight into its queue, from inside the jump of the clock; the task
that waits is woken once for all that arrive together. Or they go to a function, one by one or all
of an instant together. There is no packet on a wire before :meth:`SimUdpPort.send_batch` and none
after the queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

import trio

from relaymesh.kernels.fan_out import FanOut
from relaymesh.netsim.clock import Timeline
from relaymesh.runtime.udp import BATCH, Address

Batch = list[tuple[bytes, Address]]  # datagrams and where they came from

QUEUE_DATAGRAMS = 4096  # about what the 4 MiB buffer of a real port holds of full datagrams


class Wire(Protocol):
    """A port's view of the network it is on."""

    def send_datagrams(self, source: Address, datagrams: Iterable[tuple[bytes, Address]]) -> int:
        """Send each to its address; how many were too long to be sent."""

    def forget_port(self, port: SimUdpPort) -> None:
        """*port* was closed."""


class SimUdpPort:
    """A bound port; :meth:`Network.udp_port` makes it."""

    def __init__(self, network: Wire, address: Address) -> None:
        self.address: Address = address
        self.send_failures = 0  # datagrams no UDP can carry, or sent after closing
        self.dropped = 0  # datagrams that found the receive queue full
        self._network = network
        self._queue: deque[tuple[bytes, Address]] = deque()
        self._waiter: trio.lowlevel.Task | None = None
        self.handler: Callable[[bytes, Address], None] | None = None  # is told each arrival, if there is one
        self._batch_handler: Callable[[Batch], None] = _ignore
        self._together: Batch = []  # what arrived in this instant and is not handed over yet
        self.takes_batches = False  # arrivals are told by :meth:`take_batch`
        self.closed = False

    async def receive(self) -> list[tuple[bytes, Address]]:
        """Wait for at least one datagram; return all that are there, at most a batch.

        Raises:
            trio.ClosedResourceError: the port is closed.
            trio.BusyResourceError: another task waits already.
        """
        queue = self._queue
        if self.closed:
            raise trio.ClosedResourceError("this port was closed")
        if queue:
            await trio.lowlevel.checkpoint()
        else:
            if self._waiter is not None:
                raise trio.BusyResourceError("another task receives from this port")
            self._waiter = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort_wait)
        if self.closed:
            raise trio.ClosedResourceError("this port was closed")
        if len(queue) <= BATCH:
            batch = list(queue)
            queue.clear()
            return batch
        return [queue.popleft() for _ in range(BATCH)]

    def deliver_to(self, handler: Callable[[bytes, Address], None] | None) -> None:
        """Hand each datagram to *handler* as it arrives, without a task.

        It is called between the steps of tasks and must not block.
        """
        self.handler = handler

    def deliver_batches_to(self, handler: Callable[[Batch], None]) -> None:
        """Hand all datagrams that arrive in one instant to *handler* together, as a real port does with
        what waits in it. It is called as that of :meth:`deliver_to`.
        """
        self._batch_handler, self.takes_batches = handler, True

    def send_fan_out(self, fan_out: FanOut) -> None:
        self.send_batch(fan_out.pop())

    def send_batch(self, datagrams: Iterable[tuple[bytes, Address]]) -> None:
        """Send all now, each over the link to its address."""
        if self.closed:
            self.send_failures += sum(1 for _ in datagrams)
        else:
            self.send_failures += self._network.send_datagrams(self.address, datagrams)

    def close(self) -> None:
        """Close it; :meth:`receive` then raises ``trio.ClosedResourceError``."""
        if self.closed:
            return
        self.closed = True
        self._queue.clear()
        self._together.clear()
        self._network.forget_port(self)
        self._wake()

    def arrive(self, data: bytes, source: Address) -> bool:
        """The network brings a datagram for the queue; whether there was room for it."""
        if len(self._queue) >= QUEUE_DATAGRAMS:
            self.dropped += 1
            return False
        self._queue.append((data, source))
        if self._waiter is not None:
            self._wake()
        return True

    def take_batch(self, batch: Batch, timeline: Timeline) -> None:
        """The network brings datagrams to a port that :attr:`takes_batches`."""
        if self._together:
            self._together += batch
        elif timeline.next_time() <= timeline.now:  # more may come in this instant
            self._together = batch
            timeline.at(timeline.now, self._hand_over)
        else:
            self._batch_handler(batch)

    def _hand_over(self) -> None:
        batch, self._together = self._together, []
        if batch:
            self._batch_handler(batch)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            trio.lowlevel.reschedule(waiter)

    def _abort_wait(self, _: object) -> trio.lowlevel.Abort:
        self._waiter = None
        return trio.lowlevel.Abort.SUCCEEDED

    def debug_state(self) -> dict[str, object]:
        """For people."""
        return {"address": self.address, "queued": len(self._queue), "dropped": self.dropped}


def _ignore(batch: Batch) -> None:
    """Nobody said who takes them."""
