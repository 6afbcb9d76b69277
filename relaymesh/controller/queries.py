"""Queries: the mesh as plain JSON values for the API, read from the state and changing none of it.

In: names of nodes and rooms. Out: JSON values; long ones in parts (:mod:`parts`), and the
expensive explanation as a function that may run in a thread. The one exception to "changing none"
is :meth:`MeshView.edges`, which reserves a place for the client.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import pairwise

from relaymesh.controller.edges import EdgeFinder
from relaymesh.controller.explain import Explainer
from relaymesh.controller.lsdb import Direction
from relaymesh.controller.mesh_state import MeshState
from relaymesh.controller.parts import Parts
from relaymesh.controller.paths import follow
from relaymesh.controller.placement import Client
from relaymesh.controller.preview import Situation
from relaymesh.controller.registry import Member
from relaymesh.controller.stage import Stage
from relaymesh.protocol.bitstring import members
from relaymesh.protocol.messages import PublicationInfo

Json = dict[str, object]
Key = tuple[str, str]  # room, participant
# Of an answer, so that a part takes one or two milliseconds.
NODES_AT_ONCE = 8  # with all their links
STREAMS_AT_ONCE = 32
ROUTES_AT_ONCE = 32


class MeshView:
    """Read access to the mesh, by name."""

    def __init__(self, state: MeshState, edges: EdgeFinder, stages: Sequence[Stage]) -> None:
        self._state = state
        self._edges = edges
        self._stages = stages
        self._policy = state.policy
        self._registry = state.registry
        self._costs = state.costs
        self._book = state.costs.book

    def state(self) -> Parts[Json]:
        """The whole mesh: topology, generations, nodes, directed links, publications with their paths."""
        role, epoch = "lapsed" if self._state.reign.lapsed else "leader", self._state.reign.epoch
        objective = self._costs.pricing.objective
        generation, active_generation = self._state.generation, self._state.active_generation
        nodes: list[Json] = []
        links: list[Json] = []
        for number, member in enumerate(self._registry.members()):
            nodes.append(self._node(member))
            peers = self._state.adjacency.neighbours(member.index)
            links += [self._link((member.index, peer)) for peer in peers]
            if number % NODES_AT_ONCE == NODES_AT_ONCE - 1:
                yield
        streams: list[Json] = []
        yield
        # In the order in which they came: to sort a hundred thousand takes long.
        for number, (key, stream) in enumerate(self._state.rooms.publications().items()):
            if stream.ingress is not None and stream.info is not None:  # it may have ended since
                streams.append(self._stream(key, stream.ingress, stream.info, stream.edges))
            if number % STREAMS_AT_ONCE == STREAMS_AT_ONCE - 1:
                yield
        return {
            "role": role,
            "leader_epoch": epoch,
            "objective": objective,
            "topology": self._policy.name,
            "generation": generation,
            "active_generation": active_generation,
            "nodes": nodes,
            "links": links,
            "publications": streams,
        }

    def path(self, start: str, end: str) -> Json | None:
        """The present path of packets from node *start* to node *end*; None when there is none."""
        ends = [self._registry.by_name(name) for name in (start, end)]
        if ends[0] is None or ends[1] is None:
            return None
        path = self._follow(ends[0].index, ends[1].index)
        if path is None:
            return None
        costs = [self._book.planned_ms(hop) for hop in pairwise(path)]
        known = [cost for cost in costs if cost is not None]
        # A link of the path may have gone down a moment ago, and the tables not yet have followed.
        cost_ms = round(sum(known), 3) if len(known) == len(costs) else None
        return {"path": self._names(path), "cost_ms": cost_ms}

    def explanation(self, start: str, end: str) -> Callable[[], Json] | None:
        """The reasons for the path between two nodes; None when there is no path.

        The function returned computes them, and may be called in a thread.
        """
        ends = [self._registry.by_name(name) for name in (start, end)]
        if ends[0] is None or ends[1] is None or ends[0] is ends[1]:
            return None
        path = self._follow(ends[0].index, ends[1].index)
        if path is None:
            return None
        costs, now = self._costs, self._state.now
        known = {
            "from": start,
            "to": end,
            "generation": self._state.active_generation,
            "may_peer": self._policy.may_peer(ends[0], ends[1]),
            "are_neighbours": self._state.adjacency.are_neighbours(ends[0].index, ends[1].index),
            "pins": self._pins_followed(path),
        }
        costs_ms, objective = costs.weights.costs_ms, costs.pricing.objective

        def work_out() -> Json:
            explainer = Explainer(
                costs_ms, terms=self._book.terms, added=lambda link: costs.added(link, now), name=self._name
            )
            return {**known, **explainer.explain(path), "objective": objective}

        return work_out

    def _pins_followed(self, path: list[int]) -> list[str]:
        """The pins that *path*, or its end, follows."""
        followed = []
        on_it = [self._registry.by_index(index) for index in path]
        for pin in self._policy.pins():
            last = on_it[-len(pin.stations) :]
            if len(last) == len(pin.stations) and all(
                node is not None and self._policy.stands_at(node, station)
                for node, station in zip(last, pin.stations, strict=True)
            ):
                followed.append(" → ".join(pin.stations))
        return followed

    def routes(self, start: str) -> Parts[list[Json] | None]:
        """The routing table of node *start*, with whole paths; None when there is no such node."""
        member = self._registry.by_name(start)
        if member is None:
            return None
        active = self._state.publisher.active
        table = {} if active is None else active.table(member.index)
        detours = {} if active is None else active.detours.get(member.index, {})
        around = {d: path for ways in detours.values() for path, ends in ways.items() for d in ends}
        rows: list[Json] = []
        for number, destination in enumerate(sorted(table)):
            if number % ROUTES_AT_ONCE == ROUTES_AT_ONCE - 1:
                yield
            path = self._follow(member.index, destination) or []
            costs = [self._book.planned_ms(hop) for hop in pairwise(path)]
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

    def edges(self, room: str, client: Client, limit: int, now: float) -> list[Json]:
        """The best edges for *client* in *room*, best first; a place at the first is reserved for a while."""
        return self._edges.find(room, client, limit, now)

    def situation(self) -> Parts[Situation]:
        """A copy of the state for :func:`~relaymesh.controller.preview.preview`."""
        state = self._state
        pairs = state.adjacency.pairs()
        yield
        unpriced = self._costs.weights.unpriced_ms()
        yield
        legs = yield from state.rooms.legs()
        active = state.publisher.active
        return Situation(
            self._policy.now,
            state.nodes(),
            tuple(pair for pair in pairs if state.adjacency.are_neighbours(*pair)),
            unpriced,
            state.options.objective,
            self._costs.damping.on_probation(state.now),
            {} if active is None else active.tables,
            legs,
        )

    def debug(self) -> Parts[Json]:
        """The debug state of all stages, without keys and tokens."""
        shown: Json = {}
        for stage in self._stages:
            shown |= yield from stage.debug_part()
        return shown

    def _node(self, member: Member) -> Json:
        place = self._policy.place(member.region)
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
        state, cost = self._state.lsdb.state(direction), self._book.planned_ms(direction)
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
        edges = [edge for edge in members(wanted) if self._registry.by_index(edge) is not None]
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
        active = self._state.publisher.active
        return follow({} if active is None else active.tables, start, end)

    def _names(self, indexes: list[int]) -> list[str]:
        return [self._name(index) for index in indexes]

    def _name(self, index: int) -> str:
        member = self._registry.by_index(index)
        return f"#{index}" if member is None else member.name
