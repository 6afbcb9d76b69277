"""A node without its sockets: everything it knows and decides, driven by bytes, messages and ``now``.

In: datagrams of both UDP ports, messages of the controller, offers of clients.
Out: datagrams, messages for the controller, answers. The ring around it
(:mod:`relaymesh.node.app`) only moves these; the emulated network drives the
same object in virtual time.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from relaymesh.node.edge import Edge
from relaymesh.node.fence import Fence
from relaymesh.node.forwarder import Forwarder
from relaymesh.node.hitless import Hitless
from relaymesh.node.ingress import IngressTrack
from relaymesh.node.offers import Negotiator, SignallingError
from relaymesh.node.relay import RelayPort
from relaymesh.node.repair import LocalRepair
from relaymesh.node.session import PlayerSession, PublisherSession, Session
from relaymesh.node.streams import Stream, StreamTable
from relaymesh.node.tables import ForwardingTables
from relaymesh.node.tap import Tap
from relaymesh.protocol import messages
from relaymesh.protocol.bitstring import decode_set, encode_set
from relaymesh.protocol.control import ControlEvent
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.link_events import LinkDown, LinkStepped, LinkUp
from relaymesh.protocol.messages import ControllerMessage, NodeMessage, StreamName

PUBLISHER_SILENT = 5.0  # s; one that sent nothing for so long may be replaced by another
IDLE_STREAM_KEPT = 5.0  # s; a relayed stream nobody plays any more, in case somebody comes back
ENDED_STREAM_KEPT = 10.0  # s; players wait so long for a publisher to come back
RESUBSCRIBE_INTERVAL = 1.0  # s
MAINTENANCE_INTERVAL = 0.5  # s
REPORT_PAUSE = 0.1  # s; between reports of links that got better or worse
REPORT_INTERVAL_SHORT = 0.3  # s; while a link is short: other ways should be found soon
JOIN_BYTES = messages.MAX_MESSAGE_BYTES - (
    64 << 10
)  # of streams in a join; the rest is said after the welcome
_STREAM_BYTES, _TRACK_BYTES = 48, 96  # beside names and fmtp: keys, numbers, the name of a codec


@dataclass(frozen=True, slots=True)
class SubscribeAnswered:
    """The controller answered our :class:`~relaymesh.protocol.messages.Subscribe`."""

    request: int
    found: bool


@dataclass(frozen=True, slots=True)
class PublishAnswered:
    """The controller answered our :class:`~relaymesh.protocol.messages.Publish`."""

    request: int
    reason: str  # empty = accepted


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """A link came up or went down."""

    peer: str
    up: bool


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """A session is over."""

    session: str
    role: str
    room: str
    participant: str
    reason: str


CoreEvent = SubscribeAnswered | PublishAnswered | LinkChanged | SessionEnded


class NodeCore:
    """Edge, relay, streams and tables of one node."""

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
        self.negotiator = negotiator
        self.hitless = hitless
        self.edge = Edge(max_sessions)
        self.relay = RelayPort(rng, tap)
        self.tables = ForwardingTables()
        self.streams = StreamTable()
        self.repair = LocalRepair(self.tables)
        self.forwarder = Forwarder(self.streams, self.tables, self.repair, self.relay)
        self.fence = Fence()
        # By channel: who takes reliable messages of neighbours, and is told when a stream starts over.
        self.control_takers: dict[int, Callable[[int, ControlEvent, float], None]] = {}
        self.index: int | None = None
        self.controller_connected = False
        self._probe_interval = 0.05
        self._dead_after = 0.2
        self._report_interval = 1.0
        self._next_report: float | None = None
        self._reported_at = now
        self._next_maintenance = now
        self._next_request = 0
        self._resubscribe_at: dict[StreamName, float] = {}
        self._announced: dict[int, Stream] = {}  # by request: what the controller has not answered yet
        # What the join under way says: published and subscribed; until its welcome.
        self._joining: tuple[dict[StreamName, messages.StreamInfo], dict[StreamName, Stream]] | None = None
        self._to_controller: list[NodeMessage] = []
        self._events: list[CoreEvent] = []
        self.refused_messages: Counter[str] = Counter()

    # --- datagrams -----------------------------------------------------------------------------

    def handle_media_datagram(self, data: bytes, address: tuple[str, int], now: float) -> None:
        self.edge.handle_datagram(data, address, now)

    def handle_relay_datagram(self, data: bytes, now: float) -> None:
        peer, routed = self.relay.handle_datagram(data, now)
        for kind, body in routed:
            self.forwarder.handle_frame(peer, kind, body, now)
        self._drain_link_events(now)

    def poll_media_datagrams(self) -> list[tuple[bytes, tuple[str, int]]]:
        return self.edge.poll_datagrams()

    def poll_relay_datagrams(self) -> list[tuple[bytes, tuple[str, int]]]:
        return self.relay.poll_datagrams()

    def poll_messages(self) -> list[NodeMessage]:
        """What the controller must be told; empty while it is not connected (the next join says it all)."""
        to_controller, self._to_controller = self._to_controller, []
        return to_controller

    def poll_events(self) -> list[CoreEvent]:
        events, self._events = self._events, []
        return events

    # --- time ----------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        times = [self._next_maintenance]
        for at in (self._next_report, self.relay.next_timeout(), self.edge.next_timeout()):
            if at is not None:
                times.append(at)
        return min(times)

    def handle_timeout(self, now: float) -> None:
        self.relay.handle_timeout(now)
        self._drain_link_events(now)
        for session in self.edge.handle_timeout(now):
            self.end_session(session, session.closed or "closed", now)
        self._ask_for_keyframes(now)
        if self._next_report is not None and (
            now >= self._next_report
            or (now >= self._reported_at + REPORT_INTERVAL_SHORT and self.relay.short)
        ):
            self._report(now)
        if now >= self._next_maintenance:
            self._next_maintenance = now + MAINTENANCE_INTERVAL
            self._maintain_streams(now)

    def _ask_for_keyframes(self, now: float) -> None:
        for stream in self.streams:
            if stream.source == "relay":
                for encoding in stream.encodings():
                    if encoding.keyframe_wish.due(now):
                        self.forwarder.request_keyframe(encoding, now)

    def _drain_link_events(self, now: float) -> None:
        changed = False
        for peer, event in self.relay.poll_events():
            if isinstance(event, LinkStepped):
                self._report_soon(now)
                continue
            changed = True
            self._events.append(LinkChanged(self.relay.name_of(peer), isinstance(event, LinkUp)))
            if isinstance(event, LinkDown):
                self.repair.handle_down(peer)
                self.forwarder.salvage(peer, now)
            else:
                self.repair.handle_up(peer)
        for peer, control in self.relay.poll_control():
            taker = self.control_takers.get(control.channel)
            if taker is None:
                self.refused_messages["Control"] += 1
            else:
                taker(peer, control, now)
        if changed:
            self._report(now)  # the controller must not wait for the period to hear of a death

    def _report_soon(self, now: float) -> None:
        """A link got better or worse: sooner than the period, but not at every step of every link."""
        if self._next_report is not None:
            self._next_report = min(self._next_report, max(now, self._reported_at + REPORT_PAUSE))

    def _report(self, now: float) -> None:
        self._next_report = now + self._report_interval
        self._reported_at = now
        if self.controller_connected:
            detoured = encode_set(self.repair.waiting())
            self._to_controller.append(messages.Report(self.relay.reports(now), len(self.edge), detoured))

    # --- controller ----------------------------------------------------------------------------

    def join_state(self) -> dict[str, object]:
        """What a join message repeats of this node's soft state."""
        published, subscribed = self._joining = _what_fits(*self._soft_state())
        return {
            "index": self.index,
            "generation": self.tables.active,
            "published": tuple(published.values()),
            "subscribed": tuple(subscribed),
            "leader_epoch": self.fence.highest,
        }

    def _soft_state(self) -> tuple[dict[StreamName, messages.StreamInfo], dict[StreamName, Stream]]:
        """What is published and what is subscribed here, by name."""
        alive = [stream for stream in self.streams if stream.ended_at is None]
        return (
            {stream.name: stream.info() for stream in alive if stream.source == "local"},
            {stream.name: stream for stream in alive if stream.source == "relay"},
        )

    def _say_what_changed(self) -> None:
        """Between a join and its welcome nothing could be said: say what the join did not."""
        if self._joining is None:
            return
        (published, subscribed), self._joining = self._joining, None
        publishes, subscribes = self._soft_state()
        for name in published.keys() - publishes.keys():
            self._to_controller.append(messages.Unpublish(name))
        for name in subscribed.keys() - subscribes.keys():
            self._to_controller.append(messages.Unsubscribe(name))
        for stream in self.streams:
            if stream.name in publishes and published.get(stream.name) != publishes[stream.name]:
                self.announce(stream)
            elif stream.name in subscribes and stream.name not in subscribed:
                self.subscribe(stream.name)

    def handle_disconnected(self) -> None:
        """The control channel broke: go on with what is known."""
        self.controller_connected = False
        self._to_controller.clear()
        self._announced.clear()

    def handle_message(self, message: ControllerMessage, now: float) -> None:
        """Act on what the controller says; what makes no sense here is counted and changes nothing."""
        handler = self._HANDLERS.get(type(message))
        if handler is None:
            self.refused_messages[type(message).__name__] += 1
            return
        if not self.fence.admits(message):
            self.refused_messages["stale leader"] += 1
            return
        handler(self, message, now)

    def _on_welcome(self, message: messages.Welcome, now: float) -> None:
        if self.index is not None and self.index != message.index:
            self.relay.clear()
            self.repair.clear()
            self.forwarder.ways.clear()
        self.index = message.index
        self.forwarder.own_index = message.index
        self._probe_interval = message.probe_interval_ms / 1e3
        self._dead_after = message.dead_after_ms / 1e3
        self._report_interval = message.report_interval_ms / 1e3
        self._next_report = now
        self.controller_connected = True
        for stream in self.streams:
            if stream.source == "local":
                stream.ingress = message.index
        self._say_what_changed()

    def _on_links(self, message: messages.Links, now: float) -> None:
        for peer in message.remove:
            self.relay.remove_link(peer)
            self.repair.handle_removed(peer)
        if self.index is None:
            self.refused_messages["Links"] += 1
            return
        for config in message.set:
            if config.peer == self.index or not _is_literal(config.address.host):
                self.refused_messages["Links"] += 1
                continue
            try:
                self.relay.set_link(
                    config,
                    own_index=self.index,
                    probe_interval=self._probe_interval,
                    dead_after=self._dead_after,
                    now=now,
                )
            except ProtocolError:
                self.refused_messages["Links"] += 1

    def _on_snapshot(self, message: messages.Snapshot, now: float) -> None:
        self.tables.install_snapshot(message)
        self._to_controller.append(messages.TablesHeld(message.generation))

    def _on_delta(self, message: messages.Delta, now: float) -> None:
        if self.tables.install_delta(message):
            self._to_controller.append(messages.TablesHeld(message.generation))
        else:
            self._to_controller.append(messages.SnapshotWanted())

    def _on_activate(self, message: messages.Activate, now: float) -> None:
        if self.tables.activate(message.generation):
            self.repair.handle_activate()
        else:
            self._to_controller.append(messages.SnapshotWanted())

    def _on_hitless_ways(self, message: messages.HitlessWays, now: float) -> None:
        self.forwarder.ways.install(message)

    def _on_forward(self, message: messages.Forward, now: float) -> None:
        stream = self.streams.get(message.stream)
        if stream is None or stream.source != "local":
            self.refused_messages["Forward"] += 1
            return
        edges = decode_set(message.edges)
        if self.index is not None:
            edges &= ~(1 << self.index)
        added = edges & ~stream.edges
        stream.edges = edges
        if added:
            # The new edges need the clock now, not at the publisher's next report.
            for track in stream.tracks.values():
                if track.main.clock is not None:
                    self.forwarder.originate_clock(stream, track, track.main.clock, now)

    def _on_publish_reply(self, message: messages.PublishReply, now: float) -> None:
        stream = self._announced.pop(message.request, None)
        if stream is not None and message.reason:
            # Also when nobody waits for the answer any more: the stream is somebody else's.
            for session in list(self.edge.publishers()):
                if session.stream is stream:
                    self.end_session(session, message.reason, now, tell_controller=False)
        self._events.append(PublishAnswered(message.request, message.reason))

    def _on_subscribe_reply(self, message: messages.SubscribeReply, now: float) -> None:
        info = message.stream
        if info is not None and message.ingress is not None:
            self._hold_remote(info, message.ingress, now)
        self._events.append(SubscribeAnswered(message.request, info is not None))

    def _on_stream_ended(self, message: messages.StreamEnded, now: float) -> None:
        stream = self.streams.get(message.stream)
        if stream is not None and stream.source == "relay":
            self._stream_ended(stream, now)

    def _on_stream_moved(self, message: messages.StreamMoved, now: float) -> None:
        name = StreamName(message.stream.room, message.stream.participant)
        if self.streams.get(name) is not None:
            self._hold_remote(message.stream, message.ingress, now)

    def _on_close(self, message: messages.Close, now: float) -> None:
        for session in list(self.edge.publishers()):
            if session.stream.name == message.stream:
                self.end_session(session, message.reason, now, tell_controller=False)

    _HANDLERS: dict[type, Callable[..., None]] = {  # noqa: RUF012  (a constant: message type → method)
        messages.Welcome: _on_welcome,
        messages.Links: _on_links,
        messages.Snapshot: _on_snapshot,
        messages.Delta: _on_delta,
        messages.Activate: _on_activate,
        messages.HitlessWays: _on_hitless_ways,
        messages.Forward: _on_forward,
        messages.PublishReply: _on_publish_reply,
        messages.SubscribeReply: _on_subscribe_reply,
        messages.StreamEnded: _on_stream_ended,
        messages.StreamMoved: _on_stream_moved,
        messages.Close: _on_close,
    }

    def _request(self) -> int:
        self._next_request = (self._next_request + 1) & 0xFFFFFFFF
        return self._next_request

    # --- streams -------------------------------------------------------------------------------

    def find_stream(self, name: StreamName) -> Stream | None:
        """The live stream of this name, as far as this node holds it."""
        stream = self.streams.get(name)
        return stream if stream is not None and stream.ended_at is None else None

    def subscribe(self, name: StreamName) -> int:
        """Ask the controller for a stream; the request's number, for :class:`SubscribeAnswered`."""
        request = self._request()
        self._to_controller.append(messages.Subscribe(request, name))
        return request

    def announce(self, stream: Stream) -> int:
        """Tell the controller that *stream* enters here; the number, for :class:`PublishAnswered`."""
        request = self._request()
        self._announced[request] = stream
        self._to_controller.append(messages.Publish(request, stream.info()))
        return request

    def _hold_remote(self, info: messages.StreamInfo, ingress: int, now: float) -> None:
        name = StreamName(info.room, info.participant)
        stream = self.streams.get(name)
        if stream is not None and stream.source == "local" and stream.ended_at is None:
            return  # our own publisher; the controller knows, or will hear, better
        if stream is None:
            if self.streams.full:
                self._to_controller.append(messages.Unsubscribe(name))
                return
            stream = Stream(name, "relay", ingress)
            stream.idle_since = now
            self.streams.add(stream)
        stream.source = "relay"
        stream.ingress = ingress
        stream.edges = 0
        stream.ended_at = None
        self._resubscribe_at.pop(name, None)
        stream.set_tracks(info.tracks)
        self._attach_players(stream, now)

    def _attach_players(self, stream: Stream, now: float) -> None:
        for session in self.edge.players():
            if session.stream.name == stream.name:
                session.attach(stream, now)
                stream.idle_since = None

    def _stream_ended(self, stream: Stream, now: float) -> None:
        """The publisher is gone; its players wait a while for it to come back."""
        if stream.ended_at is None:
            stream.ended_at = now
            stream.edges = 0
            self._resubscribe_at[stream.name] = now + RESUBSCRIBE_INTERVAL

    def _maintain_streams(self, now: float) -> None:
        for stream in self.streams:
            players = [s for s in self.edge.players() if s.stream is stream]
            if stream.ended_at is not None:
                self._maintain_ended(stream, players, now)
            elif stream.source == "relay" and not players:
                stream.idle_since = now if stream.idle_since is None else stream.idle_since
                if now - stream.idle_since >= IDLE_STREAM_KEPT:
                    self.streams.remove(stream)
                    self._to_controller.append(messages.Unsubscribe(stream.name))
            else:
                stream.idle_since = None

    def _maintain_ended(self, stream: Stream, players: list[PlayerSession], now: float) -> None:
        assert stream.ended_at is not None
        if not players or now - stream.ended_at >= ENDED_STREAM_KEPT:
            for session in players:
                self.end_session(session, "the publisher left", now)
            self.streams.remove(stream)
            self._resubscribe_at.pop(stream.name, None)
        elif now >= self._resubscribe_at.get(stream.name, 0.0):
            self._resubscribe_at[stream.name] = now + RESUBSCRIBE_INTERVAL
            if self.controller_connected:
                self.subscribe(stream.name)

    # --- clients -------------------------------------------------------------------------------

    def publish(
        self,
        name: StreamName,
        offer_text: str,
        prefer: tuple[str, ...],
        now: float,
        hitless: Hitless | None = None,
    ) -> tuple[PublisherSession, str]:
        """A client publishes here: its session and the SDP answer. *hitless* goes before the node's own.

        Raises:
            SignallingError: 400 unreadable offer, 409 the name is in use, 422 no codec, 503 full.
        """
        offer = self.negotiator.read_offer(offer_text)
        before = self.streams.get(name)
        self._refuse_if_published(name, now)
        self._refuse_if_full(before)
        chosen = self.negotiator.choose_tracks(
            offer, prefer, set(before.tracks) if before is not None else set(), hitless or self.hitless
        )
        edges = before.edges if before is not None and before.source == "local" else 0
        for session in list(self.edge.publishers()):
            if session.stream.name == name:
                # The announcement that follows replaces it: edges go on with the new one at once.
                self.end_session(session, "replaced by a newer publisher", now, tell_controller=False)
        stream = Stream(name, "local", self.index)
        stream.set_tracks(tuple(info for info, _ in chosen.values()))
        if before is not None:
            stream.edges = edges
            self.streams.remove(before)
            self._resubscribe_at.pop(name, None)
        self.streams.add(stream)
        session, answer = self.negotiator.publisher(
            offer, stream, chosen, originate=self.forwarder.originate, clock_changed=self._on_clock, now=now
        )
        self.edge.add(session)
        self._attach_players(stream, now)
        return session, answer

    def _refuse_if_published(self, name: StreamName, now: float) -> None:
        stream = self.find_stream(name)
        if stream is None:
            return
        last = max((e.last_arrival for e in stream.encodings()), default=float("-inf"))
        fresh = any(
            s.stream is stream and now - s.created_at < PUBLISHER_SILENT for s in self.edge.publishers()
        )
        if now - last < PUBLISHER_SILENT or fresh:
            raise SignallingError(
                409,
                f"{name.participant} already publishes in {name.room}; stop that, or use another name",
            )

    def _refuse_if_full(self, stream: Stream | None = None) -> None:
        if self.edge.full or (stream is None and self.streams.full):
            raise SignallingError(503, "this node is full; try another one")

    def play(self, stream: Stream, offer_text: str, now: float) -> tuple[PlayerSession, str]:
        """A client plays *stream* here: its session and the SDP answer.

        Raises:
            SignallingError: 400 unreadable offer, 422 no codec, 503 full.
        """
        offer = self.negotiator.read_offer(offer_text)
        if self.edge.full:
            raise SignallingError(503, "this node is full; try another one")
        session, answer = self.negotiator.player(offer, stream, now)
        self.edge.add(session)
        stream.idle_since = None
        return session, answer

    def _on_clock(self, ingress: IngressTrack, now: float) -> None:
        track = ingress.track
        if track.main.clock is not None and track.stream.edges:
            self.forwarder.originate_clock(track.stream, track, track.main.clock, now)

    def end_session(self, session: Session, reason: str, now: float, *, tell_controller: bool = True) -> None:
        """Close a session for good; a publisher's stream ends with it."""
        self.edge.remove(session, reason, now)
        stream = session.stream
        if isinstance(session, PlayerSession):
            session.detach()
        elif self.streams.get(stream.name) is stream:
            self._announced = {k: s for k, s in self._announced.items() if s is not stream}
            self._stream_ended(stream, now)
            if tell_controller:
                self._to_controller.append(messages.Unpublish(stream.name))
        self._events.append(
            SessionEnded(session.id, session.role, stream.name.room, stream.name.participant, reason)
        )

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
            "refused_messages": dict(self.refused_messages),
        }


def _what_fits(
    published: dict[StreamName, messages.StreamInfo], subscribed: dict[StreamName, Stream]
) -> tuple[dict[StreamName, messages.StreamInfo], dict[StreamName, Stream]]:
    """As much of both as one message holds: one that is too long would never let us in."""
    left = JOIN_BYTES
    fit_published: dict[StreamName, messages.StreamInfo] = {}
    for name, info in published.items():
        left -= _STREAM_BYTES + len(name.room) + len(name.participant)
        left -= sum(_TRACK_BYTES + len(track.fmtp.encode()) for track in info.tracks)
        if left < 0:
            return fit_published, {}
        fit_published[name] = info
    fit_subscribed: dict[StreamName, Stream] = {}
    for name, stream in subscribed.items():
        left -= _STREAM_BYTES + len(name.room) + len(name.participant)
        if left < 0:
            break
        fit_subscribed[name] = stream
    return fit_published, fit_subscribed


def _is_literal(host: str) -> bool:
    """Whether *host* is an IP address: looking up a name for each datagram would block the node.

    One with a scope (``fe80::1%eth0``) is none: it means nothing elsewhere, and its scope may be any text.
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host
