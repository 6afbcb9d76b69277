"""Finding edges for clients: what the stages know of nodes and rooms, handed to :mod:`placement`.

In: a room, where a client is, time; and the sessions that nodes report. Out: the
ranked edges as the API shows them. The first one is reserved for the client for
a while. The mesh term follows the tables that packets are stamped with now.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from relaymesh.controller.directory import Directory
from relaymesh.controller.metric import CostBook
from relaymesh.controller.placement import Candidate, Client, PendingJoins, Ranked, Spot, rank
from relaymesh.controller.policy import MeshPolicy
from relaymesh.controller.publish import Publisher
from relaymesh.controller.registry import Member, Registry
from relaymesh.protocol.bitstring import members

MAX_ROOM_EDGES = 16  # of a room, that the mesh term looks at


class EdgeFinder:
    """Answers where a client should connect."""

    def __init__(
        self, policy: MeshPolicy, registry: Registry, rooms: Directory, costs: CostBook, publisher: Publisher
    ) -> None:
        self._policy = policy
        self._registry = registry
        self._rooms = rooms
        self._costs = costs
        self._publisher = publisher
        self.pending = PendingJoins()
        self._generation = 0
        self._tables: dict[int, Mapping[int, int]] = {}  # of that generation, as far as they were looked at

    def find(self, room: str, client: Client, limit: int, now: float) -> list[dict[str, object]]:
        """The best edges for *client* in *room*, at most *limit*, the first one reserved."""
        client = self._placed(client)
        others = [index for index in members(self._rooms.edges_of(room)) if self._is_in(index)]
        others = others[:MAX_ROOM_EDGES]
        ranked = rank(
            [self._candidate(member) for member in self._registry.members() if self._takes_clients(member)],
            client,
            lambda index: self.pending.count(index, now),
            lambda index: self._mesh_ms(index, others),
        )
        if ranked:
            self.pending.reserve(ranked[0].candidate.index, now)
        return [_shown(one) for one in ranked[:limit]]

    def _placed(self, client: Client) -> Client:
        """*client* with its region's coordinates, where it names a region and no better ones."""
        if client.region is None or client.spot is not None:
            return client
        return Client(self._spot(client.region), client.region)

    def _is_in(self, index: int) -> bool:
        member = self._registry.by_index(index)
        return member is not None and member.connected

    def _takes_clients(self, member: Member) -> bool:
        return member.connected and bool(member.http_url) and self._policy.is_edge(member)

    def _candidate(self, member: Member) -> Candidate:
        return Candidate(
            member.index,
            member.name,
            member.http_url,
            member.region,
            self._spot(member.region),
            member.sessions,
            member.max_sessions,
        )

    def _spot(self, region: str) -> Spot | None:
        place = self._policy.place(region)
        return None if place is None else Spot(place.latitude, place.longitude)

    def _mesh_ms(self, index: int, others: list[int]) -> float | None:
        """The mean cost between *index* and the room's other edges, both ways; None: one is out of reach."""
        costs = []
        for other in others:
            if other == index:
                costs.append(0.0)
                continue
            for ends in ((index, other), (other, index)):
                cost = self._cost_ms(*ends)
                if cost is None:
                    return None
                costs.append(cost / 2)
        return sum(costs) / len(others) if others else 0.0

    def _cost_ms(self, start: int, end: int) -> float | None:
        path = self._follow(start, end)
        if path is None:
            return None
        costs = [self._costs.planned_ms(hop) for hop in pairwise(path)]
        # A link of it may have died a moment ago: then nodes go around it, for not much more.
        return sum(cost for cost in costs if cost is not None)

    def _follow(self, start: int, end: int) -> list[int] | None:
        active = self._publisher.active
        if active is None:
            return None
        if active.generation != self._generation:
            self._generation, self._tables = active.generation, {}
        path = [start]
        while path[-1] != end:
            table = self._tables.get(path[-1])
            if table is None:  # of a big mesh it is made when it is asked for
                table = self._tables[path[-1]] = active.table(path[-1])
            hop = table.get(end)
            if hop is None or hop in path:
                return None
            path.append(hop)
        return path


def _shown(one: Ranked) -> dict[str, object]:
    return {
        "name": one.candidate.name,
        "url": one.candidate.url,
        "score_ms": round(one.score_ms, 3),
        "terms": {
            "place": round(one.place_ms, 3),
            "load": round(one.load_ms, 3),
            "mesh": round(one.mesh_ms, 3),
        },
    }
