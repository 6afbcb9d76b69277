"""Moved paths: two sets of next hops, compared for all pairs of nodes.

In: two matrices of next hops of one size, by destination and node (see
:mod:`relaymesh.controller.routes`). Out: which pairs' whole ways differ, and which
have one. A way differs where any node on it sends on differently. Ways are
followed for all nodes at once, each turn twice as far as the last, some
destinations at a time, so that no call holds the interpreter for long.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np

from relaymesh.controller.plan import Tables
from relaymesh.controller.routes import NO_HOP, Flags, HopMatrix, Indexes
from relaymesh.controller.tables import MatrixTables

_PAIRS = 1 << 16  # followed in one call


@dataclass(frozen=True, slots=True)
class Moved:
    """Pairs whose ways differ: by destination, then by start, rising."""

    ends: Indexes
    starts: Indexes
    before: Flags  # whether there is a way
    after: Flags


def compare(before: HopMatrix, after: HopMatrix) -> Moved:
    """The pairs of nodes between which packets go another way *after* than *before*."""
    parts = [_compared(before, after, rows) for rows in _parts(len(before))]
    nothing, never = np.empty(0, np.int64), np.empty(0, np.bool_)
    return Moved(
        np.concatenate([nothing, *(part.ends for part in parts)]),
        np.concatenate([nothing, *(part.starts for part in parts)]),
        np.concatenate([never, *(part.before for part in parts)]),
        np.concatenate([never, *(part.after for part in parts)]),
    )


def hops_of(tables: Tables, nodes: Mapping[int, object], size: int) -> HopMatrix:
    """The next hops that *tables* have of these *nodes* towards each other, indexes below *size*."""
    hops = np.full((size, size), NO_HOP, np.int16)
    if isinstance(tables, MatrixTables):
        old = tables.matrix[:size, :size]
        hops[: len(old), : len(old)] = old
    else:
        for node in nodes:
            for destination, hop in tables.get(node, {}).items():
                if destination < size:
                    hops[destination, node] = hop
    known = np.zeros(size, np.bool_)
    known[list(nodes)] = True
    hops[~known] = NO_HOP
    hops[:, ~known] = NO_HOP
    there = (hops >= 0) & (hops < size)
    there[there] = known[hops[there]]
    hops[~there] = NO_HOP
    np.fill_diagonal(hops, NO_HOP)
    return hops


def _parts(size: int) -> Iterator[slice]:
    rows = max(1, _PAIRS // max(1, size))
    for start in range(0, size, rows):
        yield slice(start, min(start + rows, size))


def _compared(before: HopMatrix, after: HopMatrix, rows: slice) -> Moved:
    old, new = before[rows], after[rows]
    ends = np.arange(rows.start, rows.stop)
    had, _ = _follow(old, ends, np.zeros(old.shape, np.bool_))
    has, differs = _follow(new, ends, cast(Flags, old != new))
    differs &= had | has
    differs[np.arange(len(ends)), ends] = False
    at, starts = np.nonzero(differs)
    return Moved(ends[at], starts, had[at, starts], has[at, starts])


def _follow(hops: HopMatrix, ends: Indexes, marked: Flags) -> tuple[Flags, Flags]:
    """Flags: a node's packets arrive at these *ends* (rows); they pass a *marked* node, itself included."""
    size = hops.shape[1]
    following = np.where(hops == NO_HOP, np.arange(size), hops).astype(np.int64)
    passes = marked
    for _ in range(size.bit_length()):
        passes = passes | np.take_along_axis(passes, following, axis=1)
        following = np.take_along_axis(following, following, axis=1)
    return following == ends[:, None], passes
