"""What the operator's topology file says, as far as the stages ask: regions, who may peer, added cost.

The stages see only :class:`MeshPolicy`. :class:`OpenMesh` stands where no file
was given: any region, a full mesh, nothing added. :class:`TopologyPolicy` is
the file: what it says of two nodes by name goes before what it says of their regions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from relaymesh.topology import Topology


@dataclass(frozen=True, slots=True)
class Place:
    """Where a region is, degrees."""

    latitude: float
    longitude: float


class Placed(Protocol):
    """A node that says where it is."""

    @property
    def name(self) -> str: ...

    @property
    def region(self) -> str: ...


class MeshPolicy(Protocol):
    """The questions the stages ask about nodes and regions."""

    @property
    def name(self) -> str | None:
        """The name of the topology; None when there is none."""

    def regions(self) -> tuple[str, ...] | None:
        """All region names; None when any name will do."""

    def listed_region(self, node: str) -> str | None:
        """The region the operator gave the node of this name; None where nothing is said of it."""

    def may_peer(self, one: Placed, other: Placed) -> bool:
        """Whether these two may be neighbours."""

    def extra_cost_ms(self, source: Placed, target: Placed) -> float:
        """What the operator adds to the cost of the link from *source* to *target*."""

    def price_per_gb(self, source: Placed, target: Placed) -> float:
        """What a gigabyte from *source* to *target* costs, in the operator's money."""

    def capacity_kbps(self, source: Placed, target: Placed) -> float:
        """What the link from *source* to *target* carries; 0 where nothing is said."""

    def place(self, region: str) -> Place | None:
        """Where *region* is, if known."""


class OpenMesh:
    """No topology file: everybody may peer with everybody."""

    name: str | None = None

    def regions(self) -> tuple[str, ...] | None:
        return None

    def listed_region(self, node: str) -> str | None:
        return None

    def may_peer(self, one: Placed, other: Placed) -> bool:
        return True

    def extra_cost_ms(self, source: Placed, target: Placed) -> float:
        return 0.0

    def price_per_gb(self, source: Placed, target: Placed) -> float:
        return 0.0

    def capacity_kbps(self, source: Placed, target: Placed) -> float:
        return 0.0

    def place(self, region: str) -> Place | None:
        return None


class TopologyPolicy:
    """A topology file. Asked only about regions it has."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self.name: str | None = topology.name
        self._regions = tuple(region.name for region in topology.regions)
        # A file without nodes stands for one per region, named like it; those bind nobody.
        self._listed = {
            node.name: node.region for node in topology.nodes if node.name not in set(self._regions)
        }

    def regions(self) -> tuple[str, ...] | None:
        return self._regions

    def listed_region(self, node: str) -> str | None:
        return self._listed.get(node)

    def may_peer(self, one: Placed, other: Placed) -> bool:
        return self._topology.may_peer(self._end(one), self._end(other))

    def extra_cost_ms(self, source: Placed, target: Placed) -> float:
        link = self._topology.link(self._end(source), self._end(target))
        return 0.0 if link is None else link.extra_cost_ms

    def price_per_gb(self, source: Placed, target: Placed) -> float:
        link = self._topology.link(self._end(source), self._end(target))
        return 0.0 if link is None else link.price_per_gb

    def capacity_kbps(self, source: Placed, target: Placed) -> float:
        link = self._topology.link(self._end(source), self._end(target))
        return 0.0 if link is None or link.capacity_mbps is None else link.capacity_mbps * 1000

    def place(self, region: str) -> Place | None:
        if region not in self._regions:
            return None
        known = self._topology.region(region)
        if known.latitude is None or known.longitude is None:
            return None
        return Place(known.latitude, known.longitude)

    def _end(self, node: Placed) -> str:
        """How the file calls *node*: by its name if it lists it, else by its region."""
        return node.name if node.name in self._listed else node.region
