"""Two protocol objects over a bad network, in virtual time.

Conditions → run → check: a :class:`Pair` owns the clock, carries datagrams both
ways with seeded loss, delay, jitter, reordering and duplication, and drives
both ends with ``handle_datagram``, ``handle_timeout`` and ``poll_datagrams``.
A run that takes more steps than it was allowed fails instead of hanging.

    pair = Pair(a, b, seed=7)
    pair.forth.loss = 0.2          # a → b
    pair.run(5.0)
    assert pair.received[b] == [...]
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

SETTLE_STEPS = 1000  # rounds of polling at one instant


class Peer(Protocol):
    """The face of a stateful protocol object."""

    def handle_datagram(self, datagram: bytes, now: float) -> Any: ...
    def poll_datagrams(self, now: float) -> list[bytes]: ...
    def next_timeout(self) -> float | None: ...
    def handle_timeout(self, now: float) -> None: ...


@dataclass(slots=True)
class Conditions:
    """Of one direction; may be changed while the network runs."""

    delay: float = 0.01  # seconds, one way
    jitter: float = 0.0  # seconds, added uniformly from 0 (so packets may overtake each other)
    loss: float = 0.0  # fraction
    duplicate: float = 0.0  # fraction that arrives twice
    reorder: float = 0.0  # fraction that is held back by reorder_delay
    reorder_delay: float = 0.05  # seconds
    corrupt: float = 0.0  # fraction with one byte changed


class Pair:
    """Peers *a* and *b*; ``forth`` carries a → b, ``back`` b → a."""

    def __init__(
        self,
        a: Peer,
        b: Peer,
        *,
        forth: Conditions | None = None,
        back: Conditions | None = None,
        seed: int = 1,
        start: float = 0.0,
        errors: tuple[type[Exception], ...] = (),
    ) -> None:
        """*errors* that ``handle_datagram`` raises are kept in ``self.errors`` instead of failing the run."""
        self.a, self.b = a, b
        self.forth = forth or Conditions()
        self.back = back or Conditions()
        self.now = start
        self.received: dict[Peer, list[Any]] = {a: [], b: []}  # what handle_datagram returned, if anything
        self.errors: dict[Peer, list[Exception]] = {a: [], b: []}
        self.sent: dict[Peer, int] = {a: 0, b: 0}  # datagrams given to the network
        self.asleep: set[Peer] = set()  # neither driven nor delivered to; datagrams wait for them
        self.after_step: Callable[[], None] | None = None
        self._caught = errors
        self._rng = random.Random(seed)
        self._order = itertools.count()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._waiting: list[tuple[Peer, bytes]] = []  # arrived at a sleeper

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do *action* at the virtual time *when*."""
        heapq.heappush(self._queue, (when, next(self._order), action))

    def send(self, sender: Peer, datagram: bytes) -> None:
        """Give *datagram* to the network now."""
        self.sent[sender] += 1
        to, way = (self.b, self.forth) if sender is self.a else (self.a, self.back)
        rng = self._rng
        if rng.random() < way.loss:
            return
        for _ in range(2 if rng.random() < way.duplicate else 1):
            delay = way.delay + rng.random() * way.jitter
            if rng.random() < way.reorder:
                delay += way.reorder_delay
            data = datagram
            if rng.random() < way.corrupt:
                at = rng.randrange(len(data))
                data = data[:at] + bytes([data[at] ^ rng.randrange(1, 256)]) + data[at + 1 :]
            self.at(self.now + delay, lambda data=data: self._arrive(to, data))  # type: ignore[misc]

    def run(self, seconds: float, *, max_steps: int = 100_000) -> None:
        """Let *seconds* of virtual time pass."""
        self.run_until(lambda: False, self.now + seconds, max_steps=max_steps)

    def run_until(self, done: Callable[[], bool], deadline: float, *, max_steps: int = 100_000) -> bool:
        """Run until *done* or the virtual time *deadline*; whether it was done."""
        self._settle()
        for _ in range(max_steps):
            if done():
                return True
            when = self._next_event()
            if when is None or when > deadline:
                self.now = max(self.now, deadline)
                return False
            self.now = max(self.now, when)
            while self._queue and self._queue[0][0] <= self.now:
                heapq.heappop(self._queue)[2]()
            self._settle()
            if self.after_step:
                self.after_step()
        raise AssertionError(f"no end after {max_steps} steps, at {self.now:.3f} s")

    def wake(self, peer: Peer) -> None:
        """End the sleep of *peer*: as in a real loop, its timers come before what waits in its socket."""
        self.asleep.discard(peer)
        self._settle()
        waiting, self._waiting = self._waiting, []
        for to, datagram in waiting:
            self._arrive(to, datagram)
        self._settle()

    def _awake(self) -> list[Peer]:
        return [peer for peer in (self.a, self.b) if peer not in self.asleep]

    def _next_event(self) -> float | None:
        times = [timeout for peer in self._awake() if (timeout := peer.next_timeout()) is not None]
        if self._queue:
            times.append(self._queue[0][0])
        return min(times, default=None)

    def _arrive(self, to: Peer, datagram: bytes) -> None:
        if to in self.asleep:
            self._waiting.append((to, datagram))
            return
        try:
            result = to.handle_datagram(datagram, self.now)
        except self._caught as error:
            self.errors[to].append(error)
        else:
            if result:
                self.received[to].append(result)

    def _settle(self) -> None:
        for _ in range(SETTLE_STEPS):
            busy = False
            for peer in self._awake():
                timeout = peer.next_timeout()
                if timeout is not None and timeout <= self.now:
                    peer.handle_timeout(self.now)
                    busy = True
                for datagram in peer.poll_datagrams(self.now):
                    self.send(peer, datagram)
                    busy = True
            if not busy:
                return
        raise AssertionError(f"no rest after {SETTLE_STEPS} rounds at {self.now:.3f} s")
