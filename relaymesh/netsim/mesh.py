"""The controller and the nodes of a scenario, as they ship, in the emulated network.

In: a scenario, a seed, a network. Out: running processes that can be killed and
started again (:mod:`~relaymesh.netsim.sim_processes`), links that can be changed
(:mod:`~relaymesh.netsim.sim_links`), and what of them can be counted.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from relaymesh.netsim.scenario.resolved import Participant, Scenario
from relaymesh.netsim.sim_links import SimLinks
from relaymesh.netsim.sim_processes import SimNode, SimProcesses
from relaymesh.netsim.tally import Tally
from relaymesh.node.app import Node


class SimMesh:
    """All processes and the links between them."""

    def __init__(self, scenario: Scenario, seed: int, topology_file: Path) -> None:
        """*topology_file*: the scenario's topology, for the controller to read."""
        self.scenario = scenario
        self.processes = SimProcesses(scenario, seed, topology_file)
        self.links = SimLinks(scenario, seed, self.processes.names_by_host())

    @property
    def nodes(self) -> dict[str, SimNode]:
        """The places of the nodes, by name."""
        return self.processes.nodes

    @property
    def link_changes(self) -> int:
        """Rises with each change of a link, a crash, a start."""
        return self.links.changes + self.processes.changes

    def add_client(self, host: str, participant: Participant) -> None:
        """The participant on *host* speaks to its own node only."""
        self.links.add_client(host, self.nodes[participant.node].host, participant)

    def find_node(self, name: str) -> Node | None:
        """The node called *name*; None while it is dead."""
        return self.nodes[name].node

    # --- counting ------------------------------------------------------------------------------

    def delay_s(self, source: str, target: str) -> float | None:
        """The delay of a link now, one way; None: nothing passes, or there is none."""
        return self.links.delay_s(source, target)

    def relay_totals(self) -> tuple[int, int, int]:
        """(bytes sent into relay links, media datagrams, of those lost), so far."""
        return self.links.relay_totals()

    def relay_links(self) -> list[tuple[str, str]]:
        """The directed links between nodes."""
        return self.links.relay_links()

    def active_generation(self) -> int:
        """The newest generation that a node stamps packets with."""
        return max((p.node.core.tables.active for p in self.nodes.values() if p.node), default=0)

    def totals(self) -> Tally:
        """Everything counted so far, by the living and the dead."""
        dropped: Counter[str] = Counter()
        places = self.nodes.values()
        for place in places:
            dropped.update(place.count.dropped)
            if place.node is not None:
                place.count.take(place.node)
                dropped.update(place.node.core.forwarder.dropped)
        return Tally(
            loops=dropped["hop_limit"] + dropped["reflected"],
            duplicates=sum(place.count.duplicates for place in places),
            bugs=dropped["bug"],
            payload_hops=sum(place.tap.payload_hops for place in places),
            dropped=dropped,
        )
