"""Editing the mesh while it runs: one topology takes the place of another.

In: a valid topology, and the version its author started from; time. Out: messages to
neighbours and requests for plans, or :class:`EditRefused` and nothing changed. A new
link may be used at once; a forbidden one is first planned around (:mod:`retiring`), and
taken away after that. Costs the operator added move without hysteresis: they are a
decision, not noise.

Pairs and links follow the new topology in slices, as a mesh of a thousand nodes takes
a second; a small one takes one slice. :func:`prepare` needs the file alone and may run
in a thread. This module does not know how the plan is made or sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

from relaymesh.controller.adjacency import Told
from relaymesh.controller.mesh_state import MeshState
from relaymesh.controller.outbox import Outbox
from relaymesh.controller.parts import Parts
from relaymesh.controller.policy import TopologyPolicy
from relaymesh.controller.preview import conflicts_with
from relaymesh.controller.replanning import Replanning
from relaymesh.controller.retiring import Pair
from relaymesh.controller.stage import MemberEvent
from relaymesh.controller.stage_rows import LinkStage
from relaymesh.protocol.messages import LinkConfig, Links
from relaymesh.topology import Topology
from relaymesh.topology.diff import diff
from relaymesh.topology.formats import topology_text

NO_TOPOLOGY = "none"  # the version of a mesh without a file
# What a slice may take, and what its parts do, microseconds on a slow machine. Counted and not
# measured, so that the same edit takes the same slices anywhere.
_SLICE_US = 3000.0
_PAIR_US = 2.0  # may these two peer?
_LINK_US = 12.0  # what does the operator add to it?
_SENDER_US = 20.0  # the prices of its links
_AT_ONCE = 64  # pairs, links


class EditRefused(Exception):
    """The topology is refused: it does not fit, or another author was faster."""

    def __init__(self, code: str, reasons: tuple[str, ...]) -> None:
        super().__init__("; ".join(reasons))
        self.code = code  # "version" or "conflict"
        self.reasons = reasons


@dataclass(frozen=True, slots=True)
class Edit:
    """A topology to be applied, with everything that follows from its file alone."""

    topology: Topology
    policy: TopologyPolicy
    text: str
    version: str
    replaces: Topology | None  # compared with this one
    changes: int  # entries of the file that differ


def prepare(topology: Topology, replaces: Topology | None) -> Edit:
    """*topology*, ready to take the place of *replaces*."""
    text = topology_text(topology)
    changes = len(topology.regions) if replaces is None else len(diff(replaces, topology))
    return Edit(topology, TopologyPolicy(topology), text, _version(text), replaces, changes)


def _version(text: str) -> str:
    """A topology's version: the same for the same meaning, however the file is written."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class TopologyEditor:
    """A stage: replaces the policy of the mesh, and lets links follow it."""

    works_lapsed: ClassVar[bool] = False

    def __init__(self, state: MeshState, links: LinkStage, replanning: Replanning, outbox: Outbox) -> None:
        self._state = state
        self._links = links
        self._replanning = replanning
        self._outbox = outbox
        self._adjacency = state.adjacency
        self._costs = state.costs
        self._slices: Iterator[Told] | None = None
        self._now = 0.0  # of the slice being done
        topology = state.policy.topology
        self.text = None if topology is None else topology_text(topology)
        self.version = NO_TOPOLOGY if self.text is None else _version(self.text)
        self.applied_text = state.reign.remembered.topology  # "" where the file was never replaced

    def apply(self, edit: Edit, expected: str | None, author: str, now: float) -> Edit:
        """Replace the topology by *edit*, and return the edit as it was done.

        *expected*: the version it replaces; None: whichever. Pairs and links follow with :meth:`step`.

        Raises:
            EditRefused: "version" (somebody else was faster) or "conflict" (members do not
                fit); nothing was changed.
        """
        if expected is not None and expected != self.version:
            raise EditRefused("version", (f"the mesh's topology is version {self.version}, not {expected}",))
        conflicts = conflicts_with(edit.policy, self._state.nodes())
        if conflicts:
            raise EditRefused("conflict", conflicts)
        if edit.replaces is not self._state.policy.topology:
            edit = prepare(edit.topology, self._state.policy.topology)
        self._state.policy.replace(edit.policy)
        self.text, self.version = edit.text, edit.version
        self.applied_text = edit.text
        self._now = now
        self._slices = self._in_slices()
        self._outbox.counters["topology-applied"] += 1
        self._outbox.event(
            "topology applied",
            topology=edit.topology.name,
            version=edit.version,
            changes=edit.changes,
            author=author,
        )
        return edit

    @property
    def following(self) -> bool:
        """True while :meth:`step` has more to do for the last edit."""
        return self._slices is not None

    def step(self, now: float) -> Told:
        """Do one slice of the last edit; messages to neighbours."""
        assert self._slices is not None, "there is an edit to follow"
        self._now = now
        return next(self._slices)

    # --- as a stage --------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """At once, while there is a slice to do; else when links on their way out are looked at."""
        dues = (self._now if self.following else None, self._costs.retiring.next_timeout())
        return min((due for due in dues if due is not None), default=None)

    def handle_timeout(self, now: float) -> Told:
        """Do one slice, then take away the links whose time has come."""
        told = self.step(now) if self.following else []
        # While an edit is followed, a link on its way out may yet be wanted again.
        return told if self.following else told + self._retire(now)

    def handle_member(self, event: MemberEvent, now: float) -> Told:
        """Nothing: a slice looks at the members there are."""
        return []

    def debug_part(self) -> Parts[dict[str, object]]:
        yield from ()
        return {"editing": {"version": self.version, "following": self.following}}

    # --- following ---------------------------------------------------------------------------

    def _retire(self, now: float) -> Told:
        def may_go(pair: Pair) -> bool:
            ends = [self._state.registry.by_index(index) for index in pair]
            return all(end is None or end.connected for end in ends)

        told: Told = []
        for pair in self._costs.retiring.handle_timeout(self._state.active_generation, may_go, now):
            if self._adjacency.are_neighbours(*pair):
                told += self._adjacency.part(*pair)
                self._outbox.event("link taken away", between=[self._state.name_of(end) for end in pair])
                self._links.handle_parted(*pair, now)
        return told

    def _in_slices(self) -> Iterator[Told]:
        """The work that the topology brings, a slice at a time, with the messages of each."""
        told: Told = []
        spent = 0.0
        for took, said in self._parts():
            told += said
            spent += took
            if spent >= _SLICE_US:
                yield _merged(told)
                told, spent = [], 0.0
        self._slices = None
        yield _merged(told)

    def _parts(self) -> Iterator[tuple[float, Told]]:
        """The same in the smallest parts: the cost of each in microseconds, and its messages."""
        version, gained = self.version, 0
        unwanted: list[Pair] = []
        for pairs in _chunks(self._adjacency.pairs()):
            unwanted += self._adjacency.unwanted(pairs)
            yield _PAIR_US * len(pairs), []
        retiring = self._costs.retiring
        retiring.keep_only(frozenset(unwanted))
        for pairs in _chunks(unwanted):
            retiring.begin(pairs, self._now)
            # At once: a plan that is made before this edit is through counts as made without them.
            links = [link for low, high in pairs for link in ((low, high), (high, low))]
            self._costs.handle_edited(links, self._now)
            yield _LINK_US * len(links), []
        members = [member.index for member in self._state.registry.members()]
        for index in members:
            told, made = self._adjacency.handle_policy(index, self._now)
            gained += made
            yield _PAIR_US * len(members), told
        for links in _chunks(self._costs.book.links()):
            self._costs.handle_edited(links, self._now)
            yield _LINK_US * len(links), []
        for index in members:
            self._costs.weights.reprice((index,))
            yield _SENDER_US, []
        self._outbox.event(
            "links follow the topology",
            version=version,
            pairs_gained=gained,
            pairs_retiring=len(unwanted),
        )
        self._replanning.plan_soon(self._now)


def _merged(told: Told) -> Told:
    """Merge *told*, which names new links only, to one message for each node."""
    configs: dict[int, list[LinkConfig]] = {}
    for index, links in told:
        configs.setdefault(index, []).extend(links.set)
    return [(index, Links(set=tuple(configs[index]))) for index in sorted(configs)]


def _chunks(pairs: list[Pair]) -> Iterator[list[Pair]]:
    rest = iter(pairs)
    while chunk := list(islice(rest, _AT_ONCE)):
        yield chunk
