"""Incremental shortest paths: after a few links changed, only nodes behind the change are computed again.

In: a :class:`~relaymesh.controller.routes.RouteMatrix` that has just taken
*changes*, and the destinations they touch. Out: its matrices as a computation
of the whole trees would leave them, to the bit, some destinations at a time.

For a destination, a link that got dearer concerns the nodes with a shortest
path over it: those whose way to its sender, over it, and on is no longer than
their best. (Where a node lost several links, it is simpler to ask whose path
leads over that node.) They forget their costs, and take the best that their
neighbours offer. Whoever is nearer by that, or by a link that got cheaper,
offers it on, until nobody is nearer any more (Bellman and Ford's relaxation, in
waves). Costs are positive and floating-point addition is monotone, so there is
one such result, which is Dijkstra's. All destinations of a part go through the
waves together, as one array of (destination, node) pairs: interpreted code runs
per wave, not per node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from relaymesh.controller.paths import TIE_MS
from relaymesh.controller.routes import NO_HOP, Change, Costs, Flags, HopMatrix, Indexes, Moves, RouteMatrix

_LOOKS = 50_000  # (destination, node, question) looked at together
_SEVERAL = 3  # links of one node that got dearer
_PAIR_WORK = 40  # links × destinations of a whole tree that take as long as one pair here
_WHOLE = 0.25  # of all nodes behind a change: from here on the whole tree is computed as quickly


def spread(
    matrix: RouteMatrix, changes: Sequence[Change], touched: Indexes, slice_work: float
) -> Iterator[Moves]:
    """Bring the trees of the *touched* destinations up to *changes*; each turn takes about *slice_work*.

    *slice_work*: links × destinations of whole trees that would take as long.
    """
    ripples = _Ripples(matrix, changes)
    rows = max(1, _LOOKS // max(1, matrix.size * ripples.questions))
    pairs = slice_work / _PAIR_WORK
    trees = max(1, int(slice_work / max(1, len(matrix.links))))
    for start in range(0, len(touched), rows):
        part = touched[start : start + rows]
        reach = ripples.reach(part)
        whole = reach > _WHOLE * matrix.size
        for few in _cut(part[~whole], reach[~whole], pairs):
            yield ripples.compute(few)
        wide = part[whole]
        for at in range(0, len(wide), trees):
            yield matrix.compute(wide[at : at + trees])


class _Ripples:
    """The changes of one plan."""

    def __init__(self, matrix: RouteMatrix, changes: Sequence[Change]) -> None:
        self._matrix = matrix
        self._links = matrix.links
        rises = [change for change in changes if change[3] > change[2]]
        ends = Counter(end for sender, receiver, *_ in rises for end in (sender, receiver))
        self._passed = sorted(end for end, count in ends.items() if count >= _SEVERAL)
        self._rises = [rise for rise in rises if rise[0] not in self._passed and rise[1] not in self._passed]
        self._falls = [change for change in changes if change[3] < change[2]]
        self._senders: Indexes = np.unique([change[0] for change in changes])
        # The way to a changed link does not lead over it, but may over another one that is brought up before.
        ends_of_ways = {*self._senders.tolist(), *self._passed}
        self._way_to = {end: matrix.shortest_to(end).copy() for end in ends_of_ways}

    @property
    def questions(self) -> int:
        """Number of tests on each node to find those behind the changes."""
        return len(self._passed) + len(self._rises) + len(self._falls)

    def reach(self, destinations: Indexes) -> Indexes:
        """For each destination, about how many nodes' costs change."""
        costs = self._matrix.to_go[destinations]
        most = costs + TIE_MS
        behind = self._behind_rises(costs, _most(costs))
        for sender, receiver, _, after in self._falls:
            beyond = after + costs[:, receiver]
            behind |= (self._way_to[sender] + beyond[:, None] <= most) & np.isfinite(beyond)[:, None]
        counts: Indexes = np.count_nonzero(behind, axis=1)
        return counts

    def compute(self, destinations: Indexes) -> Moves:
        """Bring these trees up to the changes; what became of their nodes."""
        matrix, size = self._matrix, self._matrix.size
        before = matrix.to_go[destinations]
        most_before = _most(before)
        costs = before.copy()
        doubtful = self._behind_rises(before, most_before)
        costs[doubtful] = np.inf
        self._settle(costs, np.flatnonzero(doubtful))
        farther: Flags = costs != before
        most = _most(costs)
        again = doubtful | farther
        again[:, self._senders] = True
        # Whoever was not concerned itself, but has a neighbour that it could go by before, or can now.
        owners, links = _expand(np.flatnonzero(farther), self._links.entering(size), size)
        here = owners // size * size + self._links.senders[links]
        more = self._links.costs[links]
        again.ravel()[
            here[
                (more + before.ravel()[owners] <= most_before.ravel()[here])
                | (more + costs.ravel()[owners] <= most.ravel()[here])
            ]
        ] = True
        hops = matrix.hops[destinations]
        rerouted = self._choose(hops, costs, most, np.flatnonzero(again))
        matrix.to_go[destinations] = costs
        matrix.hops[destinations] = hops
        return Moves(destinations, farther, rerouted)

    def _behind_rises(self, costs: Costs, most: Costs) -> Flags:
        """Nodes whose shortest paths may lead over a link that got dearer."""
        behind = np.zeros(costs.shape, np.bool_)
        for sender, receiver, before, _ in self._rises:
            behind |= self._way_to[sender] + (before + costs[:, receiver])[:, None] <= most
        for node in self._passed:
            behind |= self._way_to[node] + costs[:, node][:, None] <= most
        return behind

    def _settle(self, costs: Costs, doubtful: Indexes) -> None:
        """Fill in the *doubtful* pairs' costs, and lower whatever can be lower now; in place."""
        size, flat = self._matrix.size, costs.ravel()
        wave = [doubtful[:0]]
        if len(doubtful):
            owners, links = _expand(doubtful, self._links.leaving(size), size)
            offered = self._links.costs[links] + flat[owners // size * size + self._links.receivers[links]]
            if len(owners):
                at = np.flatnonzero(np.r_[True, owners[1:] != owners[:-1]])
                flat[owners[at]] = np.minimum.reduceat(offered, at)
            wave.append(doubtful[np.isfinite(flat[doubtful])])
        for sender, receiver, _, after in self._falls:
            offered = after + costs[:, receiver]
            nearer = np.flatnonzero(offered < costs[:, sender])
            costs[nearer, sender] = offered[nearer]
            wave.append(nearer * size + sender)
        moved = np.concatenate(wave)
        while len(moved):
            owners, links = _expand(moved, self._links.entering(size), size)
            here = owners // size * size + self._links.senders[links]
            offered = self._links.costs[links] + flat[owners]
            nearer = offered < flat[here]
            here = here[nearer]
            np.minimum.at(flat, here, offered[nearer])
            moved = np.unique(here)

    def _choose(self, hops: HopMatrix, costs: Costs, most: Costs, pairs: Indexes) -> Flags:
        """Choose the next hops of these *pairs* again, in place; where one is another than before."""
        size, flat = self._matrix.size, hops.ravel()
        chosen = np.full(len(pairs), size)
        owners, links = _expand(pairs, self._links.leaving(size), size)
        receivers = self._links.receivers[links]
        if len(owners):
            onward = costs.ravel()[owners // size * size + receivers]
            good = self._links.costs[links] + onward <= most.ravel()[owners]
            at = np.flatnonzero(np.r_[True, owners[1:] != owners[:-1]])
            least = np.minimum.reduceat(np.where(good, receivers, size), at)
            chosen[np.searchsorted(pairs, owners[at])] = least
        new = np.where(chosen < size, chosen, NO_HOP)
        rerouted = np.zeros(hops.shape, np.bool_)
        rerouted.ravel()[pairs] = flat[pairs] != new
        flat[pairs] = new
        return rerouted


def _most(costs: Costs) -> Costs:
    """Highest cost of a path as good as the best; -inf where there is no path."""
    return np.where(np.isinf(costs), -np.inf, costs + TIE_MS)


def _expand(pairs: Indexes, of_node: tuple[Indexes, Indexes], size: int) -> tuple[Indexes, Indexes]:
    """Each of the *pairs* (destination's row × *size* + node) beside each of its node's links.

    *of_node*: where each node's links begin in the second array, one more than nodes; those links.
    """
    first, links = of_node
    nodes = pairs % size
    counts = first[nodes + 1] - first[nodes]
    ends = np.cumsum(counts)
    at = np.arange(ends[-1] if len(ends) else 0) + np.repeat(first[nodes] - (ends - counts), counts)
    return np.repeat(pairs, counts), links[at]


def _cut(destinations: Indexes, work: Indexes, most: float) -> Iterator[Indexes]:
    """Parts of *destinations* with at most so much *work* together, or one of more."""
    parts = (np.cumsum(work) // max(1.0, most)).astype(np.int64)
    for part in np.unique(parts).tolist():
        yield destinations[parts == part]
