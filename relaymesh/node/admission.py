"""Who may publish and play at a node, and how their sessions begin and end.

In: offers of clients. Out: sessions added to the edge and their answers, or a
:class:`~relaymesh.node.refusals.SignallingError`; publications that begin and end with them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from relaymesh.node.directory import Directory
from relaymesh.node.edge import Edge
from relaymesh.node.encodings import Encoding
from relaymesh.node.events import SessionEnded
from relaymesh.node.forwarder import Forwarder
from relaymesh.node.hitless import Hitless
from relaymesh.node.offers import Answered, Negotiator
from relaymesh.node.outbox import Outbox
from relaymesh.node.publications import AnyPublication, LocalPublication, PublicationTable
from relaymesh.node.refusals import SignallingError, refused_of_publisher
from relaymesh.node.session import Session
from relaymesh.protocol.messages import ParticipantName, Unpublish
from relaymesh.webrtc.errors import NegotiationError

FRAGMENT_STATUS = {"syntax": 400, "state": 409, "change": 422, "precondition": 428, "rate": 429}
MAX_ENDED = 32
PUBLISHER_SILENT = 5.0  # s; one that sent nothing for so long may be replaced by another


class Admission:
    """Makes and ends the sessions of a node."""

    def __init__(
        self,
        negotiator: Negotiator,
        publications: PublicationTable,
        forwarder: Forwarder,
        edge: Edge,
        outbox: Outbox,
        hitless: Hitless,
        directory: Callable[[], Directory],
    ) -> None:
        """*hitless*: tracks that travel twice where no publisher says; *directory* is asked late."""
        self.negotiator = negotiator
        self._publications = publications
        self._forwarder = forwarder
        self._edge = edge
        self._outbox = outbox
        self._hitless = hitless
        self._directory = directory
        self.ended: deque[SessionEnded] = deque(maxlen=MAX_ENDED)  # the last ones, for those who ask why

    def publish(
        self,
        name: ParticipantName,
        offer_text: str,
        prefer: tuple[str, ...],
        now: float,
        *,
        hitless: Hitless | None = None,
        credential: bytes = b"",
        partial: bool = False,
    ) -> Answered:
        """A client publishes here: its session and the SDP answer.

        *hitless* goes before the node's own; who has the *credential* of the one who publishes by this name
        takes over from it at once. *partial*: a video of which nothing can be taken may be missing.

        Raises:
            SignallingError: 400 unreadable offer, 406 too many tracks, 409 the name is in use, 422 no codec,
                503 full.
        """
        incoming = self.negotiator.read_offer(offer_text, now)
        before = self._publications.get(name)
        self._refuse_if_published(name, credential, now)
        self._refuse_if_full(before)
        taken = set(before.tracks) if before is not None else set()
        chosen = self.negotiator.choose_tracks(
            incoming, prefer, taken, hitless or self._hitless, partial=partial
        )
        replaced = [
            session
            for session in self._edge.publishers()
            if session.publication is not None and session.publication.name == name
        ]
        publication = LocalPublication(name)
        publication.credential = credential
        publication.set_tracks(tuple(receiving.info for receiving in chosen.values()))
        self._directory().add_local(publication, now)
        for (
            session
        ) in replaced:  # only now, so that its edges go on; the announcement that follows replaces it
            self.end_session(session, "replaced by a newer publisher", now, False)
        answered = self.negotiator.publisher(
            incoming,
            publication,
            chosen,
            originate=self._forwarder.originate,
            clock_changed=self._on_clock,
            now=now,
        )
        answered.session.refused = refused_of_publisher(incoming.offer, chosen, prefer)
        self._edge.add(answered.session)
        return answered

    def play(
        self, publication: AnyPublication, offer_text: str, now: float, *, partial: bool = False
    ) -> Answered:
        """A client plays *publication* here: its session and the SDP answer; *partial* as in `publish`.

        Raises:
            SignallingError: 400 unreadable offer, 422 no codec, 503 full.
        """
        incoming = self.negotiator.read_offer(offer_text, now)
        if self._edge.full:
            raise SignallingError(503, "this node is full; try another one")
        answered = self.negotiator.player(
            incoming,
            publication,
            originate=self._forwarder.originate,
            clock_changed=self._on_clock,
            now=now,
            partial=partial,
        )
        self._edge.add(answered.session)
        answered.session.play(publication)
        return answered

    def handle_fragment(self, session: Session, text: str, now: float, *, may_restart: bool) -> str | None:
        """Take an ICE fragment of the client of *session*; ours, if that restarted ICE.

        Raises:
            SignallingError: 400 malformed, 409 not now, 422 half a restart, 428 a restart where it must not,
                429 too many.
        """
        try:
            restarts = session.negotiation.handle_fragment(text, now, may_restart=may_restart)
        except NegotiationError as error:
            raise SignallingError(FRAGMENT_STATUS[error.kind], str(error)) from None
        if not restarts:
            return None
        credentials, fragment = self.negotiator.restart_ice(session)
        self._edge.restart_ice(session, credentials, now)
        return fragment

    def end_session(self, session: Session, reason: str, now: float, tell_controller: bool = True) -> None:
        """Close a session for good; what it publishes ends with it."""
        self._edge.remove(session, reason, now)
        session.stop_playing()
        publication = session.publication
        if publication is not None and self._publications.get(publication.name) is publication:
            self._directory().ended(publication, now)
            if tell_controller:
                self._outbox.tell(Unpublish(publication.name))
        name = session.name
        ended = SessionEnded(session.id, session.role, name.room, name.participant, reason)
        self.ended.append(ended)
        self._outbox.emit(ended)

    def _refuse_if_published(self, name: ParticipantName, credential: bytes, now: float) -> None:
        publication = self._directory().find(name)
        if publication is None or (credential and credential == publication.credential):
            return
        fresh = any(
            s.publication is publication and now - s.created_at < PUBLISHER_SILENT
            for s in self._edge.publishers()
        )
        if now - publication.last_arrival < PUBLISHER_SILENT or fresh:
            raise SignallingError(
                409,
                f"{name.participant} already publishes in {name.room}; stop that, use another name, "
                "or come with the same bearer token",
            )

    def _refuse_if_full(self, publication: AnyPublication | None) -> None:
        if self._edge.full or (publication is None and self._publications.full):
            raise SignallingError(503, "this node is full; try another one")

    def _on_clock(self, encoding: Encoding, now: float) -> None:
        publication = encoding.track.publication
        if isinstance(publication, LocalPublication):
            edges = publication.demand.audience(encoding.track.number, encoding.number)
            self._forwarder.originate_clock(encoding, edges, now)
