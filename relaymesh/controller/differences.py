"""Differences between the tables of two plans of a big mesh, node by node.

In: next hops and alternates of both, whose rows are destinations and whose
columns are nodes. Out: for a node, the destinations whose next hop moved, and
those whose way around it did. A node's part is a column, each of whose numbers lies in
another line of the cache: columns are turned into rows some nodes at a time,
and only where anything can differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relaymesh.controller.alternates import AROUND_LINK, EXPLICIT, NONE, Alternates
from relaymesh.controller.routes import NO_HOP, Flags, HopMatrix, Indexes

_BLOCK = 64  # nodes whose columns are turned together

Side = tuple[HopMatrix, Alternates]


@dataclass(frozen=True, slots=True)
class NodeChanges:
    """Differences at one node."""

    redone: Indexes  # destinations whose next hop or way around it is another; rising
    old: HopMatrix  # their next hops before
    new: HopMatrix  # and now
    ways: HopMatrix  # their alternates now


class Differences:
    """Between a *base* and what is *now*."""

    def __init__(self, base: Side, now: Side, altered: tuple[Indexes, Flags] | None) -> None:
        """*altered*: the only destinations and (flagged) nodes where anything may differ; None: anywhere."""
        self._base, self._now = base, now
        self.size = max(len(base[0]), len(now[0]))
        self._repathed = now[1].repathed(base[1], self.size)
        if altered is None:
            self._rows, self._nodes = np.arange(self.size), np.ones(self.size, np.bool_)
        else:
            # A way around a link is kept with the neighbour: it may change where its destination's do not.
            around = np.flatnonzero((now[1].ways == AROUND_LINK).any(axis=1))
            self._rows, self._nodes = np.union1d(altered[0], around), altered[1]
        self._block_of = -1
        self._block: tuple[HopMatrix, ...] = ()

    def at(self, node: int) -> NodeChanges | None:
        """Differences at *node*; None where there are none."""
        if node >= self.size or not self._nodes[node]:
            return None
        if node // _BLOCK != self._block_of:
            self._block_of = node // _BLOCK
            (old_hops, old), (hops, now) = self._base, self._now
            self._block = tuple(self._turned(matrix) for matrix in (old_hops, old.ways, hops, now.ways))
        old, old_ways, new, ways = (turned[node % _BLOCK] for turned in self._block)
        redone = (new != old) | (ways != old_ways)
        doubtful = (ways == AROUND_LINK) | ((ways == EXPLICIT) & self._repathed[self._rows])
        for row in np.flatnonzero(doubtful & ~redone).tolist():
            destination, hop = int(self._rows[row]), int(new[row])
            before = self._base[1].path(node, destination, hop)
            redone[row] = before != self._now[1].path(node, destination, hop)
        if not redone.any():
            return None
        return NodeChanges(self._rows[redone], old[redone], new[redone], ways[redone])

    def _turned(self, matrix: HopMatrix) -> HopMatrix:
        """The columns of the block's nodes, as rows; what is beyond the *matrix* is empty."""
        assert NO_HOP == NONE, "what is not there fills both kinds"
        turned = np.full((_BLOCK, len(self._rows)), NO_HOP, np.int16)
        inside = self._rows[: np.searchsorted(self._rows, len(matrix))]
        first = self._block_of * _BLOCK
        part = matrix[inside, first : first + _BLOCK].T
        turned[: part.shape[0], : part.shape[1]] = part
        return turned
