"""Random edits of a mesh, one after the other: what an operator in a hurry would do to it.

In: the topology the scenario starts from, and seeded randomness. Out: topologies
of the same regions, nodes and wires, with other added costs, pins and forbidden
pairs. Each leaves the regions connected. Nothing here knows what they do to a mesh.
"""

from __future__ import annotations

from itertools import combinations, pairwise
from random import Random
from typing import Any

from relaymesh.topology import Topology, TopologyError
from relaymesh.topology.edits import with_edits

MAX_DEAR = 4  # links that get another cost at once
MAX_EXTRA_MS = 150.0  # more than the links of a continent differ by
MAX_PINS = 2
MAX_VIA = 2
FORBID = 0.3  # of the edits


class PlanChanges:
    """An endless row of edits."""

    def __init__(self, topology: Topology, rng: Random) -> None:
        self._topology = topology
        self._rng = rng
        names = [region.name for region in topology.regions]
        self._names = names
        self._pairs = [pair for pair in combinations(names, 2) if topology.may_peer(*pair)]

    def next(self) -> Topology:
        """The next one: what the scenario starts from, edited anew."""
        for _ in range(100):
            links, forbidden = self._links()
            try:
                edited = with_edits(self._topology, links, self._pins(forbidden))
            except TopologyError:
                continue  # two pins that contradict each other
            if len(edited.components()) == 1:
                return edited
        raise AssertionError("a connected topology has edits that leave it so: nothing at all is one")

    def _links(self) -> tuple[list[dict[str, Any]], set[frozenset[str]]]:
        rng = self._rng
        chosen = rng.sample(self._pairs, min(len(self._pairs), rng.randint(1, MAX_DEAR)))
        links: list[dict[str, Any]] = [
            {
                "between": list(pair),
                "extra_cost_ms": {
                    "forward": round(rng.uniform(0, MAX_EXTRA_MS), 3),
                    "backward": round(rng.uniform(0, MAX_EXTRA_MS), 3),
                },
            }
            for pair in chosen
        ]
        if rng.random() >= FORBID:
            return links, set()
        pair = rng.choice(self._pairs)
        # The last word on a pair counts; what the first one said of its cost is then moot.
        links.append({"between": list(pair), "peering": "never"})
        return links, {frozenset(pair)}

    def _pins(self, forbidden: set[frozenset[str]]) -> list[dict[str, Any]]:
        rng = self._rng
        pins = []
        for _ in range(rng.randint(0, MAX_PINS)):
            count = min(len(self._names), 2 + rng.randint(0, MAX_VIA))
            way = rng.sample(self._names, count)
            if all(
                frozenset(hop) not in forbidden and self._topology.may_peer(*hop) for hop in pairwise(way)
            ):
                pins.append({"from": way[0], "to": way[-1], "via": way[1:-1]})
        return pins
