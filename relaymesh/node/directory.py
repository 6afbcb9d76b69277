"""The publications of a node as the controller and the other nodes know them.

In: what the controller says of publications, what sessions play, time. Out: what the controller must be told
(publish, subscribe and their ends), demand for what others publish, layers of what is
published here. Sessions are made and ended elsewhere (:mod:`relaymesh.node.admission`).
"""

from __future__ import annotations

from collections.abc import Callable

from relaymesh.node.edge import Edge
from relaymesh.node.events import PublishAnswered, SubscribeAnswered
from relaymesh.node.forwarder import Forwarder
from relaymesh.node.outbox import Outbox
from relaymesh.node.publications import (
    AnyPublication,
    LocalPublication,
    Publication,
    PublicationTable,
    RemotePublication,
    Track,
)
from relaymesh.node.session import Session
from relaymesh.protocol import messages
from relaymesh.protocol.bitstring import decode_set
from relaymesh.protocol.messages import ParticipantName, PublicationInfo

IDLE_PUBLICATION_KEPT = 5.0  # s; a relayed publication nobody plays any more, in case somebody comes back
ENDED_PUBLICATION_KEPT = 10.0  # s; players wait so long for a publisher to come back
RESUBSCRIBE_INTERVAL = 1.0  # s
MAINTENANCE_INTERVAL = 0.25  # s
LAYERS_INTERVAL = 1.0  # s
JOIN_BYTES = messages.MAX_MESSAGE_BYTES - (
    64 << 10
)  # of publications in a join; the rest is said after the welcome
# Beside names and fmtp: keys, numbers, the name of a codec.
_PUBLICATION_BYTES, _TRACK_BYTES, _ENCODING_BYTES = 80, 128, 32

_Published = dict[ParticipantName, PublicationInfo]
_Subscribed = dict[ParticipantName, RemotePublication]


