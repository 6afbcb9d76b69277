"""Placement of clients at edges: candidates ranked by place, load and the mesh behind them.

In: what is known of each node that may take clients, where the client is, and
time. Out: candidates in order, each with its score in milliseconds, term by term:

    place  what the client's way to the edge is expected to take
    load   what a busy edge costs: next to nothing while it is idle, without bound as it fills up
    mesh   what the mesh takes from there to the room's other edges, on average

:class:`PendingJoins` counts clients that were sent somewhere and have not arrived
yet, so that a thousand who ask within a second are not all sent to one edge. It is
told of arrivals by the sessions that nodes report, and forgets who never came.
This module knows no messages, no network, no clock.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

EARTH_RADIUS_KM = 6371.0
KM_PER_MS = 200.0  # of fibre
STRETCH = 1.5  # how much longer fibre is than the great circle (see topologies/README.md)
LOCAL_MS = 1.0  # to an edge in the client's own region
UNKNOWN_MS = 150.0  # to an edge of which no place is known, when the client's is: more than to most
LOAD_MS = 50.0  # weight of load: an edge at half its capacity costs 25 ms, at four fifths 160
FULLEST = 0.98  # pending joins alone make no edge full: nobody can take one out by asking
DEFAULT_CAPACITY = 200  # sessions of a node that does not say
PENDING_S = 10.0  # for which a client that was sent somewhere is waited for
MAX_PENDING = 10_000  # of one edge
SHORTLIST = 32  # candidates whose mesh term is computed: the nearest by place and load


@dataclass(frozen=True, slots=True)
class Spot:
    """A place on the globe, degrees."""

    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that takes clients."""

    index: int
    name: str
    url: str
    region: str
    spot: Spot | None
    sessions: int
    capacity: int  # sessions it takes; 0: it does not say


@dataclass(frozen=True, slots=True)
class Client:
    """Location of a client, as far as it is known."""

    spot: Spot | None = None
    region: str | None = None

    @property
    def is_placed(self) -> bool:
        return self.spot is not None or self.region is not None


@dataclass(frozen=True, slots=True)
class Ranked:
    """One answer; all terms in milliseconds."""

    candidate: Candidate
    place_ms: float
    load_ms: float
    mesh_ms: float

    @property
    def score_ms(self) -> float:
        return self.place_ms + self.load_ms + self.mesh_ms


def rank(
    candidates: Iterable[Candidate],
    client: Client,
    pending: Callable[[int], int],
    mesh_ms: Callable[[int], float | None],
) -> list[Ranked]:
    """*candidates* from the best on; left out are those that are full or do not reach the room.

    *pending*: joins under way to an edge; *mesh_ms*: the mesh term of an edge, None where the room's
    other edges cannot be reached. Equal scores go by name.
    """
    found = []
    for candidate in candidates:
        load = load_ms(candidate, pending(candidate.index))
        if load is not None:
            found.append(Ranked(candidate, place_ms(candidate, client), load, 0.0))
    found.sort(key=_order)
    ranked = []
    for one in found[:SHORTLIST]:
        mesh = mesh_ms(one.candidate.index)
        if mesh is not None:
            ranked.append(Ranked(one.candidate, one.place_ms, one.load_ms, mesh))
    return sorted(ranked, key=_order)


def place_ms(candidate: Candidate, client: Client) -> float:
    """One way from the client to the edge, as far as one can tell; 0 where the client's place is unknown."""
    if not client.is_placed:
        return 0.0
    if client.region is not None and client.region == candidate.region:
        return LOCAL_MS
    if client.spot is None or candidate.spot is None:
        return UNKNOWN_MS
    return LOCAL_MS + distance_km(client.spot, candidate.spot) * STRETCH / KM_PER_MS


def load_ms(candidate: Candidate, pending: int) -> float | None:
    """Cost of the edge's load; None when it is full."""
    capacity = candidate.capacity or DEFAULT_CAPACITY
    if candidate.sessions >= capacity:
        return None
    used = min((candidate.sessions + pending) / capacity, FULLEST)
    used = max(used, candidate.sessions / capacity)
    return LOAD_MS * used * used / (1.0 - used)


def distance_km(one: Spot, other: Spot) -> float:
    """Along the great circle."""
    a, b = math.radians(one.latitude), math.radians(other.latitude)
    turned = math.radians(other.longitude - one.longitude)
    half = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(turned / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, half)))


def _order(one: Ranked) -> tuple[float, str]:
    return one.score_ms, one.candidate.name


class PendingJoins:
    """Clients on their way, by edge."""

    def __init__(self, pending_s: float = PENDING_S, max_pending: int = MAX_PENDING) -> None:
        self._pending_s = pending_s
        self._max_pending = max_pending
        self._until: dict[int, deque[float]] = {}  # when each is given up, rising
        self._sessions: dict[int, int] = {}  # as last reported

    def reserve(self, index: int, now: float) -> None:
        """Reserve a place for a client that was directed to *index*."""
        waiting = self._until.setdefault(index, deque())
        self._expire(waiting, now)
        if len(waiting) < self._max_pending:
            waiting.append(now + self._pending_s)

    def handle_sessions(self, index: int, sessions: int, now: float) -> None:
        """*index* holds so many sessions: those that came since its last word are no longer on their way."""
        arrived = sessions - self._sessions.get(index, 0)
        self._sessions[index] = sessions
        waiting = self._until.get(index)
        if waiting is None:
            return
        self._expire(waiting, now)
        for _ in range(min(arrived, len(waiting))):
            waiting.popleft()

    def count(self, index: int, now: float) -> int:
        """Number of clients on their way to *index*."""
        waiting = self._until.get(index)
        if waiting is None:
            return 0
        self._expire(waiting, now)
        return len(waiting)

    def forget(self, index: int) -> None:
        """The node is gone for good."""
        self._until.pop(index, None)
        self._sessions.pop(index, None)

    def debug_state(self) -> dict[str, object]:
        return {"pending": {index: len(waiting) for index, waiting in self._until.items() if waiting}}

    @staticmethod
    def _expire(waiting: deque[float], now: float) -> None:
        while waiting and waiting[0] <= now:
            waiting.popleft()
