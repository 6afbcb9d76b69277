"""What the API shows: the mesh as plain JSON values, read from the stages and changing none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise

from relaymesh.controller.adjacency import Adjacency
from relaymesh.controller.directory import Directory
from relaymesh.controller.explain import Explainer
from relaymesh.controller.lsdb import Direction, LinkStateDb
from relaymesh.controller.metric import CostBook
from relaymesh.controller.parts import Parts
from relaymesh.controller.paths import follow
from relaymesh.controller.plan import Planner
from relaymesh.controller.policy import MeshPolicy
from relaymesh.controller.publish import Publisher
from relaymesh.controller.registry import Member, Registry
from relaymesh.protocol.bitstring import members
from relaymesh.protocol.messages import PublicationInfo

Json = dict[str, object]
Key = tuple[str, str]  # room, participant
# Of an answer, so that a part takes one or two milliseconds.
NODES_AT_ONCE = 8  # with all their links
STREAMS_AT_ONCE = 32
ROUTES_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class MeshView:
    """The stages, to be read."""

    policy: MeshPolicy
    registry: Registry
    adjacency: Adjacency
    lsdb: LinkStateDb
    costs: CostBook
    planner: Planner
    publisher: Publisher
    rooms: Directory

    def state(self) -> Parts[Json]:
        """All of it: topology, generations, nodes, directed links, streams with the paths they take."""
        plan, active = self.planner.plan, self.publisher.active
        nodes: list[Json] = []
        links: list[Json] = []
        for number, member in enumerate(self.registry.members()):
            nodes.append(self._node(member))
            links += [self._link((member.index, peer)) for peer in self.adjacency.neighbours(member.index)]
            if number % NODES_AT_ONCE == NODES_AT_ONCE - 1:
                yield
        streams: list[Json] = []
        yield
        # In the order in which they came: to sort a hundred thousand takes long.
        for number, (key, stream) in enumerate(self.rooms.publications().items()):
            if stream.ingress is not None and stream.info is not None:  # it may have ended since
                streams.append(self._stream(key, stream.ingress, stream.info, stream.edges))
            if number % STREAMS_AT_ONCE == STREAMS_AT_ONCE - 1:
                yield
        return {
            "topology": self.policy.name,
            "generation": 0 if plan is None else plan.generation,
            "active_generation": 0 if active is None else active.generation,
            "nodes": nodes,
            "links": links,
            "publications": streams,
        }

    def path(self, start: str, end: str) -> Json | None:
        """The path packets from node *start* to node *end* take now; None when there is none."""
        ends = [self.registry.by_name(name) for name in (start, end)]
        if ends[0] is None or ends[1] is None:
            return None
        path = self._follow(ends[0].index, ends[1].index)
        if path is None:
            return None
        costs = [self.costs.planned_ms(hop) for hop in pairwise(path)]
        known = [cost for cost in costs if cost is not None]
        # A link of the path may have gone down a moment ago, and the tables not yet have followed.
        cost_ms = round(sum(known), 3) if len(known) == len(costs) else None
        return {"path": self._names(path), "cost_ms": cost_ms}

    def explanation(
        self,
        start: str,
        end: str,
        costs_ms: Mapping[Direction, float],
        added: Callable[[Direction], Mapping[str, float]],
    ) -> Callable[[], Json] | None:
        """Why packets from node *start* to node *end* go as they go; None when they do not arrive.

        What is returned works it out, and may be called in a thread.
        """
        ends = [self.registry.by_name(name) for name in (start, end)]
        if ends[0] is None or ends[1] is None or ends[0] is ends[1]:
            return None
        path = self._follow(ends[0].index, ends[1].index)
        if path is None:
            return None
        active = self.publisher.active
        known = {
            "from": start,
            "to": end,
            "generation": 0 if active is None else active.generation,
            "may_peer": self.policy.may_peer(ends[0], ends[1]),
            "are_neighbours": self.adjacency.are_neighbours(ends[0].index, ends[1].index),
            "pins": self._pins_followed(path),
        }

        def work_out() -> Json:
            explainer = Explainer(costs_ms, terms=self.costs.terms, added=added, name=self._name)
            return {**known, **explainer.explain(path)}

        return work_out

    def _pins_followed(self, path: list[int]) -> list[str]:
        """The pins that say of *path*, or of its end, what it does."""
        followed = []
        on_it = [self.registry.by_index(index) for index in path]
        for pin in self.policy.pins():
            last = on_it[-len(pin.stations) :]
            if len(last) == len(pin.stations) and all(
                node is not None and self.policy.stands_at(node, station)
                for node, station in zip(last, pin.stations, strict=True)
            ):
                followed.append(" → ".join(pin.stations))
        return followed

    def routes(self, start: str) -> Parts[list[Json] | None]:
        """Where packets of node *start* go, for each destination; None when there is no such node."""
        member = self.registry.by_name(start)
        if member is None:
            return None
        active = self.publisher.active
        table = {} if active is None else active.table(member.index)
        detours = {} if active is None else active.detours.get(member.index, {})
        around = {d: path for ways in detours.values() for path, ends in ways.items() for d in ends}
        rows: list[Json] = []
        for number, destination in enumerate(sorted(table)):
            if number % ROUTES_AT_ONCE == ROUTES_AT_ONCE - 1:
                yield
            path = self._follow(member.index, destination) or []
            costs = [self.costs.planned_ms(hop) for hop in pairwise(path)]
            known = [cost for cost in costs if cost is not None]
            rows.append(
                {
                    "to": self._name(destination),
                    "next_hop": self._name(table[destination]),
                    "path": self._names(path),
                    "cost_ms": round(sum(known), 3) if path and len(known) == len(costs) else None,
                    "detour": self._names(list(around.get(destination, ()))),
                }
            )
        return rows

    def _node(self, member: Member) -> Json:
        place = self.policy.place(member.region)
        return {
            "index": member.index,
            "name": member.name,
            "region": member.region,
            "connected": member.connected,
            "http_url": member.http_url,
            "sessions": member.sessions,
            "place": None if place is None else asdict(place),
        }

    def _link(self, direction: Direction) -> Json:
        state, cost = self.lsdb.state(direction), self.costs.planned_ms(direction)
        names = self._names(list(direction))
        return {
            "from": names[0],
            "to": names[1],
            "up": state is not None and state.up,
            "rtt_ms": None if state is None else round(state.rtt_ms, 3),
            "jitter_ms": None if state is None else round(state.jitter_ms, 3),
            "loss": None if state is None else round(state.loss, 5),
            "cost_ms": None if cost is None else round(cost, 3),
        }

    def _stream(self, key: Key, ingress: int, info: PublicationInfo, wanted: int) -> Json:
        edges = [edge for edge in members(wanted) if self.registry.by_index(edge) is not None]
        paths: dict[str, list[str]] = {}
        for edge in edges:
            path = self._follow(ingress, edge)
            if path is not None:
                paths[self._name(edge)] = self._names(path)
        return {
            "room": key[0],
            "participant": key[1],
            "ingress": self._name(ingress),
            "tracks": [
                {"track": track.track, "kind": track.kind, "codec": track.codec} for track in info.tracks
            ],
            "edges": self._names(edges),
            "paths": paths,
        }

    def _follow(self, start: int, end: int) -> list[int] | None:
        active = self.publisher.active
        return follow({} if active is None else active.tables, start, end)

    def _names(self, indexes: list[int]) -> list[str]:
        return [self._name(index) for index in indexes]

    def _name(self, index: int) -> str:
        member = self.registry.by_index(index)
        return f"#{index}" if member is None else member.name
