"""The tables and detours of one plan of a big mesh, as matrices, and the parts of messages made from them.

In: next hops and alternates, which nobody changes any more. Out: what a node is
told, whole or as what differs from another plan. To the rest they are mappings
like those of a small mesh: node → destination → next hop, and node → neighbour
that failed → ways; a node's part of them is made when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from weakref import ref

import numpy as np
import numpy.typing as npt

from relaymesh.controller.alternates import AROUND_LINK, EXPLICIT, Alternates, Path
from relaymesh.controller.detours import Ways
from relaymesh.controller.differences import Differences, NodeChanges
from relaymesh.controller.routes import NO_HOP, Flags, HopMatrix, Indexes
from relaymesh.protocol.bitstring import decode_set, encode_set, members
from relaymesh.protocol.messages import Detour, Route

_FEW = 48  # destinations


@dataclass(frozen=True, slots=True)
class TableChanges:
    """Differences between two plans at one node; as in :class:`~relaymesh.protocol.messages.Delta`."""

    moved: tuple[Route, ...]
    lost: bytes
    detours: tuple[Detour, ...]
    redone: bytes


class TableRow(Mapping[int, int]):
    """Destination → next hop at one node."""

    def __init__(self, column: HopMatrix) -> None:
        self._column = column

    def __getitem__(self, destination: int) -> int:
        hop = int(self._column[destination]) if 0 <= destination < len(self._column) else NO_HOP
        if hop == NO_HOP:
            raise KeyError(destination)
        return hop

    def __iter__(self) -> Iterator[int]:
        yield from np.flatnonzero(self._column != NO_HOP).tolist()

    def __len__(self) -> int:
        return int(np.count_nonzero(self._column != NO_HOP))


class MatrixTables(Mapping[int, TableRow]):
    """Node → destination → next hop."""

    def __init__(
        self,
        hops: HopMatrix,
        alternates: Alternates,
        *,
        previous: MatrixTables | None = None,
        altered: tuple[Indexes, Flags] | None = None,
    ) -> None:
        """*altered*: the only destinations and (flagged) nodes where anything may differ from *previous*."""
        self._hops = hops
        self._alternates = alternates
        self._previous = None if previous is None else ref(previous)
        self._altered = altered
        self._since: tuple[MatrixTables, Differences] | None = None  # as differences were last asked for

    @property
    def size(self) -> int:
        """Indexes are below this."""
        return len(self._hops)

    @property
    def matrix(self) -> HopMatrix:
        """All of them: [destination, node] → next hop."""
        return self._hops

    def __getitem__(self, node: int) -> TableRow:
        if not 0 <= node < len(self._hops) or not (self._hops[:, node] != NO_HOP).any():
            raise KeyError(node)
        return TableRow(self._hops[:, node])

    def __iter__(self) -> Iterator[int]:
        yield from np.flatnonzero((self._hops != NO_HOP).any(axis=0)).tolist()

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MatrixTables):
            return super().__eq__(other)
        rows = self._rows_to_compare(other)
        return _same(self._hops, other._hops, rows)

    __hash__ = None  # type: ignore[assignment]

    def same_detours(self, other: MatrixTables) -> bool:
        """True when all detours are those of *other*."""
        mine, theirs = self._alternates, other._alternates
        return _same(mine.ways, theirs.ways, self._rows_to_compare(other)) and mine.paths == theirs.paths

    def routes(self, node: int) -> tuple[Route, ...]:
        """The whole table of *node*."""
        return _routes(self._column(node))

    def detours(self, node: int) -> tuple[Detour, ...]:
        """All detours of *node*."""
        column = self._column(node)
        return self._detours(node, np.flatnonzero(column != NO_HOP))

    def changes_since(self, base: MatrixTables, node: int) -> TableChanges | None:
        """Changes for *node* if it has its part of *base*; None where there are none."""
        if base is self:
            return None
        if self._since is None or self._since[0] is not base:
            same_size = len(self._hops) == len(base._hops)
            altered = self._altered if same_size and self._follows(base) else None
            sides = (base._hops, base._alternates), (self._hops, self._alternates)
            self._since = base, Differences(*sides, altered)
            base._since = None  # or every plan would keep all before it
        differences = self._since[1]
        changes = differences.at(node)
        if changes is None:
            return None
        if len(changes.redone) <= _FEW:
            return self._few_changes(node, changes)
        column = np.full(differences.size, NO_HOP, np.int16)
        redone, old, new = changes.redone, changes.old, changes.new
        column[redone] = np.where(new != old, new, NO_HOP)
        return TableChanges(
            _routes(column),
            _bits_of(redone[(old != NO_HOP) & (new == NO_HOP)], differences.size),
            self._detours(node, redone[new != NO_HOP]),
            _bits_of(redone, differences.size),
        )

    def _few_changes(self, node: int, changes: NodeChanges) -> TableChanges:
        """The same as for many, one by one: for few, arrays take longer."""
        redone = lost = 0
        routes: dict[int, int] = {}  # next hop → set of destinations
        detours: dict[tuple[int, Path], int] = {}
        columns = (changes.redone, changes.old, changes.new, changes.ways)
        for destination, old, new, way in zip(*(column.tolist() for column in columns), strict=True):
            one = 1 << destination
            redone |= one
            if new == NO_HOP:
                lost |= one
                continue
            if new != old:
                routes[new] = routes.get(new, 0) | one
            path = (way,) if way >= 0 else self._alternates.path(node, destination, new)
            if path:
                detours[new, path] = detours.get((new, path), 0) | one
        return TableChanges(
            tuple(Route(hop, encode_set(routes[hop])) for hop in sorted(routes)),
            encode_set(lost),
            tuple(Detour(hop, path, encode_set(ends)) for (hop, path), ends in detours.items()),
            encode_set(redone),
        )

    def _column(self, node: int) -> HopMatrix:
        """The next hops of *node* by destination."""
        return self._hops[:, node] if node < len(self._hops) else np.empty(0, np.int16)

    def _rows_to_compare(self, base: MatrixTables) -> Indexes:
        if self._altered is not None and self._follows(base):
            return self._altered[0]
        return np.arange(len(self._hops))

    def _follows(self, base: MatrixTables) -> bool:
        return self._previous is not None and self._previous() is base

    def _detours(self, node: int, destinations: Indexes) -> tuple[Detour, ...]:
        size = len(self._hops)
        if not len(destinations):
            return ()
        hops, ways = self._hops[destinations, node], self._alternates.ways[destinations, node]
        by_one = ways >= 0
        groups, group_of = np.unique(
            hops[by_one].astype(np.int64) << 16 | ways[by_one].astype(np.int64), return_inverse=True
        )
        sets = np.zeros((len(groups), size), np.bool_)
        sets[group_of, destinations[by_one]] = True
        found = [
            Detour(group >> 16, (group & 0xFFFF,), bits.tobytes().rstrip(b"\0"))
            for group, bits in zip(groups.tolist(), np.packbits(sets, axis=1, bitorder="little"), strict=True)
        ]
        longer: dict[tuple[int, Path], list[int]] = {}
        for at in np.flatnonzero((ways == EXPLICIT) | (ways == AROUND_LINK)).tolist():
            destination, hop = int(destinations[at]), int(hops[at])
            path = self._alternates.path(node, destination, hop)
            if path:
                longer.setdefault((hop, path), []).append(destination)
        for (hop, path), own in longer.items():
            wanted = np.zeros(size, np.bool_)
            wanted[own] = True
            found.append(Detour(hop, path, _bits(wanted)))
        return tuple(found)


class MatrixDetours(Mapping[int, dict[int, Ways]]):
    """Node → neighbour that failed → ways, read from the same plan's tables."""

    def __init__(self, tables: MatrixTables) -> None:
        self._tables = tables

    def __getitem__(self, node: int) -> dict[int, Ways]:
        if node not in self._tables:
            raise KeyError(node)
        ways: dict[int, Ways] = {}
        for detour in self._tables.detours(node):
            ways.setdefault(detour.around, {})[detour.path] = tuple(members(decode_set(detour.destinations)))
        return ways

    def __iter__(self) -> Iterator[int]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, MatrixDetours):
            return self._tables.same_detours(other._tables)
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]


def _same(one: HopMatrix, other: HopMatrix, rows: Indexes) -> bool:
    """True when two matrices are equal; where only one is of that size, it must be empty there."""
    if len(one) == len(other):
        # Row by row: where anything differs, the first of them mostly does.
        return all(np.array_equal(one[row], other[row]) for row in rows.tolist())
    small, large = sorted((one, other), key=len)
    inner = large[: len(small), : len(small)]
    return bool(np.array_equal(small, inner)) and not (
        (large[len(small) :] != NO_HOP).any() or (large[:, len(small) :] != NO_HOP).any()
    )


def _routes(column: HopMatrix) -> tuple[Route, ...]:
    hops = np.unique(column[column != NO_HOP])
    return tuple(Route(hop, _bits(column == hop)) for hop in hops.tolist())


def _bits(flags: npt.NDArray[np.bool_]) -> bytes:
    """The set of the indexes flagged, as on the wire."""
    return np.packbits(flags, bitorder="little").tobytes().rstrip(b"\0")


def _bits_of(indexes: Indexes, size: int) -> bytes:
    flags = np.zeros(size, np.bool_)
    flags[indexes] = True
    return _bits(flags)
