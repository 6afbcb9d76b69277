"""Processes that the demo starts: a controller, a node for each region, a publisher and a player far from it.

In: a topology and free ports. Out: a :class:`Plan`, with the command line, the environment and the files of
every process. A pure description: it starts nothing, and knows no process.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

from relaymesh.topology import Topology, best_paths_from, parse_topology

HOST = "127.0.0.1"
ROOM, PARTICIPANT = "demo", "clock"
INGRESS_REGION, EDGE_REGION = "dallas", "london"
REPORT_EVERY = 0.25  # seconds between the reports of publisher and player
RELAYMESH = (sys.executable, "-m", "relaymesh")
TOPOLOGY_FILE = "three-regions.yaml"


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node: its names, its ports on loopback, and what it sends to whom how late."""

    name: str
    region: str
    relay_port: int
    media_port: int
    http_port: int
    delays_ms: dict[str, float]  # neighbour → one-way delay of what this node sends to it

    @property
    def http_url(self) -> str:
        return f"http://{HOST}:{self.http_port}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole demo."""

    topology: Topology
    controller_port: int  # nodes connect here
    api_port: int  # the controller's JSON API
    nodes: tuple[NodePlan, ...]
    path: tuple[str, ...]  # the expected best path, node names, from the publisher's to the player's

    @property
    def api_url(self) -> str:
        return f"http://{HOST}:{self.api_port}"

    @property
    def transit(self) -> tuple[str, ...]:
        """The nodes in between, by name."""
        return self.path[1:-1]

    @property
    def path_delay_ms(self) -> float:
        """The emulated one-way delay of the shortest of all ways: no media can be faster."""
        direct = self.node(self.path[0]).delays_ms.get(self.path[-1])
        along = sum(self.node(a).delays_ms[b] for a, b in pairwise(self.path))
        return along if direct is None else min(along, direct)

    @property
    def links(self) -> list[tuple[str, str, float]]:
        """Each pair once, with its round trip in milliseconds."""
        pairs = []
        for index, node in enumerate(self.nodes):
            for other in self.nodes[index + 1 :]:
                if other.name in node.delays_ms:
                    rtt_ms = node.delays_ms[other.name] + other.delays_ms[node.name]
                    pairs.append((node.name, other.name, rtt_ms))
        return pairs

    def node(self, name: str) -> NodePlan:
        """The node called *name*; ``KeyError`` when there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def title(self, name: str) -> str:
        """Title of the region of the node *name*."""
        return self.topology.region(self.node(name).region).title

    @property
    def publish_url(self) -> str:
        return f"{self.node(self.path[0]).http_url}/whip/{ROOM}/{PARTICIPANT}"

    @property
    def play_url(self) -> str:
        return f"{self.node(self.path[-1]).http_url}/whep/{ROOM}/{PARTICIPANT}"


@dataclass(frozen=True, slots=True)
class Command:
    """One process to start. Secrets stand in the environment, which other users cannot read."""

    name: str
    arguments: tuple[str, ...]  # after the program
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    stage: int = 0  # what needs it has a higher one, and is stopped before it


def demo_topology() -> Topology:
    """The three regions, as the package carries them."""
    data = (files("relaymesh.demo") / TOPOLOGY_FILE).read_bytes()
    return parse_topology(data, TOPOLOGY_FILE)


def make_plan(topology: Topology, free_ports: Iterator[int]) -> Plan:
    """The demo of *topology*, on *free_ports*.

    Raises:
        KeyError: *topology* has not the two regions the demo is about.
    """
    names = {region.name: f"{region.name}-1" for region in topology.regions}
    controller_port, api_port = next(free_ports), next(free_ports)
    nodes = []
    for region in topology.regions:
        ways = {other: topology.link(region.name, other) for other in names if other != region.name}
        delays_ms = {names[other]: link.delay_ms for other, link in ways.items() if link is not None}
        relay, media, http = next(free_ports), next(free_ports), next(free_ports)
        nodes.append(NodePlan(names[region.name], region.name, relay, media, http, delays_ms))
    best = best_paths_from(topology, INGRESS_REGION)[EDGE_REGION]
    return Plan(topology, controller_port, api_port, tuple(nodes), tuple(names[step] for step in best.nodes))


def emulation_file(plan: Plan, node: NodePlan) -> dict[str, object]:
    """Input of ``relaymesh node --emulate-links`` for *node*."""
    return {
        "links": {
            peer: {"address": f"{HOST}:{plan.node(peer).relay_port}", "delay_ms": delay_ms}
            for peer, delay_ms in node.delays_ms.items()
        }
    }


def controller_command(plan: Plan, topology_file: Path, secret: str) -> Command:
    """Starts the controller; *secret* signed the nodes' join tokens."""
    arguments = (
        "controller",
        *("--topology", str(topology_file)),
        *("--listen", f"{HOST}:{plan.controller_port}"),
        *("--api-listen", f"{HOST}:{plan.api_port}"),
        *("--log-format", "json"),
    )
    return Command("controller", arguments, {"RELAYMESH_CONTROLLER_JOIN_SECRET": secret})


def node_command(plan: Plan, node: NodePlan, emulation: Path, token: str) -> Command:
    """Starts one node, its links delayed as the file *emulation* says."""
    arguments = (
        "node",
        *("--name", node.name),
        *("--region", node.region),
        *("--controller", f"ws://{HOST}:{plan.controller_port}"),
        *("--relay", f"{HOST}:{node.relay_port}"),
        *("--media", f"{HOST}:{node.media_port}"),
        *("--http", f"{HOST}:{node.http_port}"),
        *("--emulate-links", str(emulation)),
        *("--log-format", "json"),
    )
    return Command(node.name, arguments, {"RELAYMESH_NODE_TOKEN": token}, stage=1)


def publisher_command(plan: Plan) -> Command:
    """Starts the headless participant: real VP8 and Opus."""
    options = ("--json", "--retry", "--report-every", str(REPORT_EVERY))
    return Command("publisher", ("publish", plan.publish_url, *options), stage=2)


def player_command(plan: Plan) -> Command:
    """Starts the headless player at the far end."""
    options = ("--json", "--retry", "--report-every", str(REPORT_EVERY))
    return Command("player", ("play", plan.play_url, *options), stage=2)
