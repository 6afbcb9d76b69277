"""The operator's topology file as the stages ask for it: regions, permitted pairs, added cost.

The stages see only :class:`MeshPolicy`. :class:`OpenMesh` stands where no file
was given: any region, a full mesh, nothing added. :class:`TopologyPolicy` is
the file: what it says of two nodes by name goes before what it says of their regions.
:class:`CurrentPolicy` is whichever of them holds now: what the stages are given,
so that a mesh can be edited while it runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from relaymesh.controller.sites import Sited, own_names, same_site
from relaymesh.topology import Objective, Pin, Topology


@dataclass(frozen=True, slots=True)
class Place:
    """Coordinates of a region, degrees."""

    latitude: float
    longitude: float


class Placed(Sited, Protocol):
    """A node that says where it is, as the policy is asked about it."""


class MeshPolicy(Protocol):
    """The questions the stages ask about nodes and regions."""

    @property
    def name(self) -> str | None:
        """The name of the topology; None when there is none."""

    @property
    def topology(self) -> Topology | None:
        """The whole file; None when there is none."""

    def regions(self) -> tuple[str, ...] | None:
        """All region names; None when any name will do."""

    def listed_region(self, node: str) -> str | None:
        """The region the operator gave the node of this name; None where nothing is said of it."""

    def may_peer(self, one: Placed, other: Placed) -> bool:
        """True when these two may be neighbours."""

    def lists_pairs(self) -> bool:
        """True when the operator names the nodes, and only pairs that are listed may peer."""

    def extra_cost_ms(self, source: Placed, target: Placed) -> float:
        """Cost the operator adds to the link from *source* to *target*, milliseconds."""

    def price_per_gb(self, source: Placed, target: Placed) -> float:
        """Price of a gigabyte from *source* to *target*, in the operator's money."""

    def capacity_kbps(self, source: Placed, target: Placed) -> float:
        """Capacity of the link from *source* to *target*; 0 where the file gives none."""

    def objective(self) -> Objective | None:
        """Objective of routes; None where the file gives none."""

    def place(self, region: str) -> Place | None:
        """Coordinates of *region*, if known."""

    def pins(self) -> tuple[Pin, ...]:
        """The ways the operator fixed."""

    def stands_at(self, node: Placed, station: str) -> bool:
        """True when *node* stands at *station* of a pin: a region, or a node by name."""

    def is_edge(self, node: Placed) -> bool:
        """True when clients may be sent to *node*."""


class OpenMesh:
    """No topology file: everybody may peer with everybody."""

    name: str | None = None
    topology: Topology | None = None

    def regions(self) -> tuple[str, ...] | None:
        return None

    def listed_region(self, node: str) -> str | None:
        return None

    def may_peer(self, one: Placed, other: Placed) -> bool:
        return True

    def lists_pairs(self) -> bool:
        return False

    def extra_cost_ms(self, source: Placed, target: Placed) -> float:
        return 0.0

    def price_per_gb(self, source: Placed, target: Placed) -> float:
        return 0.0

    def capacity_kbps(self, source: Placed, target: Placed) -> float:
        return 0.0

    def objective(self) -> Objective | None:
        return None

    def place(self, region: str) -> Place | None:
        return None

    def pins(self) -> tuple[Pin, ...]:
        return ()

    def stands_at(self, node: Placed, station: str) -> bool:
        return station in (*own_names(node), node.region)

    def is_edge(self, node: Placed) -> bool:
        return True


class TopologyPolicy:
    """A topology file. Asked only about regions it has."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self.name: str | None = topology.name
        self.topology: Topology | None = topology
        self._regions = tuple(region.name for region in topology.regions)
        # A file without nodes stands for one per region, named like it; those bind nobody.
        self._listed = {
            node.name: node.region for node in topology.nodes if node.name not in set(self._regions)
        }

    def regions(self) -> tuple[str, ...]:
        return self._regions

    def listed_region(self, node: str) -> str | None:
        return self._listed.get(node)

    def may_peer(self, one: Placed, other: Placed) -> bool:
        return same_site(one, other) or self._topology.may_peer(self.end(one), self.end(other))

    def lists_pairs(self) -> bool:
        return bool(self._listed) and self._topology.default_peering == "never"

    def extra_cost_ms(self, source: Placed, target: Placed) -> float:
        link = self._topology.link(self.end(source), self.end(target))
        return 0.0 if link is None else link.extra_cost_ms

    def price_per_gb(self, source: Placed, target: Placed) -> float:
        link = self._topology.link(self.end(source), self.end(target))
        return 0.0 if link is None else link.price_per_gb

    def capacity_kbps(self, source: Placed, target: Placed) -> float:
        link = self._topology.link(self.end(source), self.end(target))
        return 0.0 if link is None or link.capacity_mbps is None else link.capacity_mbps * 1000

    def objective(self) -> Objective | None:
        return self._topology.objective

    def place(self, region: str) -> Place | None:
        if region not in self._regions:
            return None
        known = self._topology.region(region)
        if known.latitude is None or known.longitude is None:
            return None
        return Place(known.latitude, known.longitude)

    def pins(self) -> tuple[Pin, ...]:
        return self._topology.pins

    def stands_at(self, node: Placed, station: str) -> bool:
        return station == node.region if station in self._regions else station in own_names(node)

    def is_edge(self, node: Placed) -> bool:
        end = self.end(node)
        return end not in self._listed or "edge" in self._topology.node(end).roles

    def end(self, node: Placed) -> str:
        """Name of *node* in the file: its own if it is listed, or its site's, else its region's."""
        return next((name for name in own_names(node) if name in self._listed), node.region)


class CurrentPolicy:
    """The policy that holds now, replaceable; the stages keep this one."""

    def __init__(self, policy: MeshPolicy) -> None:
        self._now = policy

    def replace(self, policy: MeshPolicy) -> None:
        """From now on *policy* holds."""
        self._now = policy

    @property
    def name(self) -> str | None:
        return self._now.name

    @property
    def topology(self) -> Topology | None:
        return self._now.topology

    @property
    def now(self) -> MeshPolicy:
        """The policy itself, which never changes."""
        return self._now

    def regions(self) -> tuple[str, ...] | None:
        return self._now.regions()

    def listed_region(self, node: str) -> str | None:
        return self._now.listed_region(node)

    def may_peer(self, one: Placed, other: Placed) -> bool:
        return self._now.may_peer(one, other)

    def lists_pairs(self) -> bool:
        return self._now.lists_pairs()

    def extra_cost_ms(self, source: Placed, target: Placed) -> float:
        return self._now.extra_cost_ms(source, target)

    def price_per_gb(self, source: Placed, target: Placed) -> float:
        return self._now.price_per_gb(source, target)

    def capacity_kbps(self, source: Placed, target: Placed) -> float:
        return self._now.capacity_kbps(source, target)

    def objective(self) -> Objective | None:
        return self._now.objective()

    def place(self, region: str) -> Place | None:
        return self._now.place(region)

    def pins(self) -> tuple[Pin, ...]:
        return self._now.pins()

    def stands_at(self, node: Placed, station: str) -> bool:
        return self._now.stands_at(node, station)

    def is_edge(self, node: Placed) -> bool:
        return self._now.is_edge(node)
