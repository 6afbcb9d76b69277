"""The ways media takes through a simulated mesh, against the best there are.

In: the nodes' forwarding tables and the links as they truly are, looked at ten
times a second. Out: each change of a path, the true delay of the best path of a
pair, and how much longer the chosen ones were, averaged over time.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import pairwise

from relaymesh.netsim.crowd import Crowd
from relaymesh.netsim.mesh import SimMesh
from relaymesh.netsim.result import PathChange
from relaymesh.protocol.frames import HOP_LIMIT

Pair = tuple[str, str]  # nodes: ingress, edge


class Routes:
    """Follows the paths of all streams that somebody plays."""

    def __init__(self, mesh: SimMesh, crowd: Crowd) -> None:
        self.changes: list[PathChange] = []
        self._mesh = mesh
        self._crowd = crowd
        topology = mesh.scenario.topology
        self._relays = {n.name for n in topology.node_list() if "relay" in n.roles}
        self._neighbours: dict[str, list[str]] = {name: [] for name in mesh.nodes}
        for source, target in mesh.relay_links():
            self._neighbours[source].append(target)
        self._seen: object = None
        self._paths: dict[tuple[str, Pair], list[str]] = {}  # stream, its ends → the way it takes
        self._best: dict[str, dict[str, float]] = {}
        self._best_of = -1  # link changes when they were computed
        self._stretch = self._weight = 0.0

    # --- the best there is ---------------------------------------------------------------------

    def best_delay(self, source: str, target: str) -> float | None:
        """True delay of the best path now, seconds, without access links; None: there is no way."""
        if self._best_of != self._mesh.link_changes:
            self._best.clear()
            self._best_of = self._mesh.link_changes
        found = self._best.get(source)
        if found is None:
            found = self._best[source] = self._shortest_from(source)
        return found.get(target)

    def _shortest_from(self, source: str) -> dict[str, float]:
        mesh = self._mesh
        done: dict[str, float] = {}
        heap = [(0.0, source)]
        while heap:
            delay, here = heappop(heap)
            if here in done or mesh.nodes[here].node is None:
                continue
            done[here] = delay
            if here != source and here not in self._relays:
                continue
            for there in self._neighbours[here]:
                more = mesh.delay_s(here, there)
                if more is not None and there not in done:
                    heappush(heap, (delay + more, there))
        return done

    # --- what is chosen ------------------------------------------------------------------------

    def sample(self, now: float, seconds: float) -> None:
        """Look at the tables; *seconds* is for how long what is seen counts, 0 while warming up."""
        mesh = self._mesh
        seen = (
            self._crowd.changes,
            [
                (place.boots, place.node and (place.node.core.tables.active, place.node.core.tables.newest))
                for place in mesh.nodes.values()
            ],
        )
        if seen != self._seen:
            self._seen = seen
            self._follow(now)
        if seconds:
            self._weigh(seconds)

    def _follow(self, now: float) -> None:
        names = {
            place.node.core.index: name
            for name, place in self._mesh.nodes.items()
            if place.node is not None and place.node.core.index is not None
        }
        paths: dict[tuple[str, Pair], list[str]] = {}
        for (room, _, publisher), client in self._crowd.playing.items():
            source = self._crowd.publishing.get((room, publisher))
            if source is None or not (source.sessions and client.sessions):
                continue
            pair = source.participant.node, client.participant.node
            key = f"{room}/{publisher}", pair
            if key in paths:
                continue
            path = paths[key] = self._path(*pair, names)
            if path != self._paths.get(key):
                self.changes.append(PathChange(t=now, stream=key[0], edge=pair[1], path=path))
        self._paths = paths

    def _path(self, ingress: str, edge: str, names: dict[int, str]) -> list[str]:
        """The way by the tables; empty: they lead nowhere."""
        nodes = self._mesh.nodes
        first, last = nodes[ingress].node, nodes[edge].node
        if first is None or last is None or last.core.index is None:
            return []
        path, generation, bit = [ingress], first.core.tables.active, 1 << last.core.index
        while path[-1] != edge:
            here = nodes[path[-1]].node
            parts = here.core.tables.split(bit, generation)[0] if here is not None else []
            there = names.get(parts[0][0]) if parts else None
            if there is None or len(path) > HOP_LIMIT:
                return []
            path.append(there)
        return path

    def _weigh(self, seconds: float) -> None:
        for (_, (ingress, edge)), path in self._paths.items():
            best = self.best_delay(ingress, edge)
            if not best or not path:
                continue
            taken = 0.0
            for source, target in pairwise(path):
                delay = self._mesh.delay_s(source, target)
                if delay is None:
                    break  # cut: what that costs shows as gaps
                taken += delay
            else:
                self._stretch += (taken / best - 1.0) * seconds
                self._weight += seconds

    @property
    def stretch(self) -> float | None:
        """Mean over time and streams of (true delay of the chosen path) / (that of the best) − 1."""
        return self._stretch / self._weight if self._weight else None
