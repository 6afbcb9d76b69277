"""The directory of streams: where each enters the mesh, and which edges want it.

In: publish and subscribe messages of known nodes, what nodes announce when they
(re)join, and who is gone. Out: replies, and one :class:`Forward` to a stream's
ingress whenever the set of edges that want it changed; all forwarding after
that is the nodes' own. A stream has one ingress. While that one is alive nobody
else can publish the stream; when it died, the stream is kept for a while so that
its publisher can enter elsewhere and the players go on. All of this is soft
state: nodes announce it again, so a restarted controller learns it anew, and
says nothing that would stop media until they had the time to (``hold``).
This module knows indexes and names of streams; no channels, links or routes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from relaymesh.controller.parts import Parts
from relaymesh.protocol.bitstring import encode_set, members
from relaymesh.protocol.messages import (
    Close,
    ControllerMessage,
    Forward,
    Publish,
    PublishReply,
    StreamEnded,
    StreamInfo,
    StreamMoved,
    StreamName,
    Subscribe,
    SubscribeReply,
)

MAX_STREAMS = 100_000
# As many as one Join can announce: what a node could not announce again it must not have.
_LEGS_AT_ONCE = 4096  # streams
MAX_PER_NODE = 10_000

Key: TypeAlias = tuple[str, str]  # room, participant
Told: TypeAlias = list[tuple[int, ControllerMessage]]  # (index of the node, what it is told)


@dataclass(frozen=True, slots=True)
class StreamLeg:
    """A stream on its way to one edge that wants it."""

    room: str
    participant: str
    ingress: int
    edge: int


@dataclass(slots=True)
class Stream:
    """One entry. Without an ingress it waits: for its publisher to come back, or to show up at all."""

    info: StreamInfo | None = None
    ingress: int | None = None
    edges: int = 0  # bit set of the nodes that want it, the ingress among them if it has players
    changed_at: float = 0.0  # when it last entered the mesh
    waits_until: float | None = None  # without an ingress: when its players are given up


class Rooms:
    """All streams, found by name, by ingress and by edge."""

    def __init__(
        self,
        is_alive: Callable[[int], bool],
        name_of: Callable[[int], str],
        *,
        wait_s: float = 10.0,
        max_streams: int = MAX_STREAMS,
        max_per_node: int = MAX_PER_NODE,
    ) -> None:
        self._is_alive = is_alive
        self._name_of = name_of
        self._wait_s = wait_s
        self._max_streams = max_streams
        self._max_per_node = max_per_node
        self._streams: dict[Key, Stream] = {}
        self._published: dict[int, set[Key]] = {}
        self._wanted: dict[int, set[Key]] = {}
        self._by_room: dict[str, set[Key]] = {}
        self._waiting: set[Key] = set()
        self._next_due: float | None = None
        self._owed: set[Key] | None = None  # streams whose Forward is held back; None: nothing is
        self._changed: set[int] = set()  # ingresses of hitless tracks whose edges may have changed

    # --- what nodes ask ----------------------------------------------------------------------

    def handle_publish(self, index: int, message: Publish, now: float) -> Told:
        """A stream wants to enter at *index*."""
        reason = self._conflict(index, message.stream)
        told: Told = [(index, PublishReply(message.request, reason))]
        if reason:
            return told
        told += self._enter(index, message.stream, now)
        key = _key(message.stream)
        # What is new at a node goes nowhere: that nobody wants it needs no word.
        return told + self._forward(key) if self._streams[key].edges else told

    def handle_unpublish(self, index: int, name: StreamName) -> Told:
        """The stream ended at *index*."""
        key = _key(name)
        if key not in self._published.get(index, ()):
            return []
        return self._end(key)

    def handle_subscribe(self, index: int, message: Subscribe) -> Told:
        """A player at *index* wants a stream."""
        key = _key(message.stream)
        stream = self._streams.get(key)
        wanted = self._wanted.setdefault(index, set())
        if (
            stream is None
            or stream.info is None
            or stream.ingress is None
            or not self._is_alive(stream.ingress)
            or (key not in wanted and len(wanted) >= self._max_per_node)
        ):
            return [(index, SubscribeReply(message.request))]
        told: Told = [(index, SubscribeReply(message.request, stream.info, stream.ingress))]
        return told + self._want(index, key, stream)

    def handle_unsubscribe(self, index: int, name: StreamName) -> Told:
        """Nobody at *index* wants the stream any more."""
        return self._unwant(index, _key(name))

    def handle_announce(
        self,
        index: int,
        published: Iterable[StreamInfo],
        subscribed: Iterable[StreamName],
        *,
        absent_since: float | None,
        now: float,
    ) -> Told:
        """*index* (re)joined and says all that it publishes and wants; what it does not say is over.

        *absent_since*: when its channel closed; None when it was not known before.
        """
        told: Told = []
        announced = {_key(info): info for info in published}
        # Sorted, here and below: sets of names have another order in every process.
        for key in sorted(self._published.get(index, set()) - announced.keys()):
            self._orphan(key, now)
        for key, info in announced.items():
            reason = self._conflict(index, info)
            if reason:
                told.append((index, Close(_name(key), reason)))
                continue
            unchanged = key in self._published.get(index, ()) and self._streams[key].info == info
            told += [] if unchanged else self._enter(index, info, now)
            told += self._forward(key)  # also an empty set: it may have missed the last edge's leaving
        wishes = {_key(name) for name in subscribed}
        for key in sorted(self._wanted.get(index, set()) - wishes):
            told += self._unwant(index, key)
        for key in sorted(wishes):
            told += self._rewant(index, key, absent_since, now)
        return told

    # --- who is gone -------------------------------------------------------------------------

    def handle_gone(self, index: int) -> Told:
        """The node is gone for good: its streams end, and it wants nothing."""
        told: Told = []
        for key in sorted(self._published.get(index, ())):
            told += self._end(key)
        for key in sorted(self._wanted.get(index, ())):
            told += self._unwant(index, key)
        self._published.pop(index, None)
        self._wanted.pop(index, None)
        return [(to, message) for to, message in told if to != index]

    # --- holding back ------------------------------------------------------------------------

    def hold(self) -> None:
        """Send no Forward until :meth:`release`: an edge not heard of yet may still want the stream."""
        if self._owed is None:
            self._owed = set()

    def release(self) -> Told:
        """Everybody had the time to announce: send what was held back."""
        owed, self._owed = self._owed or set(), None
        told: Told = []
        for key in sorted(owed):
            if key in self._streams:
                told += self._forward(key)
        return told

    # --- time --------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        return self._next_due

    def handle_timeout(self, now: float) -> Told:
        """End streams whose publisher did not come back."""
        if self._next_due is None or now < self._next_due:
            return []
        told: Told = []
        for key in sorted(self._waiting):
            waits_until = self._streams[key].waits_until
            if waits_until is not None and now >= waits_until:
                told += self._end(key)
        waits = (self._streams[key].waits_until for key in self._waiting)
        self._next_due = min((due for due in waits if due is not None), default=None)
        return told

    # --- what others read --------------------------------------------------------------------

    def poll_changed(self) -> set[int]:
        """Ingresses for which :meth:`hitless_edges` may tell something new since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def hitless_edges(self, ingress: int) -> int:
        """The edges, as a set, that want streams with hitless tracks from *ingress*."""
        edges = 0
        for key in self._published.get(ingress, ()):
            stream = self._streams[key]
            if stream.edges & ~edges and _is_hitless(stream.info):
                edges |= stream.edges
        return edges & ~(1 << ingress)

    def streams(self) -> dict[Key, Stream]:
        """All streams that have an ingress, by name, in the order in which they came; a copy."""
        return {key: stream for key, stream in self._streams.items() if stream.ingress is not None}

    def edges_of(self, room: str) -> int:
        """The nodes, as a bit set, at which anybody of *room* publishes or plays."""
        edges = 0
        for key in self._by_room.get(room, ()):
            stream = self._streams[key]
            edges |= stream.edges | (0 if stream.ingress is None else 1 << stream.ingress)
        return edges

    def legs(self) -> Parts[tuple[StreamLeg, ...]]:
        """All ways from an ingress to an edge that wants the stream."""
        legs: list[StreamLeg] = []
        for number, key in enumerate(list(self._streams)):
            if number % _LEGS_AT_ONCE == 0:
                yield
            stream = self._streams.get(key)
            if stream is not None and stream.ingress is not None:
                edges = members(stream.edges)
                legs += (StreamLeg(*key, stream.ingress, edge) for edge in edges if edge != stream.ingress)
        return tuple(legs)

    def debug_state(self) -> dict[str, object]:
        return {
            "streams": len(self._streams),
            "waiting": sorted("/".join(key) for key in self._waiting),
            "holding": self._owed is not None,
            "published_per_node": {index: len(keys) for index, keys in self._published.items() if keys},
            "wanted_per_node": {index: len(keys) for index, keys in self._wanted.items() if keys},
        }

    # --- changes -----------------------------------------------------------------------------

    def _conflict(self, index: int, info: StreamInfo) -> str:
        """Why *index* may not publish *info*; empty when it may."""
        numbers = [track.track for track in info.tracks]
        if len(set(numbers)) != len(numbers):
            return "two tracks have the same number"
        stream = self._streams.get(_key(info))
        if stream is None or stream.ingress != index:
            if stream is not None and stream.ingress is not None and self._is_alive(stream.ingress):
                return f"the stream is published at {self._name_of(stream.ingress)}"
            if len(self._published.get(index, ())) >= self._max_per_node:
                return "this node publishes as many streams as it may"
            if stream is None and len(self._streams) >= self._max_streams:
                return "the mesh carries as many streams as it may"
        return ""

    def _enter(self, index: int, info: StreamInfo, now: float) -> Told:
        key = _key(info)
        stream = self._streams.get(key) or self._add(key)
        if stream.ingress is not None and stream.ingress != index:
            self._published[stream.ingress].discard(key)
        stream.info, stream.ingress = info, index
        stream.changed_at, stream.waits_until = now, None
        self._waiting.discard(key)
        self._published.setdefault(index, set()).add(key)
        moved = StreamMoved(info, index)
        return [(edge, moved) for edge in members(stream.edges) if edge != index]

    def _forward(self, key: Key) -> Told:
        """Tell the ingress which edges want the stream, as a whole set."""
        ingress = self._streams[key].ingress
        if ingress is not None and _is_hitless(self._streams[key].info):
            self._changed.add(ingress)
        if self._owed is not None:
            self._owed.add(key)
            return []
        stream = self._streams[key]
        if stream.ingress is None:
            return []
        remote = stream.edges & ~(1 << stream.ingress)
        return [(stream.ingress, Forward(_name(key), encode_set(remote)))]

    def _want(self, index: int, key: Key, stream: Stream) -> Told:
        bit = 1 << index
        if stream.edges & bit:
            return []
        stream.edges |= bit
        self._wanted.setdefault(index, set()).add(key)
        return [] if index == stream.ingress else self._forward(key)

    def _rewant(self, index: int, key: Key, absent_since: float | None, now: float) -> Told:
        """A player that was there before *index* (re)joined."""
        stream = self._streams.get(key)
        if stream is None:
            if len(self._streams) >= self._max_streams:
                return [(index, StreamEnded(_name(key)))]
            stream = self._add(key)
            self._wait(key, stream, now)
        told = self._want(index, key, stream)
        if stream.info is None or stream.ingress is None or stream.ingress == index:
            return told
        if absent_since is None or stream.changed_at >= absent_since:
            told.append((index, StreamMoved(stream.info, stream.ingress)))
        return told

    def _unwant(self, index: int, key: Key) -> Told:
        wanted = self._wanted.get(index)
        if wanted is None or key not in wanted:
            return []
        wanted.discard(key)
        stream = self._streams[key]
        stream.edges &= ~(1 << index)
        if stream.ingress is None and stream.edges == 0:
            self._remove(key)
            return []
        return [] if index == stream.ingress else self._forward(key)

    def _orphan(self, key: Key, now: float) -> None:
        """The ingress does not have the stream any more: its players wait for the publisher to come back."""
        stream = self._streams[key]
        assert stream.ingress is not None, "only a published stream can lose its ingress"
        self._published[stream.ingress].discard(key)
        stream.ingress = None
        if stream.edges:
            self._wait(key, stream, now)
        else:
            self._remove(key)

    def _wait(self, key: Key, stream: Stream, now: float) -> None:
        due = stream.waits_until = now + self._wait_s
        self._waiting.add(key)
        self._next_due = due if self._next_due is None else min(self._next_due, due)

    def _end(self, key: Key) -> Told:
        """The stream is over: tell its players' edges."""
        stream = self._streams[key]
        ended = StreamEnded(_name(key))
        edges = members(stream.edges)
        for edge in edges:
            self._wanted[edge].discard(key)
        ingress = stream.ingress
        if ingress is not None:
            self._published[ingress].discard(key)
        self._remove(key)
        return [(edge, ended) for edge in edges]

    def _add(self, key: Key) -> Stream:
        self._by_room.setdefault(key[0], set()).add(key)
        stream = self._streams[key] = Stream()
        return stream

    def _remove(self, key: Key) -> None:
        del self._streams[key]
        in_room = self._by_room[key[0]]
        in_room.discard(key)
        if not in_room:
            del self._by_room[key[0]]
        self._waiting.discard(key)


def _is_hitless(info: StreamInfo | None) -> bool:
    return info is not None and any(track.hitless for track in info.tracks)


def _key(name: StreamInfo | StreamName) -> Key:
    return name.room, name.participant


def _name(key: Key) -> StreamName:
    return StreamName(*key)
