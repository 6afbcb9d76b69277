"""What an emulation consists of: hosts with addresses, wires between them, and the commands of its processes.

In: a scenario. Out: an :class:`EmulationPlan`, a pure description. It starts nothing.

Every node has a host (a namespace) of its own, and so have the controller and each
region's clients. Participants share their region's host, but each has an address
of its own, and so its own access link; the host's first address is that of
whatever ``relaymesh emulate exec`` runs there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import IPv4Address
from itertools import pairwise
from pathlib import Path

from relaymesh.netsim.conditions import link_conditions
from relaymesh.netsim.emulate.emulator import WireSpec
from relaymesh.netsim.emulate.processes import Command
from relaymesh.netsim.link_model import LinkConditions
from relaymesh.netsim.scenario.resolved import Participant, Scenario
from relaymesh.netsim.scenario.strict import CONTROLLER
from relaymesh.topology import best_paths_from

NETWORK = int(IPv4Address("10.77.0.0"))
PREFIX_BITS = 16
NODES_AT = 0x0100
CLIENTS_AT = 0x1000
CLIENTS_PER_REGION = 1024
REGIONS_MOST = (0x10000 - CLIENTS_AT) // CLIENTS_PER_REGION
NODES_MOST = CLIENTS_AT - NODES_AT

CONTROL_PORT, API_PORT = 7400, 7401
RELAY_PORT, MEDIA_PORT, HTTP_PORT = 7500, 7600, 7700
LOOPBACK = "127.0.0.1"
LOCAL_MS = 0.1  # between two addresses of one region


class TooLarge(Exception):
    """More regions, nodes or clients than there are addresses for."""


@dataclass(frozen=True, slots=True)
class Host:
    """One namespace."""

    name: str
    addresses: tuple[str, ...]


def clients_host(region: str) -> str:
    """The name of the host in which the clients of *region* are."""
    return f"clients@{region}"


class EmulationPlan:
    """Hosts, wires and commands of *scenario* under *seed*."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario = scenario
        self.seed = seed
        self.regions = tuple(region.name for region in scenario.topology.regions)
        self.controller_address = address_at(1)
        if len(self.regions) > REGIONS_MOST or len(scenario.nodes) > NODES_MOST:
            raise TooLarge(f"an emulation has at most {REGIONS_MOST} regions and {NODES_MOST} nodes")
        self.node_address = {name: address_at(NODES_AT + i) for i, name in enumerate(scenario.nodes)}
        self.region_address = {name: address_at(_clients_at(i)) for i, name in enumerate(self.regions)}
        self.client_address: dict[tuple[str, str], str] = {}  # room, participant
        taken = dict.fromkeys(self.regions, 0)
        for participant in scenario.participants:
            region = self.region_of(participant.node)
            taken[region] += 1
            if taken[region] >= CLIENTS_PER_REGION:
                raise TooLarge(f"an emulated region has at most {CLIENTS_PER_REGION - 1} clients")
            at = _clients_at(self.regions.index(region)) + taken[region]
            self.client_address[participant.room, participant.name] = address_at(at)

    def region_of(self, node: str) -> str:
        """The region *node* is in."""
        return self.scenario.topology.node(node).region

    def address_of(self, participant: Participant) -> str:
        """The address *participant* speaks from."""
        return self.client_address[participant.room, participant.name]

    def http_url(self, node: str) -> str:
        """Where *node* serves WHIP and WHEP."""
        return f"http://{self.node_address[node]}:{HTTP_PORT}"

    @cached_property
    def hosts(self) -> tuple[Host, ...]:
        """The controller's, the nodes', and the clients' of each region."""
        clients: dict[str, list[str]] = {region: [self.region_address[region]] for region in self.regions}
        for participant in self.scenario.participants:
            clients[self.region_of(participant.node)].append(self.address_of(participant))
        return (
            Host(CONTROLLER, (self.controller_address,)),
            *(Host(name, (address,)) for name, address in self.node_address.items()),
            *(Host(clients_host(region), tuple(addresses)) for region, addresses in clients.items()),
        )

    # --- wires ---------------------------------------------------------------------------------

    def wires(self) -> list[WireSpec]:
        """Every direction of every pair that may speak to each other."""
        return [*self._node_wires(), *self._controller_wires(), *self._client_wires(), *self._visitor_wires()]

    def address(self, name: str) -> str:
        """The address of the node *name*, or of the controller."""
        return self.controller_address if name == CONTROLLER else self.node_address[name]

    def _wire(self, source: str, target: str, conditions: LinkConditions, *names: str) -> WireSpec:
        return WireSpec(source, target, conditions, f"{self.seed}:{names[0]}:{names[1]}")

    def _node_wires(self) -> Iterator[WireSpec]:
        for a in self.scenario.nodes:
            for b in self.scenario.nodes:
                given = self.scenario.conditions(a, b) if a != b else None
                if given is not None:
                    conditions = link_conditions(given, self.scenario.path.parent)
                    yield self._wire(self.node_address[a], self.node_address[b], conditions, a, b)

    def _controller_wires(self) -> Iterator[WireSpec]:
        for node, address in self.node_address.items():
            conditions = LinkConditions(delay_ms=self.scenario.controller_delay_ms(node))
            yield self._wire(self.controller_address, address, conditions, CONTROLLER, node)
            yield self._wire(address, self.controller_address, conditions, node, CONTROLLER)

    @cached_property
    def _access(self) -> LinkConditions:
        return link_conditions(self.scenario.access, self.scenario.path.parent)

    def _client_wires(self) -> Iterator[WireSpec]:
        for participant in self.scenario.participants:
            mine, edge = self.address_of(participant), self.node_address[participant.node]
            name = f"{participant.room}/{participant.name}"
            access = link_conditions(self.scenario.access_of(participant), self.scenario.path.parent)
            yield self._wire(mine, edge, access, name, participant.node)
            yield self._wire(edge, mine, access, participant.node, name)

    def _visitor_wires(self) -> Iterator[WireSpec]:
        """For what is run in a region by hand: its access link, then the shortest way to every node."""
        access = self._access
        for region, mine in self.region_address.items():
            homes = self.scenario.nodes_at(region)
            distances = self._distances(homes[0]) if homes else {}
            for node, delay_ms in distances.items():
                conditions = replace(access, delay_ms=access.delay_ms + delay_ms)
                there = self.node_address[node]
                yield self._wire(mine, there, conditions, f"visitor@{region}", node)
                yield self._wire(there, mine, conditions, node, f"visitor@{region}")
            for other, address in self.region_address.items():
                goals = self.scenario.nodes_at(other)
                if other != region and goals and goals[0] in distances:
                    conditions = LinkConditions(delay_ms=2 * access.delay_ms + distances[goals[0]])
                    yield self._wire(mine, address, conditions, f"visitor@{region}", f"visitor@{other}")

    def _distances(self, node: str) -> dict[str, float]:
        """One-way milliseconds from *node* to every node, along the topology's best paths."""
        topology = self.scenario.topology
        distances = {node: 0.0}
        for target, best in best_paths_from(topology, node).items():
            links = [topology.link(a, b) for a, b in pairwise(best.nodes)]
            distances[target] = sum(link.delay_ms for link in links if link is not None)
        return distances

    # --- commands ------------------------------------------------------------------------------

    def controller_command(self, folder: Path, secret: str) -> Command:
        """Starts the controller; ``topology.yaml``, ``cert.pem`` and ``key.pem`` are in *folder*."""
        given = [(f"--{k.replace('_', '-')}", str(v)) for k, v in self.scenario.settings.controller().items()]
        arguments = (
            "controller",
            *("--topology", str(folder / "topology.yaml")),
            *("--listen", f"{self.controller_address}:{CONTROL_PORT}"),
            *("--api-listen", f"{LOOPBACK}:{API_PORT}"),
            *("--tls-cert", str(folder / "cert.pem")),
            *("--tls-key", str(folder / "key.pem")),
            *("--log-format", "json"),
            *(part for option in given for part in option),
        )
        return Command(CONTROLLER, arguments, {"RELAYMESH_CONTROLLER_JOIN_SECRET": secret})

    def node_command(self, name: str, folder: Path, token: str) -> Command:
        """Starts the node *name*."""
        address = self.node_address[name]
        given = [(f"--{k.replace('_', '-')}", str(v)) for k, v in self.scenario.settings.node().items()]
        arguments = (
            "node",
            *("--name", name),
            *("--region", self.region_of(name)),
            *("--controller", f"wss://{self.controller_address}:{CONTROL_PORT}"),
            *("--ca", str(folder / "cert.pem")),
            *("--relay", f"{address}:{RELAY_PORT}"),
            *("--media", f"{address}:{MEDIA_PORT}"),
            *("--http", f"0.0.0.0:{HTTP_PORT}"),
            *("--http-url", self.http_url(name)),
            *("--plain-http", "--open-rooms"),
            *("--log-format", "json"),
            *(part for option in given for part in option),
        )
        return Command(name, arguments, {"RELAYMESH_NODE_TOKEN": token})


def address_at(offset: int) -> str:
    """The address that many above the network's own."""
    return str(IPv4Address(NETWORK + offset))


def _clients_at(region: int) -> int:
    return CLIENTS_AT + region * CLIENTS_PER_REGION