class Directory:
    """What is published and what is played here, kept in step with the controller."""

    def __init__(
        self,
        publications: PublicationTable,
        forwarder: Forwarder,
        edge: Edge,
        outbox: Outbox,
        end_session: Callable[[Session, str, float, bool], None],
        now: float,
    ) -> None:
        """*end_session* (session, reason, now, tell the controller) closes one for good."""
        self._publications = publications
        self._forwarder = forwarder
        self._edge = edge
        self._outbox = outbox
        self._end_session = end_session
        self._next_request = 0
        self.due = now  # when :meth:`handle_timeout` is to be called, s
        self._own_index: int | None = None
        self._resubscribe_at: dict[ParticipantName, float] = {}
        self._announced: dict[int, LocalPublication] = {}  # by request: not answered yet
        # What the join under way says: published and subscribed; until its welcome.
        self._joining: tuple[_Published, _Subscribed] | None = None

    # --- joins -----------------------------------------------------------------------------------

    def join_state(self) -> dict[str, object]:
        """The part of a join message that repeats what is published and played here."""
        published, subscribed = self._joining = _fitting(*self._soft_state())
        return {"published": tuple(published.values()), "subscribed": tuple(subscribed)}

    def handle_welcome(self, index: int) -> None:
        """The controller knows what the join said; say what changed since."""
        self._own_index = index
        for remote in self._publications.remote():
            remote.wishes.repeat()
        if self._joining is None:
            return
        (published, subscribed), self._joining = self._joining, None
        publishes, subscribes = self._soft_state()
        for name in published.keys() - publishes.keys():
            self._outbox.tell(messages.Unpublish(name))
        for name in subscribed.keys() - subscribes.keys():
            self._outbox.tell(messages.Unsubscribe(name))
        for publication in self._publications:
            name = publication.name
            if name in publishes and published.get(name) != publishes[name]:
                assert isinstance(publication, LocalPublication), "only those are published here"
                self.announce(publication)
            elif name in subscribes and name not in subscribed:
                self.subscribe(name)

    def handle_disconnected(self) -> None:
        """No answer comes any more."""
        self._announced.clear()

    def _soft_state(self) -> tuple[_Published, _Subscribed]:
        alive = [p for p in self._publications if p.ended_at is None]
        return (
            {p.name: p.info() for p in alive if isinstance(p, LocalPublication)},
            {p.name: p for p in alive if isinstance(p, RemotePublication)},
        )

    # --- asking ----------------------------------------------------------------------------------

    def find(self, name: ParticipantName) -> AnyPublication | None:
        """The live publication of this name, as far as this node holds it."""
        publication = self._publications.get(name)
        return publication if publication is not None and publication.ended_at is None else None

    def subscribe(self, name: ParticipantName) -> int:
        """Ask the controller for a publication; the request's number, for :class:`SubscribeAnswered`."""
        request = self._request()
        self._outbox.tell(messages.Subscribe(request, name))
        return request

    def announce(self, publication: LocalPublication) -> int:
        """Tell the controller that *publication* enters here; the number, for :class:`PublishAnswered`."""
        request = self._request()
        self._announced[request] = publication
        self._outbox.tell(messages.Publish(request, publication.info()))
        return request

    def mute(self, publication: LocalPublication, track: int, muted: bool, now: float) -> None:
        """Send nothing of a track from now on, or go on with it; everybody is told.

        Raises:
            KeyError: it has no such track.
        """
        self.set_muted(publication.tracks[track], muted)
        self._say_layers(publication, now)
        self._choose_layers(publication, now)
        if self._outbox.connected:
            self.announce(publication)

    @staticmethod
    def set_muted(track: Track, muted: bool) -> None:
        """Note it at the track and in what is said of it."""
        track.muted = muted
        for encoding in track.encodings.values():
            encoding.since_keyframe.clear()  # what comes after the pause does not follow it
        track.info = messages.replace_muted(track.info, muted)

    def _request(self) -> int:
        self._next_request = (self._next_request + 1) & 0xFFFFFFFF
        return self._next_request

    # --- what the controller says ------------------------------------------------------------------

    def handle_forward(self, message: messages.Forward, now: float) -> bool:
        """The edges that may play what is published here; ``False``: it is not."""
        publication = self._publications.get(message.participant)
        if not isinstance(publication, LocalPublication):
            return False
        edges = decode_set(message.edges)
        if self._own_index is not None:
            edges &= ~(1 << self._own_index)
        new = publication.demand.admit(edges)
        self._say_layers(publication, now)  # a new edge chooses by it
        self._forwarder.serve(publication, new, now)
        return True

    def handle_publish_reply(self, message: messages.PublishReply, now: float) -> None:
        """A refused publication ends, though nobody waits for the answer any more: it is somebody else's."""
        publication = self._announced.pop(message.request, None)
        if publication is not None and message.reason:
            self._end_publishers(publication.name, message.reason, now, only=publication)
        self._outbox.emit(PublishAnswered(message.request, message.reason))

    def handle_subscribe_reply(self, message: messages.SubscribeReply, now: float) -> None:
        """Hold what was asked for, if it is there."""
        if message.publication is not None and message.ingress is not None:
            self.hold_remote(message.publication, message.ingress, now)
        self._outbox.emit(SubscribeAnswered(message.request, message.publication is not None))

    def handle_ended(self, message: messages.PublicationEnded, now: float) -> None:
        """Its publisher is gone."""
        publication = self._publications.get(message.participant)
        if isinstance(publication, RemotePublication):
            self.ended(publication, now)

    def handle_moved(self, message: messages.PublicationMoved, now: float) -> None:
        """It (re)entered the mesh, perhaps elsewhere, or its tracks changed."""
        info = message.publication
        if self._publications.get(ParticipantName(info.room, info.participant)) is not None:
            self.hold_remote(info, message.ingress, now)

    def handle_close(self, message: messages.Close, now: float) -> None:
        """Its publisher here was superseded or forbidden."""
        self._end_publishers(message.participant, message.reason, now)

    def _end_publishers(
        self, name: ParticipantName, reason: str, now: float, only: Publication | None = None
    ) -> None:
        for session in list(self._edge.publishers()):
            publication = session.publication
            if publication is not None and publication.name == name and only in (None, publication):
                self._end_session(session, reason, now, False)

    # --- publications come, change and end ---------------------------------------------------------

    def add_local(self, publication: LocalPublication, now: float) -> None:
        """A client publishes here, in place of what was known by its name."""
        before = self._publications.get(publication.name)
        if isinstance(before, LocalPublication):
            # The announcement that follows replaces it: edges go on with the new one at once.
            publication.demand.admit(before.demand.admitted)
        self._publications.add(publication)
        self._resubscribe_at.pop(publication.name, None)
        self._hand_over(before, publication, now)

    def hold_remote(self, info: PublicationInfo, ingress: int, now: float) -> None:
        """Hold a publication that enters at another node."""
        name = ParticipantName(info.room, info.participant)
        before = self._publications.get(name)
        if isinstance(before, LocalPublication) and before.ended_at is None:
            return  # our own publisher; the controller knows, or will hear, better
        if before is None and self._publications.full:
            self._outbox.tell(messages.Unsubscribe(name))
            return
        if isinstance(before, RemotePublication):
            publication = before
        else:
            publication = RemotePublication(name, ingress, now)
            self._publications.add(publication)
        publication.ingress = ingress
        publication.ended_at = None
        publication.credential = info.credential
        publication.wishes.repeat()
        publication.demand_changed()
        self._resubscribe_at.pop(name, None)
        publication.set_tracks(info.tracks)
        self._hand_over(before, publication, now)

    def _hand_over(self, before: AnyPublication | None, publication: AnyPublication, now: float) -> None:
        """Players of what this name meant before play what it means now."""
        for session in list(before.sessions if before is not None else ()):
            session.attach(publication, now)

    def ended(self, publication: AnyPublication, now: float) -> None:
        """The publisher is gone; its players wait a while for it to come back."""
        if publication.ended_at is None:
            publication.ended_at = now
            if isinstance(publication, LocalPublication):
                publication.demand.admit(0)
                self._announced = {k: p for k, p in self._announced.items() if p is not publication}
            self._resubscribe_at[publication.name] = now + RESUBSCRIBE_INTERVAL

    # --- time --------------------------------------------------------------------------------------

    def handle_timeout(self, now: float) -> None:
        """Refresh demand and layers, and let go of what nobody plays."""
        if now < self.due:
            return
        self.due = now + MAINTENANCE_INTERVAL
        self._publications.bound_kept()
        changed = {
            session.publication
            for session in self._edge.publishers()
            if session.publication is not None and session.take_layers_changed()
        }
        for publication in self._publications:
            if publication.ended_at is not None:
                self._maintain_ended(publication, now)
            elif isinstance(publication, RemotePublication):
                self._maintain_remote(publication, now)
            else:
                publication.demand.lapse(now)
                if publication in changed or now >= publication.layers_due:
                    self._say_layers(publication, now)
                    layers = [track.layers for track in publication.tracks.values()]
                    if layers != publication.layers_chosen_by:
                        publication.layers_chosen_by = layers
                        self._choose_layers(publication, now)

    def drain(self, now: float) -> None:
        """Say what changed by the last input: demand, and what LAYERS told."""
        if self._forwarder.changed_tracks:
            for track in self._forwarder.take_changed_tracks():
                self._choose_layers(track.publication, now)
        if self._publications.touched:
            for publication in self._publications.take_touched():
                self._forwarder.demand(publication, now)

    def _maintain_remote(self, publication: RemotePublication, now: float) -> None:
        self._forwarder.demand(publication, now)
        if publication.sessions:
            publication.idle_since = None
            return
        publication.idle_since = now if publication.idle_since is None else publication.idle_since
        if now - publication.idle_since >= IDLE_PUBLICATION_KEPT:
            self._publications.remove(publication)
            self._outbox.tell(messages.Unsubscribe(publication.name))

    def _maintain_ended(self, publication: AnyPublication, now: float) -> None:
        assert publication.ended_at is not None, "the caller looked"
        players = list(publication.sessions)
        if not players or now - publication.ended_at >= ENDED_PUBLICATION_KEPT:
            for session in players:
                self._end_session(session, "the publisher left", now, True)
            self._publications.remove(publication)
            self._resubscribe_at.pop(publication.name, None)
        elif now >= self._resubscribe_at.get(publication.name, 0.0):
            self._resubscribe_at[publication.name] = now + RESUBSCRIBE_INTERVAL
            if self._outbox.connected:
                self.subscribe(publication.name)

    def _say_layers(self, publication: LocalPublication, now: float) -> None:
        publication.layers_due = now + LAYERS_INTERVAL
        publication.layers_serial = (publication.layers_serial + 1) & 0xFFFFFFFF
        for track in publication.tracks.values():
            self._forwarder.originate_layers(
                track, publication.layers_serial, publication.demand.admitted, now
            )

    @staticmethod
    def _choose_layers(publication: Publication, now: float) -> None:
        for session in list(publication.sessions):
            session.choose_layers(now)


def _fitting(published: _Published, subscribed: _Subscribed) -> tuple[_Published, _Subscribed]:
    """As much of both as one message holds: one that is too long would never let us in."""
    left = JOIN_BYTES
    fit_published: _Published = {}
    for name, info in published.items():
        left -= _PUBLICATION_BYTES + len(name.room) + len(name.participant)
        left -= sum(
            _TRACK_BYTES + len(track.fmtp.encode()) + _ENCODING_BYTES * len(track.encodings)
            for track in info.tracks
        )
        if left < 0:
            return fit_published, {}
        fit_published[name] = info
    fit_subscribed: _Subscribed = {}
    for name, publication in subscribed.items():
        left -= _PUBLICATION_BYTES + len(name.room) + len(name.participant)
        if left < 0:
            break
        fit_subscribed[name] = publication
    return fit_published, fit_subscribed
