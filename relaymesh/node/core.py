"""A node without its sockets: everything it knows and decides, driven by bytes, messages and ``now``.

In: datagrams of both UDP ports, messages of the controller, offers of clients.
Out: datagrams, messages for the controller, answers. The ring around it
(:mod:`relaymesh.node.app`) only moves these; the emulated network drives the
same object in virtual time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from relaymesh.node.admission import Admission
from relaymesh.node.controller_messages import ControllerMessages
from relaymesh.node.directory import Directory
from relaymesh.node.edge import Edge
from relaymesh.node.events import CoreEvent, LinkChanged
from relaymesh.node.fence import Fence
from relaymesh.node.forwarder import Forwarder
from relaymesh.node.hitless import Hitless
from relaymesh.node.offers import Answered, Negotiator
from relaymesh.node.outbox import Outbox
from relaymesh.node.publications import AnyPublication, PublicationTable
from relaymesh.node.relay import OnBug, RelayPort, raise_bug
from relaymesh.node.repair import LocalRepair
from relaymesh.node.reporting import Reporting
from relaymesh.node.session import Session
from relaymesh.node.tables import ForwardingTables
from relaymesh.node.tap import Tap
from relaymesh.protocol.control import ControlEvent
from relaymesh.protocol.link_events import KeyframeWanted, LinkDown, LinkStepped, LinkUp
from relaymesh.protocol.messages import ControllerMessage, NodeMessage, ParticipantName


class NodeCore:
    """Edge, relay, publications and tables of one node."""

    def __init__(
        self,
        *,
        negotiator: Negotiator,
        max_sessions: int,
        rng: Random,
        now: float,
        hitless: Hitless = "audio",
        tap: Tap | None = None,
    ) -> None:
        """*hitless*: which tracks travel twice, where their publisher does not say."""
        self.edge = Edge(max_sessions)
        self.relay = RelayPort(rng, tap)
        self.tables = ForwardingTables()
        self.publications = PublicationTable()
        self.outbox = Outbox()
        self.fence = Fence()
        self.repair = LocalRepair(self.tables)
        self.reporting = Reporting(self.relay, self.repair, self.outbox, now)
        self.forwarder = Forwarder(self.publications, self.tables, self.repair, self.relay)
        self.admission = Admission(
            negotiator,
            self.publications,
            self.forwarder,
            self.edge,
            self.outbox,
            hitless,
            lambda: self.directory,
        )
        self.directory = Directory(
            self.publications, self.forwarder, self.edge, self.outbox, self.admission.end_session, now
        )
        self._messages = ControllerMessages(self)
        # Asked with each wake. No message waits while no controller is connected: the next join says it all.
        self.poll_relay_datagrams: Callable[[], list[tuple[bytes, tuple[str, int]]]] = (
            self.relay.poll_datagrams
        )
        self.poll_messages: Callable[[], list[NodeMessage]] = self.outbox.poll_messages
        self.poll_events: Callable[[], list[CoreEvent]] = self.outbox.poll_events
        # By channel: who takes reliable messages of neighbours, and is told when a channel starts over.
        self.control_takers: dict[int, Callable[[int, ControlEvent, float], None]] = {}
        self.index: int | None = None

    # --- datagrams -----------------------------------------------------------------------------

    def handle_media_batch(
        self, datagrams: Sequence[tuple[bytes, tuple[str, int]]], now: float, on_bug: OnBug = raise_bug
    ) -> None:
        """Datagrams of clients, as they came. A bug that one wakes goes to *on_bug*; the others go on."""
        handle = self.edge.handle_datagram
        for data, address in datagrams:
            try:
                handle(data, address, now)
            except Exception as bug:
                on_bug(bug)
        self.directory.drain(now)

    def handle_media_datagram(self, data: bytes, address: tuple[str, int], now: float) -> None:
        """A batch of one."""
        self.handle_media_batch(((data, address),), now)

    def handle_relay_batch(self, datagrams: Sequence[bytes], now: float, on_bug: OnBug = raise_bug) -> None:
        """Datagrams of other nodes, as they came. A bug that one wakes goes to *on_bug*; the others go on."""
        handle = self.forwarder.handle_frame
        for peer, frame in self.relay.handle_batch(datagrams, now, on_bug):
            try:
                handle(peer, frame, now)
            except Exception as bug:
                on_bug(bug)
        self._drain_link_events(now)
        self.directory.drain(now)

    def handle_relay_datagram(self, data: bytes, now: float) -> None:
        """A batch of one."""
        self.handle_relay_batch((data,), now)

    def poll_media_datagrams(self) -> list[tuple[bytes, tuple[str, int]]]:
        return self.edge.poll_datagrams()

    # --- time ----------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        due = self.directory.due if self.directory.due < self.reporting.due else self.reporting.due
        if (at := self.relay.next_timeout()) is not None and at < due:
            due = at
        if (at := self.edge.next_timeout()) is not None and at < due:
            due = at
        if self.publications.wishing:
            for encoding in self.publications.keyframe_wishes():
                if (at := encoding.keyframe_wish.next_timeout()) is not None and at < due:
                    due = at
        return due

    def handle_timeout(self, now: float) -> None:
        self.relay.handle_timeout(now)
        self._drain_link_events(now)
        for session in self.edge.handle_timeout(now):
            self.admission.end_session(session, session.closed or "closed", now)
        self._ask_for_keyframes(now)
        self.reporting.handle_timeout(len(self.edge), now)
        self.directory.handle_timeout(now)
        self.directory.drain(now)

    def _ask_for_keyframes(self, now: float) -> None:
        for encoding in self.publications.keyframe_wishes():
            if encoding.keyframe_wish.due(now):
                self.forwarder.request_keyframe(encoding, now)

    def _drain_link_events(self, now: float) -> None:
        if not self.relay.collect():
            return
        changed = False
        for peer, event in self.relay.poll_events():
            if isinstance(event, LinkStepped):
                self.reporting.soon(now)
                continue
            if isinstance(event, KeyframeWanted):
                self.publications.want_keyframe(event.track_id, event.encoding, now)
                continue
            changed = True
            self.outbox.emit(LinkChanged(self.relay.name_of(peer), isinstance(event, LinkUp)))
            if isinstance(event, LinkDown):
                self.repair.handle_down(peer)
                self.forwarder.salvage(peer, now)
            else:
                self.repair.handle_up(peer)
        for peer, control in self.relay.poll_control():
            taker = self.control_takers.get(control.channel)
            if taker is None:
                self.outbox.refused["Control"] += 1
            else:
                taker(peer, control, now)
        if changed:
            self.reporting.report(len(self.edge), now)  # the controller must hear of a death at once

    # --- controller ----------------------------------------------------------------------------

    def join_state(self) -> dict[str, object]:
        """The part of a join message that repeats this node's soft state."""
        return {
            "index": self.index,
            "generation": self.tables.active,
            "leader_epoch": self.fence.highest,
            **self.directory.join_state(),
        }

    def handle_disconnected(self) -> None:
        """The control channel broke: go on with what is known."""
        self.outbox.disconnected()
        self.directory.handle_disconnected()

    def handle_message(self, message: ControllerMessage, now: float) -> None:
        """Act on what the controller says; what makes no sense here is counted and changes nothing."""
        self._messages.handle(message, now)
        self.directory.drain(now)

    # --- clients -------------------------------------------------------------------------------

    def publish(
        self,
        name: ParticipantName,
        offer_text: str,
        prefer: tuple[str, ...],
        now: float,
        hitless: Hitless | None = None,
        credential: bytes = b"",
        *,
        partial: bool = False,
    ) -> Answered:
        """See :meth:`Admission.publish <relaymesh.node.admission.Admission.publish>`."""
        return self.admission.publish(
            name, offer_text, prefer, now, hitless=hitless, credential=credential, partial=partial
        )

    def play(
        self, publication: AnyPublication, offer_text: str, now: float, *, partial: bool = False
    ) -> Answered:
        """See :meth:`Admission.play <relaymesh.node.admission.Admission.play>`."""
        answered = self.admission.play(publication, offer_text, now, partial=partial)
        self.directory.drain(now)  # what the player begins with is fetched while it connects
        return answered

    def end_session(self, session: Session, reason: str, now: float) -> None:
        """Close a session for good; what it publishes ends with it."""
        self.admission.end_session(session, reason, now)
        self.directory.drain(now)

    def close(self, now: float) -> None:
        """The node stops: tell every client."""
        for session in self.edge.sessions():
            self.end_session(session, "the node stops", now)

    def debug_state(self) -> dict[str, object]:
        return {
            "index": self.index,
            "leader_epoch": self.fence.highest,
            "tables": self.tables.debug_state(),
            "relay": self.relay.debug_state(),
            "repair": self.repair.debug_state(),
            "forwarder": self.forwarder.debug_state(),
            "edge": self.edge.debug_state(),
            "refused_messages": dict(self.outbox.refused),
        }
