"""Relay links over emulated wires in virtual time: what the link benchmarks are driven by.

In: :class:`~relaymesh.protocol.link.Link` objects, a model for each direction. Out:
calls of ``on_frame`` when a routed frame comes up. Knows no benchmark and no figures.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from relaymesh.netsim.link_model import LinkModel
from relaymesh.protocol.frames import HEAD_BYTES
from relaymesh.protocol.link import Link

OnFrame = Callable[[Link, bytes], None]  # who received, the frame's body
IP_UDP_BYTES = 28  # what a rate counts besides the datagram


class Wires:
    """Any number of links, each with its peer, on one virtual clock."""

    def __init__(self, on_frame: OnFrame) -> None:
        self.now = 0.0
        self._on_frame = on_frame
        self._order = itertools.count()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._ways: dict[Link, tuple[Link, LinkModel]] = {}
        self._wake: dict[Link, float] = {}

    def join(self, one: Link, other: Link, forth: LinkModel, back: LinkModel) -> None:
        """*one* and *other* are peers. Directions may share a model: then they share its queue and rate."""
        self._ways[one] = other, forth
        self._ways[other] = one, back

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do *action* at *when*."""
        heapq.heappush(self._queue, (max(when, self.now), next(self._order), action))

    def send(self, link: Link, frame: bytes) -> None:
        """*link* sends a routed *frame* now, or when its turn comes."""
        for datagram in link.send(frame, self.now):
            self._carry(link, datagram)
        self.drive(link)

    def _carry(self, sender: Link, datagram: bytes) -> None:
        receiver, model = self._ways[sender]
        for when in model.due(self.now, len(datagram) + IP_UDP_BYTES):
            self.at(when, lambda: self._arrive(receiver, datagram))

    def _arrive(self, receiver: Link, datagram: bytes) -> None:
        for frame in receiver.handle_datagram(datagram, self.now):
            self._on_frame(receiver, frame[HEAD_BYTES:])
        self.drive(receiver)

    def drive(self, link: Link) -> None:
        """Send what is due, and see that the link is called again."""
        for datagram in link.poll_datagrams(self.now):
            self._carry(link, datagram)
        due = link.next_timeout()
        if due is not None and due != self._wake.get(link):
            self._wake[link] = due
            self.at(due, lambda: self._timer(link, due))

    def _timer(self, link: Link, due: float) -> None:
        if self._wake.get(link) == due:
            del self._wake[link]
            link.handle_timeout(self.now)
            self.drive(link)

    def advance(self, until: float) -> None:
        """Let the time pass."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            self.now, _, action = heapq.heappop(queue)
            action()
        self.now = until
