"""All-pairs next hops of a big mesh, in compiled code, a few destinations at a time.

In: the cost of every directed link. Out: matrices whose rows are destinations
and whose columns are nodes, by index: the cost to go, and the next hop. The
results are those of :func:`relaymesh.controller.paths.shortest_paths`, to the
bit, by whichever history of changes: a change says which destinations' trees it
can touch, and only those are computed again.

scipy holds the interpreter for as long as a call takes, so whoever calls
:meth:`RouteMatrix.compute` chooses how many destinations one call is for.

Pins are laid over the trees of the destinations they lead to; the cost to go of
a node whose way they change is that of the way it goes, so that on every way
it falls with each hop, as detours rely on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from relaymesh.controller.lsdb import Direction
from relaymesh.controller.paths import TIE_MS
from relaymesh.controller.pins import PinBook, Pins

NO_HOP = -1
SLICE_WORK = 64_000  # links × destinations whose trees are computed in one slice: 2 to 3 ms
MANY = 96  # changes: all links of a node with many; more are as soon computed as looked at
_ROWS = 256  # made ready at a turn
_GROWTH = 64  # indexes are given out from the lowest: the matrices grow by this many

Costs: TypeAlias = npt.NDArray[np.float64]
Indexes: TypeAlias = npt.NDArray[np.int64]
HopMatrix: TypeAlias = npt.NDArray[np.int16]  # [destination, node] → next hop
Flags: TypeAlias = npt.NDArray[np.bool_]
Change: TypeAlias = tuple[int, int, float, float]  # sender, receiver, cost before and after; inf: no link
Changes: TypeAlias = list[Change] | None  # None: more than MANY, by which any tree may be touched


@dataclass(frozen=True, slots=True)
class Moves:
    """Result of a new computation of some *destinations*; rows are theirs, columns nodes."""

    destinations: Indexes
    farther: Flags  # or nearer: the cost to go differs
    rerouted: Flags  # the next hop differs


def in_parts(destinations: Indexes, length: float) -> Iterator[Indexes]:
    """*destinations*, about *length* at a time."""
    whole = max(1, int(length))
    for start in range(0, len(destinations), whole):
        yield destinations[start : start + whole]


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
        self._leaving: tuple[Indexes, Indexes] | None = None
        self._entering: tuple[Indexes, Indexes] | None = None

    def __len__(self) -> int:
        return len(self.costs)

    def leaving(self, size: int) -> tuple[Indexes, Indexes]:
        """Index of the first link of each of *size* senders, and the links."""
        if self._leaving is None:
            first = np.searchsorted(self.senders, np.arange(size + 1))
            self._leaving = first, np.arange(len(self))
        return self._leaving

    def entering(self, size: int) -> tuple[Indexes, Indexes]:
        """The same by receivers."""
        if self._entering is None:
            order = np.argsort(self.receivers, kind="stable")
            self._entering = np.searchsorted(self.receivers[order], np.arange(size + 1)), order
        return self._entering

    def costs_of(self, sender: int) -> dict[int, float]:
        """The links of *sender*: receiver → cost, rising."""
        own = slice(*np.searchsorted(self.senders, (sender, sender + 1)))
        return dict(zip(self.receivers[own].tolist(), self.costs[own].tolist(), strict=True))

    def costs_between(self, senders: Indexes, receivers: Indexes) -> Costs:
        """The costs of these links, which are all there."""
        keys = self.senders << 16 | self.receivers
        return self.costs[np.searchsorted(keys, senders << 16 | receivers)]

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
        self._pins = PinBook()
        self._unpinned: dict[int, Costs] = {}  # destination → costs to go without its pins

    def differences(
        self, costs_ms: Mapping[Direction, float], among: Collection[Direction] | None = None
    ) -> Changes:
        """Differences of *costs_ms*, which are all costs, from those taken before.

        *among*: nothing but these can differ; None: anything may.
        """
        old = self._costs
        if among is None:
            among = () if costs_ms == old else costs_ms.keys() | old.keys()
        found: list[Change] = []
        for link in among:
            before, after = old.get(link, np.inf), costs_ms.get(link, np.inf)
            if before != after:
                found.append((*link, before, after))
                if len(found) > MANY:
                    return None
        return sorted(found)

    def grow(self, width: int) -> Iterator[None]:
        """Make room for indexes below *width*, a part at each turn: new memory comes page by page."""
        if width <= self.size:
            return
        old, size = self.size, -(-width // _GROWTH) * _GROWTH
        to_go, hops = np.empty((size, size)), np.empty((size, size), np.int16)
        for start in range(0, size, _ROWS):
            part, kept = slice(start, start + _ROWS), slice(start, min(start + _ROWS, old))
            to_go[part], hops[part] = np.inf, NO_HOP
            to_go[kept, :old], hops[kept, :old] = self.to_go[kept], self.hops[kept]
            yield
        np.fill_diagonal(to_go, 0.0)
        self.to_go, self.hops, self.size = to_go, hops, size

    def take(self, costs_ms: dict[Direction, float]) -> None:
        """These are the costs from now on; the dictionary is kept."""
        self._costs = costs_ms
        self.links = LinkArrays(costs_ms)
        for _ in self.grow(self.links.width):
            pass
        self._graph = self.links.reversed_graph(self.size)

    def pin(self, pins: Pins) -> Indexes:
        """Lay these *pins* over what is computed from now on; the destinations to compute, whatever changed.

        Those that had pins are among them.
        """
        self._pins = PinBook(pins)
        ends = [end for end in {*self._pins.destinations, *self._unpinned} if end < self.size]
        return np.array(sorted(ends), np.int64)

    def shortest_to(self, destination: int) -> Costs:
        """The costs to go to *destination* on shortest paths, whatever is pinned."""
        unpinned = self._unpinned.get(destination)
        return self.to_go[destination] if unpinned is None else unpinned

    def touched(self, changes: Changes) -> Indexes:
        """The destinations whose trees these *changes*, just taken, can touch, rising."""
        if changes is None:
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
        if self._pins.pins or self._unpinned:
            self._lay_pins(destinations, to_go, hops)
        moves = Moves(destinations, to_go != self.to_go[destinations], hops != self.hops[destinations])
        self.to_go[destinations] = to_go
        self.hops[destinations] = hops
        return moves

    def _lay_pins(self, destinations: Indexes, to_go: Costs, hops: HopMatrix) -> None:
        for row, destination in enumerate(destinations.tolist()):
            laid, _ = self._pins.towards(destination, self._costs)
            self._unpinned.pop(destination, None)
            if not laid:
                continue
            self._unpinned[destination] = to_go[row].copy()
            hops[row, list(laid)] = list(laid.values())
            to_go[row] = self._along(destination, to_go[row], hops[row], list(laid))

    def _along(self, destination: int, to_go: Costs, hops: HopMatrix, pinned: list[int]) -> Costs:
        """*to_go* with the cost of their actual way for all whose *hops* lead over a *pinned* node."""
        there = np.isfinite(to_go)
        there[destination] = False
        following = np.where(there, hops, np.arange(self.size))
        costs = np.zeros(self.size)
        ends = np.flatnonzero(there)
        costs[ends] = self.links.costs_between(ends, hops[ends].astype(np.int64))
        passes = np.zeros(self.size, np.bool_)
        passes[pinned] = True
        # Each turn looks twice as far ahead as the last.
        for _ in range(self.size.bit_length()):
            costs = costs + costs[following]
            passes = passes | passes[following]
            following = following[following]
        return np.where(passes & there, costs, to_go)
