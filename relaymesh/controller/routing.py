"""From costs to tables and detours, in slices that are too short to be noticed.

In: the members and the costs of links. Out: tables and detours for a plan. A
small mesh is computed at once, by networkx and :mod:`detours`. A bigger one
takes the compiled way, with the same next hops, and only where a change can
have touched them; the caller calls :meth:`Routing.step` as long as there is
work, and does something else between. How long a slice is follows from the size
of the mesh and not from a clock, so that the same input gives the same plans.

Up to :data:`TOGETHER` nodes tables and detours are ready together. In a bigger
mesh the tables come first, with those detours that hold as before; the others follow.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from relaymesh.controller.alternates import AlternateMatrix
from relaymesh.controller.detours import find_detours
from relaymesh.controller.lsdb import Direction
from relaymesh.controller.paths import shortest_paths
from relaymesh.controller.pins import NO_PINS, Pins, apply_pins
from relaymesh.controller.plan import Detours, Tables
from relaymesh.controller.ripples import spread
from relaymesh.controller.routes import SLICE_WORK, Changes, Indexes, Moves, RouteMatrix, in_parts
from relaymesh.controller.tables import MatrixDetours, MatrixTables

SMALL = 12  # nodes; up to here the plain way takes less than a slice, in a full mesh too
TOGETHER = 64
_DETOUR_SHARE = 0.5  # of destinations whose detours are computed in a slice of the same length


@dataclass(frozen=True, slots=True)
class Routes:
    """The tables and detours a plan is made of."""

    tables: Tables
    detours: Detours
    complete: bool  # whether all detours are there; else they follow


class Routing:
    """Computes one set of routes after the other, each from the last."""

    def __init__(self, *, small: int = SMALL, together: int = TOGETHER, slice_work: int = SLICE_WORK) -> None:
        self._slice_work = slice_work
        self._small = small
        self._together = together
        self._big: tuple[RouteMatrix, AlternateMatrix] | None = None
        self._slices: Iterator[Routes | None] | None = None
        self._members: frozenset[int] = frozenset()
        self._last: MatrixTables | None = None
        self._complete = True

    @property
    def computing(self) -> bool:
        """True while :meth:`step` has more to do for the routes asked for by :meth:`begin`."""
        return self._slices is not None

    @property
    def is_small(self) -> bool:
        """True when the mesh is computed at once."""
        return self._big is None

    @property
    def owes_detours(self) -> bool:
        """True when the last routes lacked detours; :meth:`begin_detours` computes them."""
        return not self._complete

    def begin(
        self,
        nodes: Sequence[int],
        costs_ms: dict[Direction, float],
        *,
        changed: Collection[Direction] | None = None,
        pins: Pins = NO_PINS,
    ) -> None:
        """Compute routes among the *nodes*, which have these costs; the dictionary is kept.

        *changed*: the only links whose costs may differ from those of the last call; None: any may.
        """
        if len(nodes) <= self._small:
            self._big = None
            self._slices = self._at_once(nodes, costs_ms, pins)
        else:
            if self._big is None:
                matrix = RouteMatrix()
                self._big = matrix, AlternateMatrix(matrix)
                self._last, self._members = None, frozenset()
                changed = None
            self._slices = self._in_slices(nodes, costs_ms, changed, pins)

    def begin_detours(self) -> None:
        """Compute the detours that are owed."""
        assert self._big is not None, "only a big mesh owes any"
        self._slices = self._detours_in_slices(*self._big)

    def step(self) -> Routes | None:
        """Do one slice; the routes when they are ready."""
        assert self._slices is not None, "there is work"
        routes = next(self._slices)
        if routes is not None:
            self._complete = routes.complete
            self._slices = None
        return routes

    def _at_once(
        self, nodes: Sequence[int], costs_ms: dict[Direction, float], pins: Pins
    ) -> Iterator[Routes]:
        paths = shortest_paths(nodes, costs_ms)
        if pins:
            paths = apply_pins(paths, costs_ms, pins)
        yield Routes(paths.next_hops, find_detours(paths.next_hops, costs_ms), True)

    def _in_slices(
        self,
        nodes: Sequence[int],
        costs_ms: dict[Direction, float],
        changed: Collection[Direction] | None,
        pins: Pins,
    ) -> Iterator[Routes | None]:
        assert self._big is not None, "begin() made them"
        matrix, alternates = self._big
        members = frozenset(nodes)
        if changed is None or members != self._members:
            changed = None
            if not all(map(members.issuperset, costs_ms)):
                costs_ms = {link: cost for link, cost in costs_ms.items() if members.issuperset(link)}
            self._members = members
            yield None
        changes = matrix.differences(costs_ms, changed)
        if changes != []:
            yield None
            yield from matrix.grow(max(members, default=-1) + 1)
            matrix.take(costs_ms)
            yield None
        pinned = matrix.pin(pins)
        if changes != [] or len(pinned):
            touched = np.union1d(matrix.touched(changes), pinned)
            yield None
            alternates.handle_changes(changes, touched)
            yield None
            for moves in self._trees(matrix, changes, touched, pinned):
                alternates.handle_moves(moves)
                yield None
        if len(nodes) <= self._together:
            yield from self._detours_in_slices(matrix, alternates)
        else:
            yield self._routes(matrix, alternates)

    def _trees(
        self, matrix: RouteMatrix, changes: Changes, touched: Indexes, pinned: Indexes
    ) -> Iterator[Moves]:
        if changes is None:
            whole = touched
        else:
            whole = pinned
            if changes:
                yield from spread(matrix, changes, np.setdiff1d(touched, pinned), self._slice_work)
        for part in in_parts(whole, self._slice_work / max(1, len(matrix.links))):
            yield matrix.compute(part)

    def _detours_in_slices(self, matrix: RouteMatrix, alternates: AlternateMatrix) -> Iterator[Routes | None]:
        work = _DETOUR_SHARE * self._slice_work
        for part in in_parts(alternates.stale(), work / max(1, len(matrix.links))):
            alternates.compute(part)
            yield None
        yield self._routes(matrix, alternates)

    def _routes(self, matrix: RouteMatrix, alternates: AlternateMatrix) -> Routes:
        altered = alternates.poll_altered()
        tables = self._last
        if tables is None or len(altered[0]) or tables.size != matrix.size:
            tables = MatrixTables(matrix.hops.copy(), alternates.frozen(), previous=tables, altered=altered)
            self._last = tables
        return Routes(tables, MatrixDetours(tables), not len(alternates.stale()))
