"""All-pairs next hops of a big mesh, in compiled code, a few destinations at a time.

In: the cost of every directed link. Out: matrices whose rows are destinations
and whose columns are nodes, by index: the cost to go, and the next hop. The
results are those of :func:`relaymesh.controller.paths.shortest_paths`, to the
bit, by whichever history of changes: a change says which destinations' trees it
can touch, and only those are computed again.

scipy holds the interpreter for as long as a call takes, so whoever calls
:meth:`RouteMatrix.compute` chooses how many destinations one call is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from relaymesh.controller.lsdb import Direction
from relaymesh.controller.paths import TIE_MS

NO_HOP = -1
_MANY = 48  # changes, of which most destinations are touched by one; each takes as long to look at as a tree
_GROWTH = 64  # indexes are given out from the lowest: the matrices grow by this many

Costs: TypeAlias = npt.NDArray[np.float64]
Indexes: TypeAlias = npt.NDArray[np.int64]
HopMatrix: TypeAlias = npt.NDArray[np.int16]  # [destination, node] → next hop
Flags: TypeAlias = npt.NDArray[np.bool_]
Change: TypeAlias = tuple[int, int, float, float]  # sender, receiver, cost before and after; inf: no link


@dataclass(frozen=True, slots=True)
class Moves:
    """What a new computation of some *destinations* brought; rows are theirs, columns nodes."""

    destinations: Indexes
    farther: Flags  # or nearer: the cost to go differs
    rerouted: Flags  # the next hop differs


class LinkArrays:
    """The links that are up, ordered by sender and receiver; rebuilt with every change."""

    def __init__(self, costs_ms: Mapping[Direction, float]) -> None:
        count = len(costs_ms)
        ends = np.fromiter(chain.from_iterable(costs_ms), np.int64, 2 * count)
        costs = np.fromiter(costs_ms.values(), np.float64, count)
        order = np.argsort(ends[0::2] << 16 | ends[1::2])
        self.senders: Indexes = ends[0::2][order]
        self.receivers: Indexes = ends[1::2][order]
        self.costs: Costs = costs[order]
        self.width = int(ends.max()) + 1 if count else 0
        # Where each sender's links begin.
        self.starts: Indexes = np.flatnonzero(np.r_[True, self.senders[1:] != self.senders[:-1]][:count])
        self.origins: Indexes = self.senders[self.starts]

    def __len__(self) -> int:
        return len(self.costs)

    def costs_of(self, sender: int) -> dict[int, float]:
        """The links of *sender*: receiver → cost, rising."""
        own = slice(*np.searchsorted(self.senders, (sender, sender + 1)))
        return dict(zip(self.receivers[own].tolist(), self.costs[own].tolist(), strict=True))

    def reversed_graph(self, size: int) -> Any:
        """For searches from a destination: an edge from each link's receiver to its sender."""
        return csr_array((self.costs, (self.receivers, self.senders)), shape=(size, size))

    def least(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """For each of ``origins`` the least of its links' *values* (last axis)."""
        least: npt.NDArray[Any] = np.minimum.reduceat(values, self.starts, axis=-1)
        return least


class RouteMatrix:
    """Costs to go and next hops for all pairs."""

    def __init__(self) -> None:
        self.size = 0
        self.links = LinkArrays({})
        self.to_go: Costs = np.empty((0, 0))
        self.hops: HopMatrix = np.empty((0, 0), np.int16)
        self._costs: dict[Direction, float] = {}
        self._graph: Any = None

    def differences(self, costs_ms: Mapping[Direction, float]) -> list[Change]:
        """What differs in *costs_ms*, which are all costs, from those taken before."""
        old = self._costs
        changes = [(*link, old.get(link, np.inf), c) for link, c in costs_ms.items() if old.get(link) != c]
        if len(old) + sum(before == np.inf for *_, before, _ in changes) != len(costs_ms):
            changes += [(*link, cost, np.inf) for link, cost in old.items() if link not in costs_ms]
        return changes

    def take(self, costs_ms: dict[Direction, float]) -> None:
        """These are the costs from now on; the dictionary is kept."""
        self._costs = costs_ms
        self.links = LinkArrays(costs_ms)
        if self.links.width > self.size:
            self._grow(-(-self.links.width // _GROWTH) * _GROWTH)
        self._graph = self.links.reversed_graph(self.size)

    def touched(self, changes: list[Change]) -> Indexes:
        """The destinations whose trees these *changes*, just taken, can touch, rising."""
        if len(changes) > _MANY:
            return np.arange(self.size)
        touched = np.zeros(self.size, np.bool_)
        for sender, receiver, before, after in changes:
            touched |= self.uses(sender, receiver, min(before, after))
        return np.flatnonzero(touched)

    def uses(self, sender: int, receiver: int, cost: float) -> Flags:
        """For which destinations a link of *cost* would be on a shortest path, by what is known so far.

        A dearer link that is on none, and a cheaper one that would be on none, change no tree.
        """
        beyond = self.to_go[:, receiver]
        uses: Flags = np.isfinite(beyond) & (cost + beyond <= self.to_go[:, sender] + TIE_MS)
        return uses

    def compute(self, destinations: Indexes) -> Moves:
        """Compute the trees of these *destinations*; what became of their nodes."""
        links = self.links
        to_go = dijkstra(self._graph, indices=destinations)
        hops = np.full((len(destinations), self.size), NO_HOP, np.int16)
        if len(links):
            # What cannot be reached has no hop, though inf is no more than inf.
            most = np.where(np.isinf(to_go), -np.inf, to_go + TIE_MS)
            good = links.costs + to_go[:, links.receivers] <= most[:, links.senders]
            chosen = links.least(np.where(good, links.receivers, self.size))
            hops[:, links.origins] = np.where(chosen < self.size, chosen, NO_HOP)
        moves = Moves(destinations, to_go != self.to_go[destinations], hops != self.hops[destinations])
        self.to_go[destinations] = to_go
        self.hops[destinations] = hops
        return moves

    def _grow(self, size: int) -> None:
        to_go = np.full((size, size), np.inf)
        np.fill_diagonal(to_go, 0.0)
        to_go[: self.size, : self.size] = self.to_go
        hops = np.full((size, size), NO_HOP, np.int16)
        hops[: self.size, : self.size] = self.hops
        self.to_go, self.hops, self.size = to_go, hops, size
