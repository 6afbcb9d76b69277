"""Editing the mesh while it runs: one topology takes the place of another.

In: a topology that is valid, and the version its author started from. Out: what
neighbours are told, or :class:`EditRefused` and nothing changed. What is new may
be used at once; what is forbidden is first planned around (:mod:`retiring`).
Costs the operator added move without hysteresis: they are a decision, not noise.

All that the new topology says of pairs and links is looked at in slices, as a
mesh of a thousand nodes takes a second; a small one takes one slice. What is worked
out of the file alone (:func:`prepare`) may be done in a thread.
This module does not know how the plan is made or sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from relaymesh.controller.adjacency import Adjacency, Told
from relaymesh.controller.costing import LinkCosts
from relaymesh.controller.policy import CurrentPolicy, TopologyPolicy
from relaymesh.controller.preview import NodeAt, conflicts_with
from relaymesh.controller.registry import Registry
from relaymesh.controller.retiring import Pair
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
    """The topology is not taken; the author's doing, or another author's."""

    def __init__(self, code: str, reasons: tuple[str, ...]) -> None:
        super().__init__("; ".join(reasons))
        self.code = code  # "version" or "conflict"
        self.reasons = reasons


@dataclass(frozen=True, slots=True)
class Edit:
    """A topology that is to hold, and what is worked out of it."""

    topology: Topology
    policy: TopologyPolicy
    text: str
    version: str
    replaces: Topology | None  # what it was compared with
    changes: int  # entries of the file that differ


@dataclass(frozen=True, slots=True)
class Followed:
    """What an edit came to."""

    version: str
    gained: int  # pairs of nodes
    retiring: int


def prepare(topology: Topology, replaces: Topology | None) -> Edit:
    """*topology*, ready to take the place of *replaces*."""
    text = topology_text(topology)
    changes = len(topology.regions) if replaces is None else len(diff(replaces, topology))
    return Edit(topology, TopologyPolicy(topology), text, _version(text), replaces, changes)


def _version(text: str) -> str:
    """A topology's version: the same for the same meaning, however the file is written."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class TopologyEditor:
    """Replaces the policy of the stages it is given."""

    def __init__(
        self, policy: CurrentPolicy, registry: Registry, adjacency: Adjacency, costs: LinkCosts
    ) -> None:
        self._policy = policy
        self._registry = registry
        self._adjacency = adjacency
        self._costs = costs
        self._slices: Iterator[Told] | None = None
        self._now = 0.0  # of the slice being done
        self._followed: Followed | None = None
        self.text = None if policy.topology is None else topology_text(policy.topology)
        self.version = NO_TOPOLOGY if self.text is None else _version(self.text)

    def nodes(self) -> tuple[NodeAt, ...]:
        """Who is in, connected or away."""
        return tuple(NodeAt(one.index, one.name, one.region) for one in self._registry.members())

    def apply(self, edit: Edit, expected: str | None, now: float) -> Edit:
        """Let *edit* hold from now on; what was done. *expected*: the version it replaces; None: whichever.

        Pairs and links follow with :meth:`step`.

        Raises:
            EditRefused: "version" (somebody else was faster) or "conflict" (nodes are in that
                do not fit); nothing was changed.
        """
        if expected is not None and expected != self.version:
            raise EditRefused("version", (f"the mesh's topology is version {self.version}, not {expected}",))
        conflicts = conflicts_with(edit.policy, self.nodes())
        if conflicts:
            raise EditRefused("conflict", conflicts)
        if edit.replaces is not self._policy.topology:
            edit = prepare(edit.topology, self._policy.topology)
        self._policy.replace(edit.policy)
        self.text, self.version = edit.text, edit.version
        self._now = now
        self._slices = self._in_slices()
        return edit

    @property
    def following(self) -> bool:
        """Whether :meth:`step` has more to do for the last edit."""
        return self._slices is not None

    def next_timeout(self) -> float | None:
        """At once, while there is a slice to do."""
        return self._now if self.following else None

    def step(self, now: float) -> Told:
        """Do one slice; what neighbours are told."""
        assert self._slices is not None, "there is an edit to follow"
        self._now = now
        told = next(self._slices)
        if self._followed is not None:
            self._slices = None
        return told

    def poll_followed(self) -> Followed | None:
        """What the edit came to that was followed to its end since the last call."""
        followed, self._followed = self._followed, None
        return followed

    def retire(self, active: int, now: float) -> tuple[list[Pair], Told]:
        """Take away the links whose time has come: the pairs, and what their ends are told."""

        def may_go(pair: Pair) -> bool:
            ends = [self._registry.by_index(index) for index in pair]
            return all(end is None or end.connected for end in ends)

        told: Told = []
        gone: list[Pair] = []
        for pair in self._costs.retiring.handle_timeout(active, may_go, now):
            if self._adjacency.are_neighbours(*pair):
                told += self._adjacency.part(*pair)
                gone.append(pair)
        return gone, told

    def _in_slices(self) -> Iterator[Told]:
        """All that follows from the topology that holds, with what is to be told at the end of each slice."""
        told: Told = []
        spent = 0.0
        for took, said in self._parts():
            told += said
            spent += took
            if spent >= _SLICE_US:
                yield _merged(told)
                told, spent = [], 0.0
        yield _merged(told)

    def _parts(self) -> Iterator[tuple[float, Told]]:
        """The same in the smallest parts: what each takes, and what is to be told of it."""
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
        members = [member.index for member in self._registry.members()]
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
        self._followed = Followed(version, gained, len(unwanted))


def _merged(told: Told) -> Told:
    """*told*, which names new links only, with one message for each node."""
    configs: dict[int, list[LinkConfig]] = {}
    for index, links in told:
        configs.setdefault(index, []).extend(links.set)
    return [(index, Links(set=tuple(configs[index]))) for index in sorted(configs)]


def _chunks(pairs: list[Pair]) -> Iterator[list[Pair]]:
    rest = iter(pairs)
    while chunk := list(islice(rest, _AT_ONCE)):
        yield chunk
