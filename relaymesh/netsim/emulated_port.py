"""A UDP port whose datagrams travel over emulated links, in real time, without privileges.

Wraps a port and delays, or loses, what is sent through it, by destination.
Everything else passes straight through. With one at each end of a pair, both
directions have their link. It is what puts the regions' latencies between
processes of one machine; a production node has no way to switch it on.

How exact it is: trio waits in whole milliseconds of epoll, rounded up. The
task therefore wakes half a millisecond before a datagram is due and releases
all that are due within that half. The waiting thus errs by at most 0.5 ms to
either side and by about nothing on average; what the machine takes to run the
task, and the receiver, comes on top of it (some tenths of a millisecond, and
milliseconds when the processors are busy).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from math import inf

import trio

from relaymesh.kernels.fan_out import FanOut
from relaymesh.netsim.link_model import UDP_OVERHEAD_BYTES, LinkModel
from relaymesh.runtime.udp import Address, DatagramPort

EARLY = 0.0005  # seconds; half of epoll's millisecond
MAX_QUEUED = 20_000  # datagrams; 100 ms at 200,000 a second, more than one process sends


class EmulatedPort:
    """A :class:`~relaymesh.runtime.udp.DatagramPort` over another one.

    *models* names the link towards a destination, ``None`` for one that is not
    emulated. The order of datagrams is the model's, as long as the same model is
    named for the same destination. Nothing is released while
    :meth:`run` is not running.
    """

    def __init__(
        self,
        inner: DatagramPort,
        models: Callable[[Address], LinkModel | None],
        *,
        max_queued: int = MAX_QUEUED,
    ) -> None:
        self.address: Address = inner.address
        self.dropped = 0  # datagrams that found the queue full
        self._inner = inner
        self._models = models
        self._max_queued = max_queued
        # (when to release it, its place in line, datagram, destination). The time
        # in here and the one the task sleeps until are the same number: computed
        # twice they could differ by a rounding, and the task would spin.
        self._queue: list[tuple[float, int, bytes, Address]] = []
        self._sent = 0
        self._scope: trio.CancelScope | None = None
        self._closed = False

    @property
    def queued(self) -> int:
        """Datagrams under way."""
        return len(self._queue)

    async def receive(self) -> list[tuple[bytes, Address]]:
        """Wait for at least one datagram; see the inner port."""
        return await self._inner.receive()

    def send(self, data: bytes, address: Address) -> None:
        """Send one datagram over the link to *address*."""
        self.send_batch(((data, address),))

    def send_fan_out(self, fan_out: FanOut) -> None:
        self.send_batch(fan_out.pop())

    def send_batch(self, datagrams: Iterable[tuple[bytes, Address]]) -> None:
        """Send each datagram over the link to its address."""
        if self._closed:
            return
        now = trio.current_time()
        direct: list[tuple[bytes, Address]] = []
        for data, address in datagrams:
            model = self._models(address)
            if model is None:
                direct.append((data, address))
                continue
            for due in model.due(now, len(data) + UDP_OVERHEAD_BYTES):
                if len(self._queue) >= self._max_queued:
                    self.dropped += 1
                    continue
                self._sent += 1
                heappush(self._queue, (due - EARLY, self._sent, data, address))
        if direct:
            self._inner.send_batch(direct)
        if self._queue and self._scope is not None and self._queue[0][0] < self._scope.deadline:
            self._scope.deadline = self._queue[0][0]

    def close(self) -> None:
        """Close the inner port and forget what is under way; :meth:`run` returns."""
        self._closed = True
        self._queue.clear()
        if self._scope is not None:
            self._scope.cancel()
        self._inner.close()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Release datagrams when they are due, until the port is closed or this is cancelled."""
        task_status.started()
        while not self._closed:
            deadline = self._queue[0][0] if self._queue else inf
            with trio.CancelScope(deadline=deadline) as self._scope:
                await trio.sleep_forever()
            self._scope = None
            self._release(trio.current_time())

    def _release(self, now: float) -> None:
        due: list[tuple[bytes, Address]] = []
        while self._queue and self._queue[0][0] <= now:
            _, _, data, address = heappop(self._queue)
            due.append((data, address))
        if due:
            self._inner.send_batch(due)

    def debug_state(self) -> dict[str, object]:
        """What is under way and what was dropped, for people."""
        return {"queued": self.queued, "sent": self._sent, "dropped": self.dropped}
