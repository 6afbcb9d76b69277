"""The relay port of a node: its links to the neighbours, by index.

In: datagrams from the UDP port in batches, link configurations from the controller. Out:
routed frames that authenticated neighbours sent, datagrams to send, and which
links came up or went down. Datagrams are opened, and sealed, a batch at a time; links
are asked what they want once for each batch, and only those that it touched. Whatever
arrives without a valid seal changes nothing and is answered with nothing; a counter says
why it was refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from random import Random

from relaymesh.kernels.aead import open_batch
from relaymesh.node.dues import Dues
from relaymesh.node.tap import Tap
from relaymesh.protocol.control import ControlEvent
from relaymesh.protocol.datagram import OpenJob, SealJob, open_job, read_header, seal_jobs
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.keyring import Key
from relaymesh.protocol.link import Link
from relaymesh.protocol.link_events import LinkEvent
from relaymesh.protocol.messages import LinkConfig, LinkReport

Address = tuple[str, int]
OnBug = Callable[[Exception], None]


def raise_bug(bug: Exception) -> None:
    """Hide nothing: where nobody keeps the node alive for the others, as in tests."""
    raise bug


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
        # When each link is to be called: a node has many links, and between two timeouts few are touched.
        self._due = Dues()
        self._touched: set[int] = set()  # links that may have something to send or to tell
        self._short: set[int] = set()  # links that are asked for more than they carry; and those …
        self._unjudged: set[int] = set()  # … of which that may have changed
        self._now = 0.0  # of the last input
        self._outbox: list[tuple[SealJob, Address]] = []
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
        self._now = now
        self._touched.add(config.peer)

    def remove_link(self, peer: int) -> None:
        self._neighbours.pop(peer, None)
        self._due.forget(peer)
        self._short.discard(peer)

    def clear(self) -> None:
        """Forget all links: our own index changed, and with it what every datagram says."""
        self._neighbours.clear()
        self._due.clear()
        self._short.clear()

    # --- datagrams -----------------------------------------------------------------------------

    def handle_batch(
        self, datagrams: Sequence[bytes], now: float, on_bug: OnBug = raise_bug
    ) -> list[tuple[int, bytes]]:
        """(index of the neighbour, a routed frame of it), in the order in which *datagrams* brought them.

        Each datagram is taken whole or refused and counted, whatever the others are. A bug that one of them
        wakes goes to *on_bug* and costs that one only.
        """
        self._now = now
        expected: list[tuple[int, Link, Key, int]] = []  # neighbour, its link, the key, the packet number
        jobs: list[OpenJob] = []
        for data in datagrams:
            try:
                epoch, sender, number, short = read_header(data)
                neighbour = self._neighbours.get(sender)
                if neighbour is None:
                    raise ProtocolError("unknown_sender", f"index {sender}")
                key, number = neighbour.link.expect(epoch, number, short, now)
            except ProtocolError as error:
                self.refused[error.reason] += 1
                continue
            expected.append((sender, neighbour.link, key, number))
            jobs.append(open_job(key.opener, data, number))
        routed: list[tuple[int, bytes]] = []
        for (sender, link, key, number), plaintext in zip(expected, open_batch(jobs), strict=True):
            if plaintext is None:
                self.refused["unauthentic"] += 1
                continue
            self._touched.add(sender)
            try:
                for frame in link.accept(key, number, plaintext, now):
                    routed.append((sender, frame))
            except ProtocolError as error:
                self.refused[error.reason] += 1
            except Exception as bug:
                on_bug(bug)
        return routed

    def send(self, peer: int, frame: bytes, now: float) -> bool:
        """Send *frame* to the neighbour; ``False`` when there is no such link or it has no key."""
        if self._tap is not None:
            self._tap.note_relayed(peer, frame)
        neighbour = self._neighbours.get(peer)
        if neighbour is None:
            return False
        try:
            jobs = neighbour.link.send_jobs(frame, now)
        except ProtocolError:
            return False
        self._now = now
        self._touched.add(peer)
        for job in jobs:
            self._outbox.append((job, neighbour.address))
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
        self._now = now
        self._touched.add(peer)
        return True

    def take_unacknowledged(self, peer: int) -> list[bytes]:
        """What was sent to the neighbour and is not known to have arrived, as frames, oldest first."""
        neighbour = self._neighbours.get(peer)
        if neighbour is None:
            return []
        self._touched.add(peer)
        return neighbour.link.take_unacknowledged()

    def poll_datagrams(self) -> list[tuple[bytes, Address]]:
        """What is to be sent as of the last input, sealed."""
        if self._touched:
            self.collect()
        if not self._outbox:
            return []
        outbox, self._outbox = self._outbox, []
        datagrams = seal_jobs([job for job, _ in outbox])
        return [(datagram, address) for datagram, (_, address) in zip(datagrams, outbox, strict=True)]

    def poll_events(self) -> list[tuple[int, LinkEvent]]:
        """(neighbour, what happened to its link)."""
        self.collect()
        events, self._events = self._events, []
        return events

    def poll_control(self) -> list[tuple[int, ControlEvent]]:
        """(neighbour, its message or what happened to a channel)."""
        self.collect()
        events, self._control_events = self._control_events, []
        return events

    def collect(self) -> bool:
        """Take what links want sent and told: of those only that were touched since they were last asked.

        Whether :meth:`poll_events` or :meth:`poll_control` has something.
        """
        for peer in self._touched:
            neighbour = self._neighbours.get(peer)
            if neighbour is None:
                continue
            link, address = neighbour.link, neighbour.address
            if link.has_told:
                for event in link.poll_events():
                    self._events.append((peer, event))
                for told in link.poll_control():
                    self._control_events.append((peer, told))
            for job in link.poll_jobs(self._now):
                self._outbox.append((job, address))
            self._due.set(peer, link.due)
        self._unjudged |= self._touched
        self._touched.clear()
        return bool(self._events or self._control_events)

    # --- time ----------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        if self._touched:
            self._ask_times()
        first = self._due.first()
        return None if first == inf else first

    def handle_timeout(self, now: float) -> None:
        self._now = now
        self._ask_times()
        for peer in self._due.take(now):
            self._neighbours[peer].link.handle_timeout(now)
            self._touched.add(peer)

    def _ask_times(self) -> None:
        """Ask when links want to be called: those that were touched, and did not tell since."""
        for peer in self._touched:
            neighbour = self._neighbours.get(peer)
            if neighbour is not None:
                at = neighbour.link.next_timeout()
                self._due.set(peer, inf if at is None else at)

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
        self._unjudged |= self._touched
        for peer in self._unjudged:
            neighbour = self._neighbours.get(peer)
            if neighbour is not None and neighbour.link.short:
                self._short.add(peer)
            else:
                self._short.discard(peer)
        self._unjudged.clear()
        return bool(self._short)

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
