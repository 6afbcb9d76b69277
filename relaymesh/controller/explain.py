"""Explanations of routes: a path term by term, beside the best paths it was preferred to.

In: the tables packets are stamped with, the costs a plan would be made of now
and what they consist of. Out: plain JSON values. It decides nothing, and looks
at one pair of nodes for each question. In a big mesh that takes tens of
milliseconds: it only reads, and may do so in a thread while the mesh goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import pairwise
from math import isfinite

import networkx as nx

from relaymesh.controller.lsdb import Direction
from relaymesh.controller.metric import CostTerms

Json = dict[str, object]
Path = list[int]
# Beside the measured terms, in the order they are shown.
ADDED_TERMS = ("load_ms", "price_ms", "door_ms", "probation_ms", "held_ms")


class Explainer:
    """Answers for one moment."""

    def __init__(
        self,
        costs_ms: Mapping[Direction, float],
        *,
        terms: Callable[[Direction], CostTerms | None],
        added: Callable[[Direction], Mapping[str, float]],
        name: Callable[[int], str],
    ) -> None:
        """*costs_ms*: as the planner would count now; *added*: what was added to the measured terms."""
        self._costs = costs_ms
        self._terms = terms
        self._added = added
        self._name = name
        self._graph: nx.DiGraph[int] = nx.DiGraph()
        self._graph.add_weighted_edges_from((a, b, cost) for (a, b), cost in costs_ms.items())

    def explain(self, path: Path) -> Json:
        """The *path* and the runners-up: by another next hop, and with no node or link in common."""
        own = self._way(path)
        next_hop = self._best(path[0], path[-1], without_links=[(path[0], path[1])])
        apart = self._best(
            path[0],
            path[-1],
            without_nodes=path[1:-1],
            without_links=[(path[0], path[1])] if len(path) == 2 else [],
        )
        cheapest = self._best(path[0], path[-1])
        return {
            "path": own,
            "is_cheapest_now": cheapest is None or self._cost(path) <= self._cost(cheapest) + 1e-6,
            "runner_up": self._rival(path, next_hop),
            "disjoint": self._rival(path, apart),
        }

    def _rival(self, path: Path, rival: Path | None) -> Json | None:
        if rival is None:
            return None
        mine, theirs = self._sums(path), self._sums(rival)
        return {
            **self._way(rival),
            "more_ms": _finite(self._cost(rival) - self._cost(path)),
            "parts_at": self._name(_parting(path, rival)),
            "meets_at": self._name(_parting(path[::-1], rival[::-1])),
            "difference": {term: round(value - mine.get(term, 0.0), 3) for term, value in theirs.items()},
        }

    def _way(self, path: Path) -> Json:
        return {
            "nodes": [self._name(node) for node in path],
            "cost_ms": _finite(self._cost(path)),
            "terms": {term: round(value, 3) for term, value in self._sums(path).items()},
            "hops": [
                {
                    "from": self._name(hop[0]),
                    "to": self._name(hop[1]),
                    "cost_ms": None if hop not in self._costs else round(self._costs[hop], 3),
                    "terms": {term: round(value, 3) for term, value in self._link(hop).items()},
                }
                for hop in pairwise(path)
            ],
        }

    def _link(self, hop: Direction) -> dict[str, float]:
        """The terms of one link; with ``held_ms``, what hysteresis holds back, they sum up to its cost."""
        measured = self._terms(hop)
        terms: dict[str, float] = {} if measured is None else dict(asdict(measured))
        terms |= dict.fromkeys(ADDED_TERMS, 0.0) | dict(self._added(hop))
        if hop in self._costs:
            terms["held_ms"] = self._costs[hop] - sum(terms.values())
        return terms

    def _sums(self, path: Path) -> dict[str, float]:
        sums: dict[str, float] = {}
        for hop in pairwise(path):
            for term, value in self._link(hop).items():
                sums[term] = sums.get(term, 0.0) + value
        return sums

    def _cost(self, path: Path) -> float:
        # A link that went down a moment ago has no cost any more; the tables follow soon.
        return sum(self._costs.get(hop, float("inf")) for hop in pairwise(path))

    def _best(
        self,
        start: int,
        end: int,
        *,
        without_nodes: list[int] | None = None,
        without_links: list[Direction] | None = None,
    ) -> Path | None:
        view = nx.restricted_view(self._graph, without_nodes or [], without_links or [])
        if start not in view or end not in view:
            return None
        try:
            found: Path = nx.dijkstra_path(view, start, end)
        except nx.NetworkXNoPath:
            return None
        return found


def _finite(cost_ms: float) -> float | None:
    return round(cost_ms, 3) if isfinite(cost_ms) else None


def _parting(one: Path, other: Path) -> int:
    """The last node that both have in common from the start on."""
    last = one[0]
    for here, there in zip(one, other, strict=False):
        if here != there:
            break
        last = here
    return last
