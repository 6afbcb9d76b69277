"""The directory of publications: where each enters the mesh, and which edges want it.

In: publish and subscribe messages of known nodes, what nodes announce when they
(re)join, and who is gone. Out: replies, and one :class:`Forward` to a publication's
ingress whenever the set of edges that want it changed; all forwarding after
that is the nodes' own. A publication has one ingress. While that one is alive nobody
else can publish the publication; when it died, the publication is kept for a while so that
its publisher can enter elsewhere and the players go on. All of this is soft
state: nodes announce it again, so a restarted controller learns it anew, and
says nothing that would stop media until they had the time to (``hold``).
This module knows indexes and names of publications; no channels, links or routes.
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
    ParticipantName,
    PublicationEnded,
    PublicationInfo,
    PublicationMoved,
    Publish,
    PublishReply,
    Subscribe,
    SubscribeReply,
)

MAX_PUBLICATIONS = 100_000
# As many as one Join can announce: what a node could not announce again it must not have.
_LEGS_AT_ONCE = 4096  # publications
MAX_PER_NODE = 10_000

Key: TypeAlias = tuple[str, str]  # room, participant
Told: TypeAlias = list[tuple[int, ControllerMessage]]  # (index of the node, what it is told)


@dataclass(frozen=True, slots=True)
class PublicationLeg:
    """A publication on its way to one edge that wants it."""

    room: str
    participant: str
    ingress: int
    edge: int


@dataclass(slots=True)
class Entry:
    """One entry. Without an ingress it waits: for its publisher to come back, or to show up at all."""

    info: PublicationInfo | None = None
    ingress: int | None = None
    edges: int = 0  # bit set of the nodes that want it, the ingress among them if it has players
    changed_at: float = 0.0  # when it last entered the mesh
    waits_until: float | None = None  # without an ingress: when its players are given up


class Directory:
    """All publications, found by name, by ingress and by edge."""

    def __init__(
        self,
        is_alive: Callable[[int], bool],
        name_of: Callable[[int], str],
        *,
        wait_s: float = 10.0,
        max_publications: int = MAX_PUBLICATIONS,
        max_per_node: int = MAX_PER_NODE,
    ) -> None:
        self._is_alive = is_alive
        self._name_of = name_of
        self._wait_s = wait_s
        self._max_publications = max_publications
        self._max_per_node = max_per_node
        self._entries: dict[Key, Entry] = {}
        self._published: dict[int, set[Key]] = {}
        self._wanted: dict[int, set[Key]] = {}
        self._by_room: dict[str, set[Key]] = {}
        self._waiting: set[Key] = set()
        self._next_due: float | None = None
        self._owed: set[Key] | None = None  # publications whose Forward is held back; None: nothing is
        self._changed: set[int] = set()  # ingresses of hitless tracks whose edges may have changed

    # --- what nodes ask ----------------------------------------------------------------------

    def handle_publish(self, index: int, message: Publish, now: float) -> Told:
        """A publication wants to enter at *index*."""
        reason = self._conflict(index, message.publication)
        told: Told = [(index, PublishReply(message.request, reason))]
        if reason:
            return told
        told += self._enter(index, message.publication, now)
        key = _key(message.publication)
        # What is new at a node goes nowhere: that nobody wants it needs no word.
        return told + self._forward(key) if self._entries[key].edges else told

    def handle_unpublish(self, index: int, name: ParticipantName) -> Told:
        """The publication ended at *index*."""
        key = _key(name)
        if key not in self._published.get(index, ()):
            return []
        return self._end(key)

    def handle_subscribe(self, index: int, message: Subscribe) -> Told:
        """A player at *index* wants a publication."""
        key = _key(message.participant)
        entry = self._entries.get(key)
        wanted = self._wanted.setdefault(index, set())
        if (
            entry is None
            or entry.info is None
            or entry.ingress is None
            or not self._is_alive(entry.ingress)
            or (key not in wanted and len(wanted) >= self._max_per_node)
        ):
            return [(index, SubscribeReply(message.request))]
        told: Told = [(index, SubscribeReply(message.request, entry.info, entry.ingress))]
        return told + self._want(index, key, entry)

    def handle_unsubscribe(self, index: int, name: ParticipantName) -> Told:
        """Nobody at *index* wants the publication any more."""
        return self._unwant(index, _key(name))

    def handle_announce(
        self,
        index: int,
        published: Iterable[PublicationInfo],
        subscribed: Iterable[ParticipantName],
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
            unchanged = key in self._published.get(index, ()) and self._entries[key].info == info
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
        """The node is gone for good: its publications end, and it wants nothing."""
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
        """Send no Forward until :meth:`release`: an edge not heard of yet may still want the entry."""
        if self._owed is None:
            self._owed = set()

    def release(self) -> Told:
        """Everybody had the time to announce: send what was held back."""
        owed, self._owed = self._owed or set(), None
        told: Told = []
        for key in sorted(owed):
            if key in self._entries:
                told += self._forward(key)
        return told

    # --- time --------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        return self._next_due

    def handle_timeout(self, now: float) -> Told:
        """End publications whose publisher did not come back."""
        if self._next_due is None or now < self._next_due:
            return []
        told: Told = []
        for key in sorted(self._waiting):
            waits_until = self._entries[key].waits_until
            if waits_until is not None and now >= waits_until:
                told += self._end(key)
        waits = (self._entries[key].waits_until for key in self._waiting)
        self._next_due = min((due for due in waits if due is not None), default=None)
        return told

    # --- what others read --------------------------------------------------------------------

    def poll_changed(self) -> set[int]:
        """Ingresses for which :meth:`hitless_edges` may tell something new since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def hitless_edges(self, ingress: int) -> int:
        """The edges, as a set, that want publications with hitless tracks from *ingress*."""
        edges = 0
        for key in self._published.get(ingress, ()):
            entry = self._entries[key]
            if entry.edges & ~edges and _is_hitless(entry.info):
                edges |= entry.edges
        return edges & ~(1 << ingress)

    def publications(self) -> dict[Key, Entry]:
        """All publications that have an ingress, by name, in the order in which they came; a copy."""
        return {key: entry for key, entry in self._entries.items() if entry.ingress is not None}

    def edges_of(self, room: str) -> int:
        """The nodes, as a bit set, at which anybody of *room* publishes or plays."""
        edges = 0
        for key in self._by_room.get(room, ()):
            entry = self._entries[key]
            edges |= entry.edges | (0 if entry.ingress is None else 1 << entry.ingress)
        return edges

    def legs(self) -> Parts[tuple[PublicationLeg, ...]]:
        """All ways from an ingress to an edge that wants the entry."""
        legs: list[PublicationLeg] = []
        for number, key in enumerate(list(self._entries)):
            if number % _LEGS_AT_ONCE == 0:
                yield
            entry = self._entries.get(key)
            if entry is not None and entry.ingress is not None:
                edges = members(entry.edges)
                legs += (PublicationLeg(*key, entry.ingress, edge) for edge in edges if edge != entry.ingress)
        return tuple(legs)

    def debug_state(self) -> dict[str, object]:
        return {
            "publications": len(self._entries),
            "waiting": sorted("/".join(key) for key in self._waiting),
            "holding": self._owed is not None,
            "published_per_node": {index: len(keys) for index, keys in self._published.items() if keys},
            "wanted_per_node": {index: len(keys) for index, keys in self._wanted.items() if keys},
        }

    # --- changes -----------------------------------------------------------------------------

    def _conflict(self, index: int, info: PublicationInfo) -> str:
        """Why *index* may not publish *info*; empty when it may."""
        numbers = [track.track for track in info.tracks]
        if len(set(numbers)) != len(numbers):
            return "two tracks have the same number"
        entry = self._entries.get(_key(info))
        if entry is None or entry.ingress != index:
            if (
                entry is not None
                and entry.ingress is not None
                and self._is_alive(entry.ingress)
                and not _takes_over(info, entry.info)
            ):
                return f"it is published at {self._name_of(entry.ingress)}"
            if len(self._published.get(index, ())) >= self._max_per_node:
                return "this node publishes as many publications as it may"
            if entry is None and len(self._entries) >= self._max_publications:
                return "the mesh carries as many publications as it may"
        return ""

    def _enter(self, index: int, info: PublicationInfo, now: float) -> Told:
        key = _key(info)
        entry = self._entries.get(key) or self._add(key)
        told: Told = []
        if entry.ingress is not None and entry.ingress != index:
            self._published[entry.ingress].discard(key)
            if self._is_alive(entry.ingress):
                told.append((entry.ingress, Close(_name(key), "its publisher came again elsewhere")))
        entry.info, entry.ingress = info, index
        entry.changed_at, entry.waits_until = now, None
        self._waiting.discard(key)
        self._published.setdefault(index, set()).add(key)
        moved = PublicationMoved(info, index)
        return told + [(edge, moved) for edge in members(entry.edges) if edge != index]

    def _forward(self, key: Key) -> Told:
        """Tell the ingress which edges want the publication, as a whole set."""
        ingress = self._entries[key].ingress
        if ingress is not None and _is_hitless(self._entries[key].info):
            self._changed.add(ingress)
        if self._owed is not None:
            self._owed.add(key)
            return []
        entry = self._entries[key]
        if entry.ingress is None:
            return []
        remote = entry.edges & ~(1 << entry.ingress)
        return [(entry.ingress, Forward(_name(key), encode_set(remote)))]

    def _want(self, index: int, key: Key, entry: Entry) -> Told:
        bit = 1 << index
        if entry.edges & bit:
            return []
        entry.edges |= bit
        self._wanted.setdefault(index, set()).add(key)
        return [] if index == entry.ingress else self._forward(key)

    def _rewant(self, index: int, key: Key, absent_since: float | None, now: float) -> Told:
        """A player that was there before *index* (re)joined."""
        entry = self._entries.get(key)
        if entry is None:
            if len(self._entries) >= self._max_publications:
                return [(index, PublicationEnded(_name(key)))]
            entry = self._add(key)
            self._wait(key, entry, now)
        told = self._want(index, key, entry)
        if entry.info is None or entry.ingress is None or entry.ingress == index:
            return told
        if absent_since is None or entry.changed_at >= absent_since:
            told.append((index, PublicationMoved(entry.info, entry.ingress)))
        return told

    def _unwant(self, index: int, key: Key) -> Told:
        wanted = self._wanted.get(index)
        if wanted is None or key not in wanted:
            return []
        wanted.discard(key)
        entry = self._entries[key]
        entry.edges &= ~(1 << index)
        if entry.ingress is None and entry.edges == 0:
            self._remove(key)
            return []
        return [] if index == entry.ingress else self._forward(key)

    def _orphan(self, key: Key, now: float) -> None:
        """Its ingress does not have it any more: its players wait for the publisher to come back."""
        entry = self._entries[key]
        assert entry.ingress is not None, "only a publication can lose its ingress"
        self._published[entry.ingress].discard(key)
        entry.ingress = None
        if entry.edges:
            self._wait(key, entry, now)
        else:
            self._remove(key)

    def _wait(self, key: Key, entry: Entry, now: float) -> None:
        due = entry.waits_until = now + self._wait_s
        self._waiting.add(key)
        self._next_due = due if self._next_due is None else min(self._next_due, due)

    def _end(self, key: Key) -> Told:
        """The publication is over: tell its players' edges."""
        entry = self._entries[key]
        ended = PublicationEnded(_name(key))
        edges = members(entry.edges)
        for edge in edges:
            self._wanted[edge].discard(key)
        ingress = entry.ingress
        if ingress is not None:
            self._published[ingress].discard(key)
        self._remove(key)
        return [(edge, ended) for edge in edges]

    def _add(self, key: Key) -> Entry:
        self._by_room.setdefault(key[0], set()).add(key)
        entry = self._entries[key] = Entry()
        return entry

    def _remove(self, key: Key) -> None:
        del self._entries[key]
        in_room = self._by_room[key[0]]
        in_room.discard(key)
        if not in_room:
            del self._by_room[key[0]]
        self._waiting.discard(key)


def _takes_over(info: PublicationInfo, before: PublicationInfo | None) -> bool:
    """Whether the same publisher came again, by its credential: an encoder that restarted, elsewhere."""
    return before is not None and bool(info.credential) and info.credential == before.credential


def _is_hitless(info: PublicationInfo | None) -> bool:
    return info is not None and any(track.hitless for track in info.tracks)


def _key(name: PublicationInfo | ParticipantName) -> Key:
    return name.room, name.participant


def _name(key: Key) -> ParticipantName:
    return ParticipantName(*key)
