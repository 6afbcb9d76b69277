"""The state of the mesh as a controller knows it: one object of each kind, made in the order of the journey.

    registry → adjacency → intake → lsdb → costs → planner → publisher;  rooms beside them

In: options, policy, and the durable state of earlier leaders. Out: the objects themselves, for the
stages that change them and the queries that read them, and a few answers that take two of them.
Nothing here decides anything or sends anything.
"""

from __future__ import annotations

from relaymesh.controller.adjacency import Adjacency, KeySource
from relaymesh.controller.costing import LinkCosts
from relaymesh.controller.directory import Directory
from relaymesh.controller.intake import Intake
from relaymesh.controller.lsdb import LinkStateDb
from relaymesh.controller.options import CoreOptions
from relaymesh.controller.plan import Planner
from relaymesh.controller.policy import CurrentPolicy, MeshPolicy
from relaymesh.controller.preview import NodeAt
from relaymesh.controller.publish import Publisher
from relaymesh.controller.registry import Member, Registry
from relaymesh.controller.reign import Reign
from relaymesh.controller.remembered import GENERATION_GAP
from relaymesh.controller.sites import same_site


class MeshState:
    """Members, links, costs, plans and streams."""

    def __init__(
        self, options: CoreOptions, policy: MeshPolicy, *, key_source: KeySource, reign: Reign
    ) -> None:
        remembered = reign.remembered
        self.options = options
        self.reign = reign
        self.now = 0.0  # of the last call of the core, for questions that come without a time
        self.policy = CurrentPolicy(policy)
        self.registry = Registry(self.policy, options.max_nodes, remembered.indexes)
        self.adjacency = Adjacency(self.policy, key_source, options.key_rotation_s, remembered.key_epochs)
        self.intake = Intake(self.adjacency.are_neighbours)
        self.lsdb = LinkStateDb(options.silent_grace_s)
        self.costs = LinkCosts(self.policy, self.registry, options.objective)
        self.planner = Planner()
        if remembered.generation:
            self.planner.handle_seen(remembered.generation + GENERATION_GAP)
        self.publisher = Publisher(options.activate_after_s)
        self.rooms = Directory(self.is_alive, self.name_of, wait_s=options.presence_timeout_s)

    @property
    def generation(self) -> int:
        """Generation of the newest plan; 0 before the first."""
        plan = self.planner.plan
        return 0 if plan is None else plan.generation

    @property
    def active_generation(self) -> int:
        """Generation that packets are stamped with; 0 before the first."""
        active = self.publisher.active
        return 0 if active is None else active.generation

    def is_alive(self, index: int) -> bool:
        """True for a member with a channel, or with a link that its neighbour reports up.

        Workers of one host die together: one that is silent itself is no witness for another.
        """
        member = self.registry.by_index(index)
        if member is None or member.connected:
            return member is not None
        if member.site is None:
            return self.lsdb.is_reached(index)
        return self.lsdb.is_reached(index, lambda other: not self._is_silent_mate(member, other))

    def _is_silent_mate(self, member: Member, other: int) -> bool:
        mate = self.registry.by_index(other)
        return mate is not None and not mate.connected and same_site(member, mate)

    def name_of(self, index: int) -> str:
        """Name of the node, for texts."""
        member = self.registry.by_index(index)
        return f"node {index}" if member is None else member.name

    def connected(self) -> list[int]:
        """Indexes of the members with a channel, rising."""
        return [member.index for member in self.registry.members() if member.connected]

    def nodes(self) -> tuple[NodeAt, ...]:
        """All members, connected or away."""
        return tuple(NodeAt(one.index, one.name, one.region, one.site) for one in self.registry.members())
