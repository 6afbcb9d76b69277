"""Editing the mesh while it runs: one topology takes the place of another.

In: a topology that is valid, and the version its author started from. Out: what
neighbours are told, or :class:`EditRefused` and nothing changed. What is new may
be used at once; what is forbidden is first planned around (:mod:`retiring`).
Costs the operator added move without hysteresis: they are a decision, not noise.
This module does not know how the plan is made or sent.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from relaymesh.controller.adjacency import Adjacency, Told
from relaymesh.controller.lsdb import Direction
from relaymesh.controller.metric import CostBook
from relaymesh.controller.policy import CurrentPolicy, TopologyPolicy
from relaymesh.controller.preview import NodeAt, conflicts_with
from relaymesh.controller.registry import Registry
from relaymesh.controller.retiring import Pair, Retiring
from relaymesh.topology import Topology
from relaymesh.topology.diff import diff
from relaymesh.topology.formats import topology_text

NO_TOPOLOGY = "none"  # the version of a mesh without a file


class EditRefused(Exception):
    """The topology is not taken; the author's doing, or another author's."""

    def __init__(self, code: str, reasons: tuple[str, ...]) -> None:
        super().__init__("; ".join(reasons))
        self.code = code  # "version" or "conflict"
        self.reasons = reasons


@dataclass(frozen=True, slots=True)
class Edited:
    """What was done."""

    version: str
    changes: int  # entries of the file that differ
    told: Told
    gained: int  # pairs of nodes
    retiring: int
    reweighed: tuple[Direction, ...]  # links whose costs and prices may be others now


def version_of(topology: Topology | None) -> str:
    """A topology's version: the same for the same meaning, however the file is written."""
    if topology is None:
        return NO_TOPOLOGY
    return hashlib.sha256(topology_text(topology).encode()).hexdigest()[:16]


class TopologyEditor:
    """Replaces the policy of the stages it is given."""

    def __init__(
        self,
        policy: CurrentPolicy,
        registry: Registry,
        adjacency: Adjacency,
        costs: CostBook,
        retiring: Retiring,
    ) -> None:
        self._policy = policy
        self._registry = registry
        self._adjacency = adjacency
        self._costs = costs
        self._retiring = retiring
        self.version = version_of(policy.topology)

    def nodes(self) -> tuple[NodeAt, ...]:
        """Who is in, connected or away."""
        return tuple(NodeAt(one.index, one.name, one.region) for one in self._registry.members())

    def apply(self, topology: Topology, expected: str | None, now: float) -> Edited:
        """Let *topology* hold from now on. *expected*: the version it replaces; None: whichever.

        Raises:
            EditRefused: "version" (somebody else was faster) or "conflict" (nodes are in that
                do not fit); nothing was changed.
        """
        if expected is not None and expected != self.version:
            raise EditRefused("version", (f"the mesh's topology is version {self.version}, not {expected}",))
        conflicts = conflicts_with(topology, self.nodes())
        if conflicts:
            raise EditRefused("conflict", conflicts)
        old = self._policy.topology
        changes = len(topology.regions) if old is None else len(diff(old, topology))
        self._policy.replace(TopologyPolicy(topology))
        self.version = version_of(topology)
        told, gained = self._adjacency.handle_policy(now)
        unwanted = self._adjacency.unwanted()
        self._retiring.keep_only(frozenset(unwanted))
        self._retiring.begin(unwanted, now)
        return Edited(self.version, changes, told, gained, len(unwanted), tuple(self._costs.handle_policy()))

    def retire(self, active: int, now: float) -> tuple[list[Pair], Told]:
        """Take away the links whose time has come: the pairs, and what their ends are told."""

        def may_go(pair: Pair) -> bool:
            ends = [self._registry.by_index(index) for index in pair]
            return all(end is None or end.connected for end in ends)

        told: Told = []
        gone: list[Pair] = []
        for pair in self._retiring.handle_timeout(active, may_go, now):
            if self._adjacency.are_neighbours(*pair):
                told += self._adjacency.part(*pair)
                gone.append(pair)
        return gone, told
