"""The relay port of a node: its links to the neighbours, by index.

In: datagrams from the UDP port, link configurations from the controller. Out:
routed frames that authenticated neighbours sent, datagrams to send, and which
links came up or went down. Whatever arrives without a valid seal changes
nothing and is answered with nothing; a counter says why it was refused.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import inf
from random import Random

from relaymesh.node.dues import Dues
from relaymesh.node.tap import Tap
from relaymesh.protocol.control import ControlEvent
from relaymesh.protocol.datagram import read_header
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.link import Link
from relaymesh.protocol.link_events import LinkEvent
from relaymesh.protocol.messages import LinkConfig, LinkReport

Address = tuple[str, int]


@dataclass(slots=True)
class Neighbour:
    """A link and where its other end is reached."""

    name: str
    address: Address
    link: Link


class RelayPort:
    """All links of this node; one UDP port carries them."""

    def __init__(self, rng: Random, tap: Tap | None = None) -> None:
        self._rng = rng
        self._tap = tap
        self._neighbours: dict[int, Neighbour] = {}
        # When each link is to be called, and whose time may have changed: a node has many links, and
        # between two timeouts few of them are touched.
        self._due = Dues()
        self._touched: set[int] = set()
        self._outbox: list[tuple[bytes, Address]] = []
        self._events: list[tuple[int, LinkEvent]] = []
        self._control_events: list[tuple[int, ControlEvent]] = []
        self.refused: Counter[str] = Counter()  # datagrams, by ProtocolError.reason

    # --- configuration -------------------------------------------------------------------------

    def set_link(
        self, config: LinkConfig, *, own_index: int, probe_interval: float, dead_after: float, now: float
    ) -> None:
        """Add the neighbour, or give its link another address or newer keys.

        Raises:
            ProtocolError: the keys cannot be used; the link stays as it was.
        """
        address = (config.address.host, config.address.port)
        neighbour = self._neighbours.get(config.peer)
        if neighbour is None:
            link = Link(
                own_index=own_index,
                peer_index=config.peer,
                probe_interval=probe_interval,
                dead_after=dead_after,
                rng=self._rng,
            )
            neighbour = Neighbour(config.name, address, link)
        neighbour.link.install_key(config.epoch, config.send_key, config.receive_key, now)
        neighbour.name = config.name
        neighbour.address = address
        self._neighbours[config.peer] = neighbour
        self._touched.add(config.peer)

    def remove_link(self, peer: int) -> None:
        self._neighbours.pop(peer, None)
        self._due.forget(peer)

    def clear(self) -> None:
        """Forget all links: our own index changed, and with it what every datagram says."""
        self._neighbours.clear()
        self._due.clear()

    # --- datagrams -----------------------------------------------------------------------------

    def handle_datagram(self, data: bytes, now: float) -> tuple[int, list[tuple[int, bytes]]]:
        """(index of the neighbour, its routed frames); no frames when it is refused."""
        try:
            sender = read_header(data).sender
            neighbour = self._neighbours.get(sender)
            if neighbour is None:
                raise ProtocolError("unknown_sender", f"index {sender}")
            frames = neighbour.link.handle_datagram(data, now)
        except ProtocolError as error:
            self.refused[error.reason] += 1
            return -1, []
        self._collect(sender, neighbour, now)
        return sender, frames

    def send(self, peer: int, frame: bytes, now: float) -> bool:
        """Seal *frame* for the neighbour; ``False`` when there is no such link or it has no key."""
        if self._tap is not None:
            self._tap.note_relayed(peer, frame)
        neighbour = self._neighbours.get(peer)
        if neighbour is None:
            return False
        try:
            datagrams = neighbour.link.send(frame, now)
        except ProtocolError:
            return False
        self._touched.add(peer)
        for datagram in datagrams:
            self._outbox.append((datagram, neighbour.address))
        if neighbour.link.send_due <= now:
            self._collect(peer, neighbour, now)
        return True

    def send_control(self, peer: int, channel: int, data: bytes, now: float) -> bool:
        """Send a reliable message to the neighbour; ``False`` when there is no such link.

        Raises:
            ChannelFull: too many wait.
            ValueError: no such channel, or the message is too long.
        """
        neighbour = self._neighbours.get(peer)
        if neighbour is None:
            return False
        neighbour.link.send_control(channel, data, now)
        self._collect(peer, neighbour, now)
        return True

    def poll_control(self) -> list[tuple[int, ControlEvent]]:
        """(neighbour, its message or what happened to a channel)."""
        events, self._control_events = self._control_events, []
        return events

    def take_unacknowledged(self, peer: int) -> list[bytes]:
        """What was sent to the neighbour and is not known to have arrived, as frames, oldest first."""
        neighbour = self._neighbours.get(peer)
        if neighbour is None:
            return []
        self._touched.add(peer)
        return neighbour.link.take_unacknowledged()

    def poll_datagrams(self) -> list[tuple[bytes, Address]]:
        outbox, self._outbox = self._outbox, []
        return outbox

    def poll_events(self) -> list[tuple[int, LinkEvent]]:
        """(neighbour, what happened to its link)."""
        events, self._events = self._events, []
        return events

    # --- time ----------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        self._settle()
        first = self._due.first()
        return None if first == inf else first

    def handle_timeout(self, now: float) -> None:
        self._settle()
        for peer in self._due.take(now):
            neighbour = self._neighbours[peer]
            neighbour.link.handle_timeout(now)
            self._collect(peer, neighbour, now)

    def _settle(self) -> None:
        """Ask the links that were touched when they want to be called."""
        for peer in self._touched:
            neighbour = self._neighbours.get(peer)
            if neighbour is not None:
                at = neighbour.link.next_timeout()
                self._due.set(peer, inf if at is None else at)
        self._touched.clear()

    def _collect(self, peer: int, neighbour: Neighbour, now: float) -> None:
        """What one link wants sent and told; only the link that was touched is asked."""
        self._touched.add(peer)
        for event in neighbour.link.poll_events():
            self._events.append((peer, event))
        if told := neighbour.link.poll_control():
            self._control_events += [(peer, event) for event in told]
        for datagram in neighbour.link.poll_datagrams(now):
            self._outbox.append((datagram, neighbour.address))

    # --- what is known -------------------------------------------------------------------------

    def name_of(self, peer: int) -> str:
        neighbour = self._neighbours.get(peer)
        return neighbour.name if neighbour is not None else f"#{peer}"

    def address_of(self, name: str) -> Address | None:
        """Where the neighbour called *name* is reached."""
        return next((n.address for n in self._neighbours.values() if n.name == name), None)

    def neighbours(self) -> list[tuple[int, str, Address]]:
        return [(peer, n.name, n.address) for peer, n in self._neighbours.items()]

    @property
    def short(self) -> bool:
        """Whether any link is asked for more than it carries."""
        return any(neighbour.link.short for neighbour in self._neighbours.values())

    def reports(self, now: float) -> tuple[LinkReport, ...]:
        """What the controller wants to know of every link."""
        reports = []
        for peer, neighbour in self._neighbours.items():
            sample = neighbour.link.sample(now)
            reports.append(
                LinkReport(
                    peer=peer,
                    up=sample.up,
                    rtt_ms=min(sample.rtt_ms, 60_000.0),
                    jitter_ms=min(sample.jitter_ms, 60_000.0),
                    loss_out=sample.loss_out,
                    loss_in=sample.loss_in,
                    sent_packets=sample.sent_packets,
                    received_packets=sample.received_packets,
                    available_kbps=min(1e9, sample.available_kbps),
                    used_kbps=min(1e9, sample.used_kbps),
                    shed_kbps=min(1e9, sample.shed_kbps),
                    queue_ms=sample.queue_ms,
                    burst=min(sample.burst, 1e6),
                    residual_loss=sample.residual_loss,
                )
            )
        return tuple(reports)

    def debug_state(self) -> dict[str, object]:
        return {
            "refused": dict(self.refused),
            "neighbours": {n.name: n.link.debug_state() for n in self._neighbours.values()},
        }
