"""A plan: one generation of forwarding tables for the whole mesh, and how a node is told of it.

In: next hops of all nodes, and detours around each. Out: a :class:`Plan` when anything changed, and for
each node either its whole table (:class:`Snapshot`) or what differs from the
one it has (:class:`Delta`). A generation number is never used twice, also
across controllers: it counts on from the highest that any node has seen.
A big mesh's tables are matrices (:mod:`relaymesh.controller.tables`), which say
by themselves what differs; here both kinds are mappings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from relaymesh.controller.detours import Ways
from relaymesh.controller.tables import MatrixTables
from relaymesh.protocol.bitstring import encode_set, set_of
from relaymesh.protocol.messages import Delta, Detour, Route, Snapshot

# A node may say it knows any generation. Half the range is believed; the other
# half is left to count in, so that no lie can use the numbers up.
MAX_BELIEVED_GENERATION = 1 << 31

Tables = Mapping[int, Mapping[int, int]]  # node → destination → next hop
Detours = Mapping[int, Mapping[int, Ways]]  # node → neighbour that failed → ways


@dataclass(frozen=True, slots=True)
class Plan:
    """One generation of routes: the forwarding table of every node, and its detours."""

    generation: int
    tables: Tables = field(default_factory=dict)
    detours: Detours = field(default_factory=dict)

    def table(self, index: int) -> Mapping[int, int]:
        """Destination → next hop at node *index*."""
        return self.tables.get(index, {})


class Planner:
    """Numbers the plans."""

    def __init__(self) -> None:
        self._plan: Plan | None = None
        self._seen = 0

    @property
    def plan(self) -> Plan | None:
        """The newest plan; None before the first."""
        return self._plan

    @property
    def is_outrun(self) -> bool:
        """True when a node has seen a generation that ours must exceed."""
        return self._plan is not None and self._plan.generation <= self._seen

    def handle_seen(self, generation: int) -> None:
        """A node stamps packets with *generation*, of whichever controller."""
        if generation <= MAX_BELIEVED_GENERATION and not (
            self._plan is not None and generation <= self._plan.generation
        ):
            self._seen = max(self._seen, generation)

    def replan(self, tables: Tables, detours: Detours | None = None, *, renew: bool = False) -> Plan | None:
        """A plan with the next generation; None when it would change nothing and need not be *renewed*."""
        if isinstance(tables, dict):
            tables = {index: table for index, table in tables.items() if table}
        plan = Plan(0, tables, detours or {})
        if self._plan is not None and not self.is_outrun and not renew:
            same = (plan.tables, plan.detours) == (self._plan.tables, self._plan.detours)
            if same:
                return None
        last = max(self._seen, 0 if self._plan is None else self._plan.generation)
        self._plan = replace(plan, generation=last + 1)
        return self._plan


def snapshot_for(plan: Plan, index: int) -> Snapshot:
    """The whole table of node *index*."""
    if isinstance(plan.tables, MatrixTables):
        return Snapshot(plan.generation, plan.tables.routes(index), plan.tables.detours(index))
    return Snapshot(plan.generation, _routes(plan.table(index)), _detours(plan, index))


def delta_for(base: Plan, plan: Plan, index: int) -> Delta:
    """The change from the table that node *index* has in *base* to the one in *plan*."""
    if isinstance(plan.tables, MatrixTables) and isinstance(base.tables, MatrixTables):
        changes = plan.tables.changes_since(base.tables, index)
        if changes is None:
            return Delta(plan.generation, base.generation)
        return Delta(
            plan.generation,
            base.generation,
            changes.moved,
            changes.lost,
            changes.detours,
            redone=changes.redone,
        )
    old, new = base.table(index), plan.table(index)
    moved = {destination: hop for destination, hop in new.items() if old.get(destination) != hop}
    lost = encode_set(set_of(destination for destination in old if destination not in new))
    same = base.detours.get(index) == plan.detours.get(index)
    detours = None if same else _detours(plan, index)
    return Delta(plan.generation, base.generation, _routes(moved), lost, detours)


def _routes(table: Mapping[int, int]) -> tuple[Route, ...]:
    """*table* turned around: for each next hop, its destinations."""
    by_hop: dict[int, list[int]] = {}
    for destination, hop in table.items():
        by_hop.setdefault(hop, []).append(destination)
    return tuple(Route(hop, _encode(by_hop[hop])) for hop in sorted(by_hop))


def _detours(plan: Plan, index: int) -> tuple[Detour, ...]:
    """At most one for each destination, as each has one next hop."""
    return tuple(
        Detour(around, path, _encode(destinations))
        for around, ways in plan.detours.get(index, {}).items()
        for path, destinations in ways.items()
    )


def _encode(indexes: Iterable[int]) -> bytes:
    return encode_set(set_of(indexes))
