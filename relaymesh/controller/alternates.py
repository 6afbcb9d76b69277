"""Detours of a big mesh: for each destination, how every node goes around its next hop.

In: a :class:`~relaymesh.controller.routes.RouteMatrix`. Out: for every
destination and node an *alternate*. They keep the rules of
:mod:`relaymesh.controller.detours`, and so are as free of loops; they differ in
which of the allowed ways is taken: here the cheapest neighbour whose own path
avoids the failure, and only where there is none a search for a longer way. In a
mesh of eight neighbours and more there nearly always is one (RFC 5286 calls it
a node-protecting loop-free alternate), it needs no list of hops in the packet,
and all nodes' can be found by a few array operations for each destination.

An alternate depends on nothing but its destination's tree and the links of the
nodes that were looked at for it, which is what makes it cheap to keep up to date.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from relaymesh.controller.lsdb import Direction
from relaymesh.controller.paths import TIE_MS
from relaymesh.controller.routes import NO_HOP, Changes, Costs, Flags, HopMatrix, Indexes, Moves, RouteMatrix
from relaymesh.protocol.messages import MAX_DETOUR_HOPS

# What an alternate is, where it is no neighbour's index.
NONE = -1  # no way around
EXPLICIT = -2  # the list of hops in ``paths``
AROUND_LINK = -3  # the way that this node goes to the failed neighbour itself

Path: TypeAlias = tuple[int, ...]
Paths: TypeAlias = dict[int, dict[int, Path]]  # destination → node → hops


@dataclass(frozen=True, slots=True)
class Alternates:
    """The alternates of one plan; nobody changes it."""

    ways: HopMatrix  # [destination, node] → neighbour, or one of the codes
    paths: Paths = field(default_factory=dict)

    def repathed(self, base: Alternates, size: int) -> Flags:
        """For which of *size* destinations anything in ``paths`` may differ from *base*."""
        flags = np.zeros(size, np.bool_)
        for destination in self.paths.keys() | base.paths.keys():
            flags[destination] = self.paths.get(destination) is not base.paths.get(destination)
        return flags

    def path(self, node: int, destination: int, hop: int) -> Path:
        """The hops *node* sends by when its next *hop* towards *destination* is out of reach; () for none."""
        way = int(self.ways[destination, node])
        if way >= 0:
            return (way,)
        if way == EXPLICIT:
            return self.paths[destination].get(node, ())
        if way == AROUND_LINK and self.ways[hop, node] == EXPLICIT:
            return self.paths[hop].get(node, ())
        return ()


class AlternateMatrix:
    """Keeps the alternates up with the routes, destination by destination."""

    def __init__(self, routes: RouteMatrix) -> None:
        self._routes = routes
        self._ways: HopMatrix = np.empty((0, 0), np.int16)
        self._paths: Paths = {}
        self._looked: Flags = np.empty((0, 0), np.bool_)  # [destination, node]: its links were looked at
        self._stale: Flags = np.empty(0, np.bool_)
        # What may differ, next hop or alternate, from when it was last asked for.
        self._altered: Flags = np.empty(0, np.bool_)  # by destination
        self._differs: Flags = np.empty(0, np.bool_)  # by node

    def handle_changes(self, changes: Changes, touched: Indexes) -> None:
        """The links changed like this, and the trees of the *touched* destinations will."""
        if len(self._stale) < self._routes.size:
            self._grow(self._routes.size)
        self._stale[touched] = True
        if changes is None:
            self._ways[:] = NONE
            self._altered[:] = self._differs[:] = True
            return
        for sender, receiver, before, after in changes:
            used = self._ways[:, sender] == receiver
            self._stale |= self._looked[:, sender] | used
            if after < before:
                self._stale |= self._might_be_better(sender, receiver, after)
            elif after == np.inf:
                self._ways[used, sender] = NONE
                self._altered |= used
                self._differs[sender] |= used.any()
        self._drop_paths_over(
            {(sender, receiver) for sender, receiver, _, after in changes if after == np.inf}
        )

    def handle_moves(self, moves: Moves) -> None:
        """Trees were computed again: until the alternates are, only those that certainly hold stay.

        The cost to go of every node behind a change differs. Where an equally long way was taken
        instead it does not, and nothing of that tree is sure.
        """
        rows = moves.destinations
        ways = self._ways[rows]
        wrong = moves.rerouted | (
            (ways >= 0) & np.take_along_axis(moves.farther, np.maximum(ways, 0).astype(np.int64), axis=1)
        )
        wrong[(moves.rerouted & ~moves.farther).any(axis=1)] = True
        for row, destination in enumerate(rows.tolist()):
            paths = self._paths.get(destination)
            if paths:
                farther = set(np.flatnonzero(moves.farther[row]).tolist())
                over = [node for node, path in paths.items() if not farther.isdisjoint(path)]
                wrong[row, over] |= ways[row, over] == EXPLICIT
        self._ways[rows] = np.where(wrong, NONE, ways)
        self._note(rows, moves.rerouted | (wrong & (ways != NONE)))

    def stale(self) -> Indexes:
        """The destinations whose alternates are to be computed again, rising."""
        return np.flatnonzero(self._stale)

    def compute(self, destinations: Indexes) -> None:
        """Compute the alternates for these *destinations*."""
        before = self._ways[destinations]
        others = np.zeros(before.shape, np.bool_)
        for row, destination in enumerate(destinations.tolist()):
            old = self._paths.get(destination, {})
            _Column(self._routes, destination).fill(self._ways, self._looked, self._paths)
            new = self._paths.get(destination, {})
            if old == new:
                if new:
                    self._paths[destination] = old  # one object for what is the same is soon compared
            else:
                others[row, [node for node in old.keys() | new.keys() if old.get(node) != new.get(node)]] = (
                    True
                )
        self._stale[destinations] = False
        self._note(destinations, others | (self._ways[destinations] != before))

    def frozen(self) -> Alternates:
        """All that hold."""
        return Alternates(self._ways.copy(), dict(self._paths))

    def poll_altered(self) -> tuple[Indexes, Flags]:
        """Destinations, and flags of nodes, for which anything may differ since the last call."""
        altered, differs = np.flatnonzero(self._altered), self._differs.copy()
        self._altered[:] = self._differs[:] = False
        return altered, differs

    def _note(self, destinations: Indexes, others: Flags) -> None:
        """With these *destinations*, other ways than before are where it is so flagged."""
        self._altered[destinations[others.any(axis=1)]] = True
        self._differs |= others.any(axis=0)

    def _might_be_better(self, sender: int, receiver: int, cost: float) -> Flags:
        """For which destinations *receiver* may become the alternate of *sender*."""
        to_go, ways = self._routes.to_go, self._ways[:, sender]
        # Where it goes a longer way, its links were looked at: another rule. So is a link that is gone.
        costs = np.full(self._routes.size, -np.inf)
        own = self._routes.links.costs_of(sender)
        for neighbour, link in own.items():
            used = ways == neighbour
            costs[used] = link + to_go[used, neighbour]
        better: Flags = cost + to_go[:, receiver] <= costs + TIE_MS
        hops = self._routes.hops[:, sender]
        better &= (hops != NO_HOP) & (hops != receiver)
        return better

    def _drop_paths_over(self, gone: set[Direction]) -> None:
        """The links are gone, and with them what led over them as lists of hops."""
        senders = sorted({sender for sender, _ in gone})
        for destination in np.flatnonzero(self._looked[:, senders].any(axis=1)).tolist():
            for node, path in self._paths.get(destination, {}).items():
                if not gone.isdisjoint(pairwise((node, *path))):
                    self._ways[destination, node] = NONE
                    self._altered[destination] = self._differs[node] = True

    def _grow(self, size: int) -> None:
        old = len(self._stale)
        ways = np.full((size, size), NONE, np.int16)
        ways[:old, :old] = self._ways
        looked = np.zeros((size, size), np.bool_)
        looked[:old, :old] = self._looked
        stale = np.ones(size, np.bool_)
        stale[:old] = self._stale
        self._ways, self._looked, self._stale = ways, looked, stale
        self._altered, self._differs = np.ones(size, np.bool_), np.ones(size, np.bool_)


class _Column:
    """All nodes' alternates for one destination."""

    def __init__(self, routes: RouteMatrix, destination: int) -> None:
        self._links = routes.links
        self._destination = destination
        self._to_go = routes.to_go[destination]
        self._hops = routes.hops[destination]
        self._hop_list: list[int] = self._hops.tolist()

    def fill(self, ways: HopMatrix, looked: Flags, paths: Paths) -> None:
        row = ways[self._destination]
        row[:] = NONE
        looked[self._destination] = False
        paths.pop(self._destination, None)
        if (self._hops == NO_HOP).all():
            return
        row[self._links.origins] = self._neighbours()
        explicit: dict[int, Path] = {}
        beside = np.flatnonzero(self._hops == self._destination)
        alone = np.flatnonzero((row == NONE) & (self._hops != NO_HOP))
        for node in np.union1d(beside, alone).tolist():
            row[node], path = self._longer_way(node, int(row[node]), looked[self._destination])
            if path:
                explicit[node] = path
        if explicit:
            paths[self._destination] = explicit

    def _neighbours(self) -> Indexes:
        """For each node with links, the cheapest neighbour that leads to the destination around the failure.

        A neighbour of the destination goes around their link, which is to avoid itself.
        """
        links, to_go, hops = self._links, self._to_go, self._hops
        if not len(links):
            return np.empty(0, np.int64)
        failed = hops[links.senders].astype(np.int64)
        avoided = np.where(failed == self._destination, links.senders, failed)
        good = (failed != NO_HOP) & (links.receivers != failed) & np.isfinite(to_go[links.receivers])
        good[good] = ~self._pass(links.receivers[good], avoided[good])
        costs = np.where(good, links.costs + to_go[links.receivers], np.inf)
        least = np.repeat(links.least(costs), np.diff(np.r_[links.starts, len(links)]))
        chosen = links.least(np.where(good & (costs <= least + TIE_MS), links.receivers, len(hops)))
        neighbours: Indexes = np.where(chosen < len(hops), chosen, NONE)
        return neighbours

    def _pass(self, nodes: Indexes, through: Indexes) -> Flags:
        """True where the paths of *nodes* lead *through* those nodes: cost to go falls with every hop."""
        here, ends = nodes.copy(), self._to_go[through]
        before = np.flatnonzero(self._to_go[here] > ends)
        while len(before):
            here[before] = self._hops[here[before]]
            before = before[self._to_go[here[before]] > ends[before]]
        passes: Flags = here == through
        return passes

    def _longer_way(self, node: int, neighbour: int, looked: Flags) -> tuple[int, Path]:
        failed = self._hop_list[node]
        if failed == self._destination:
            looked[node] = True
            first = (neighbour,) if neighbour != NONE else self._search(node, node, looked)
            path = first + self._walk(first[-1]) if first else ()
            return (EXPLICIT, path) if 0 < len(path) <= MAX_DETOUR_HOPS else (NONE, ())
        path = self._search(node, failed, looked)
        if not path:
            return AROUND_LINK, ()  # only the failed neighbour leads there
        return (EXPLICIT, path) if len(path) <= MAX_DETOUR_HOPS else (NONE, ())

    def _walk(self, node: int) -> Path:
        path: list[int] = []
        while node != self._destination:
            node = self._hop_list[node]
            path.append(node)
        return tuple(path)

    def _search(self, start: int, avoided: int, looked: Flags) -> Path:
        """The cheapest way out of the nodes whose paths lead through *avoided*, up to the first outside.

        From *avoided* itself (*start*): around its link to the destination.
        """
        within, links = self._leads_through(avoided), self._links
        usable = within[links.senders] & np.isfinite(self._to_go[links.receivers])
        if start == avoided:
            usable &= (links.senders != avoided) | (links.receivers != self._destination)
        else:
            usable &= links.senders != avoided
        usable &= links.receivers != avoided
        senders, receivers, costs = links.senders[usable], links.receivers[usable], links.costs[usable]
        inside = within[receivers]
        graph = csr_array((costs[inside], (senders[inside], receivers[inside])), shape=2 * (len(within),))
        costs_here: Costs = dijkstra(graph, indices=start)
        # What leads out costs its own path too.
        whole = np.where(inside, np.inf, costs_here[senders] + costs + self._to_go[receivers])
        least = whole.min(initial=np.inf)
        looked |= np.isfinite(costs_here) & (costs_here <= least)
        if least == np.inf:
            return ()
        # Of equal ways the one over the lowest indexes, whatever the search met first.
        out = min(np.flatnonzero(whole == least).tolist(), key=lambda link: (receivers[link], senders[link]))
        path, node = [int(receivers[out])], int(senders[out])
        while node != start:
            path.append(node)
            before = inside & (receivers == node) & (costs_here[senders] + costs == costs_here[node])
            node = int(senders[before].min())
        return tuple(reversed(path))

    def _leads_through(self, avoided: int) -> Flags:
        """For each node that can reach the destination, whether its path does so."""
        nodes = np.flatnonzero(np.isfinite(self._to_go))
        through = np.zeros(len(self._hops), np.bool_)
        through[nodes] = self._pass(nodes, np.full(len(nodes), avoided))
        return through
