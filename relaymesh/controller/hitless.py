"""The hitless class: for each ingress of marked tracks, how their copies reach the edges that want them.

In: plans with the costs they came from, and which edges want marked tracks of which ingress. Out: one
:class:`HitlessWays` for such an ingress with each plan, and whenever more edges want something. Only these
pairs of nodes are computed, so many at a time that nobody waits for it; meanwhile an ingress goes on with
what it was told before. A second copy goes by its own list of hops up to the first node whose way by the
tables keeps apart from the first copy's: from there on destinations share it, and local repair helps it too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from math import inf
from typing import TypeAlias

from relaymesh.controller.disjoint import Graph, Path, Second, make_graph, second_path
from relaymesh.controller.lsdb import Direction
from relaymesh.controller.paths import follow
from relaymesh.controller.plan import Plan
from relaymesh.protocol.bitstring import encode_set, members, set_of
from relaymesh.protocol.messages import HitlessWays, Way

MAX_PAIRS = 20_000  # of an ingress and an edge; beyond, tracks travel once
DEBOUNCE_S = 0.02  # edges that come together make one message
LINKS_PER_TURN = 100_000  # looked at in one call, about: some tens of milliseconds

Told: TypeAlias = list[tuple[int, HitlessWays]]  # (index of the ingress, what it is told)


class HitlessPaths:
    """The ways of all pairs that need them, of the newest plan."""

    def __init__(
        self,
        hitless_edges: Callable[[int], int],
        *,
        max_pairs: int = MAX_PAIRS,
        links_per_turn: int = LINKS_PER_TURN,
    ) -> None:
        """*hitless_edges*: the edges that want marked tracks of an ingress, as a set."""
        self._hitless_edges = hitless_edges
        self._max_pairs = max_pairs
        self._links_per_turn = links_per_turn
        self._plan: Plan | None = None
        self._costs_ms: Mapping[Direction, float] = {}
        self._graph: Graph | None = None  # of the plan; made when the first pair asks
        self._pairs_per_turn = 1
        self._found: dict[tuple[int, int], Second | None] = {}  # (ingress, edge), of this plan
        self._todo: dict[int, None] = {}  # ingresses, in order
        self._due = inf
        self._known: set[int] = set()  # ingresses of marked tracks that somebody wanted
        self._told: dict[int, HitlessWays] = {}  # the last word to each of them
        self.counters: Counter[str] = Counter()

    def handle_plan(self, plan: Plan, costs_ms: Mapping[Direction, float], now: float) -> None:
        """*plan* was made from *costs_ms*, and is being published."""
        self._plan = plan
        self._costs_ms, self._graph = costs_ms, None
        self._pairs_per_turn = max(1, self._links_per_turn // max(1, len(costs_ms)))
        self._found.clear()
        for ingress in sorted(self._known):
            self._todo[ingress] = None
        self._due = now if self._todo else inf

    def handle_changed(self, ingresses: Iterable[int], now: float) -> None:
        """Other edges may want marked tracks of these."""
        for ingress in sorted(ingresses):
            self._known.add(ingress)
            self._todo[ingress] = None
        if self._todo:
            self._due = min(self._due, now + DEBOUNCE_S)

    def handle_join(self, ingress: int, now: float) -> None:
        """The node is connected (again), and may know nothing."""
        self._told.pop(ingress, None)
        if ingress in self._known:
            self.handle_changed((ingress,), now)

    def forget(self, index: int) -> None:
        """The node is gone for good."""
        self._known.discard(index)
        self._told.pop(index, None)
        self._todo.pop(index, None)

    def next_timeout(self) -> float | None:
        return None if self._due == inf or self._plan is None else self._due

    def handle_timeout(self, now: float) -> Told:
        """Find some more ways; what those are told for whom all were found."""
        if self._plan is None or now < self._due:
            return []
        told: Told = []
        left = self._pairs_per_turn
        while self._todo and left > 0:
            ingress = next(iter(self._todo))
            edges = members(self._hitless_edges(ingress))
            unknown = self._unknown(ingress, edges)
            for edge in unknown[:left]:
                self._find(self._plan, ingress, edge)
            left -= len(unknown)
            if left >= 0:
                del self._todo[ingress]
                told += self._tell(self._plan.generation, ingress, edges)
        self._due = now if self._todo else inf
        return told

    def debug_state(self) -> dict[str, object]:
        kinds = Counter("none" if found is None else found.apart for found in self._found.values())
        return {
            "pairs": dict(kinds),
            "waiting": list(self._todo),
            "told": len(self._told),
            "counters": dict(self.counters),
        }

    def _unknown(self, ingress: int, edges: list[int]) -> list[int]:
        """Those of *edges* still to be found, as far as there is room."""
        if not edges:
            self._known.discard(ingress)
        unknown = [edge for edge in edges if (ingress, edge) not in self._found]
        room = self._max_pairs - len(self._found)
        self.counters["beyond-max-pairs"] += len(unknown[room:])
        return unknown[:room]

    def _find(self, plan: Plan, ingress: int, edge: int) -> None:
        primary = follow(plan.tables, ingress, edge)
        second: Second | None = None
        if self._graph is None:
            self._graph = make_graph(sorted(plan.tables), self._costs_ms)
        if primary is not None and len(primary) > 1 and ingress in self._graph:
            second = second_path(self._graph, primary)
            if second is not None and second.first is None and second.apart == "nodes":
                second = Second(_release(plan, set(primary), second.path), "nodes")
        self._found[ingress, edge] = second

    def _tell(self, generation: int, ingress: int, edges: Iterable[int]) -> Told:
        seconds: dict[Path, list[int]] = {}
        firsts: dict[Path, list[int]] = {}
        for edge in edges:
            found = self._found.get((ingress, edge))
            if found is not None:
                seconds.setdefault(found.path, []).append(edge)
                if found.first is not None:
                    firsts.setdefault(found.first, []).append(edge)
        message = HitlessWays(generation, _ways(seconds), _ways(firsts))
        before = self._told.get(ingress)
        if before == message or (before is None and not seconds):
            return []
        self._told[ingress] = message
        return [(ingress, message)]


def _release(plan: Plan, primary: set[int], path: Path) -> Path:
    """*path* up to the first node whose way by the tables shares no node with the *primary* one."""
    end = path[-1]
    for length, node in enumerate(path, 1):
        onward = follow(plan.tables, node, end)
        if onward is not None and not primary.intersection(onward[:-1]):
            return path[:length]
    raise AssertionError("the end is its own way to itself")


def _ways(paths: Mapping[Path, Iterable[int]]) -> tuple[Way, ...]:
    return tuple(Way(path, encode_set(set_of(edges))) for path, edges in sorted(paths.items()))
