"""The processes of a simulated mesh: controllers and nodes, as they ship, started, killed and started again.

In: a scenario, a seed, a network. Out: running processes. Each stands on a host of
its own; its randomness is drawn from the seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

import trio
from pydantic import SecretStr

from relaymesh.controller.app import run_controller
from relaymesh.controller.lease import LEASE_KEY, decode_record
from relaymesh.controller.settings import NO_API, ControllerSettings
from relaymesh.controller.store.memory import MemoryEngine, MemoryStore
from relaymesh.controller.tokens import make_join_token
from relaymesh.netsim.direct import DirectPort, NetworkDriver
from relaymesh.netsim.local_clock import LocalClock
from relaymesh.netsim.net import Network
from relaymesh.netsim.plain_transport import PlainTransport
from relaymesh.netsim.scenario.resolved import Scenario
from relaymesh.netsim.scenario.strict import CONTROLLER
from relaymesh.netsim.scenario.timeline import SkewClock, timeline
from relaymesh.netsim.tally import NodeCount, NodeTap
from relaymesh.node.app import Entropy, Node, NodePorts
from relaymesh.node.offers import MediaEndpoint
from relaymesh.node.settings import NodeSettings
from relaymesh.protocol.ids import name_hash
from relaymesh.protocol.messages import Address
from relaymesh.topology import Topology
from relaymesh.webrtc.certificate import Certificate

CONTROL_PORT, RELAY_PORT, MEDIA_PORT, HTTP_PORT = 7400, 7500, 7600, 7700
CONTROLLER_HOST = "10.0.0.1"
CONTROLLER_NAME = "controller.mesh"
STORE_DELAY_S = 0.002  # what a call of a store takes
SECRET = "a join secret of the emulated network"
UNIX_EPOCH = 1_800_000_000.0  # what the date is when a run begins
# What a killed process leaves in those of its tasks that still run.
DEATH = (trio.ClosedResourceError, trio.BrokenResourceError, OSError)


@dataclass(slots=True)
class SimNode:
    """One node's place in the emulated network; ``node`` is None while it is dead."""

    name: str
    host: str
    tap: NodeTap
    boots: int = 0
    node: Node | None = None
    scope: trio.CancelScope | None = None
    clock: LocalClock | None = None  # the machine's, so it outlives the node; None: as the network's
    count: NodeCount = field(default_factory=NodeCount)


@dataclass(slots=True)
class SimController:
    """One controller's place; ``scope`` is None while it is dead."""

    number: int
    boots: int = 0
    scope: trio.CancelScope | None = None
    apply: Callable[[Topology], None] | None = None  # a topology, while it lives
    store: MemoryStore | None = None  # None: it is the only one, and keeps nothing

    @property
    def host(self) -> str:
        return f"10.0.0.{self.number + 1}"

    @property
    def name(self) -> str:
        return f"controller-{self.number}.mesh" if self.number else CONTROLLER_NAME

    @property
    def url(self) -> str:
        """Where nodes connect."""
        return f"ws://{self.name}:{CONTROL_PORT}"


class SimProcesses:
    """All controllers and nodes of one run."""

    def __init__(self, scenario: Scenario, seed: int, topology_file: Path) -> None:
        """*topology_file*: the scenario's topology, for the controller to read."""
        self.scenario = scenario
        self.seed = seed
        self.changes = 0  # rises with each crash and start of a node
        self.nodes = {
            name: SimNode(name, f"10.1.{index >> 8}.{index & 255}", NodeTap(Random(f"{seed}:drop:{name}")))
            for index, name in enumerate(scenario.nodes)
        }
        self.controllers = [SimController(number) for number in range(scenario.standbys + 1)]
        self.store = MemoryEngine(STORE_DELAY_S)  # shared by all controllers, where there are several
        for place in self.controllers:
            place.store = MemoryStore(self.store) if scenario.standbys else None
        self.edits = 0  # topologies that were applied
        self._certificate = Certificate.generate(UNIX_EPOCH)
        self._nursery: trio.Nursery | None = None
        self.network: Network | None = None
        self._controller_settings = self._make_controller_settings(topology_file)

    def names_by_host(self) -> dict[str, str]:
        """Host → node, or "controller"."""
        nodes = {node.host: node.name for node in self.nodes.values()}
        return nodes | {place.host: CONTROLLER for place in self.controllers}

    def host_names(self) -> dict[str, str]:
        """The whole DNS of the run."""
        return {place.name: place.host for place in self.controllers}

    # --- processes -----------------------------------------------------------------------------

    def start(self, network: Network, nursery: trio.Nursery) -> None:
        """Start the controller and all nodes; *nursery* runs them."""
        self.network, self._nursery = network, nursery
        for action in timeline(self.scenario):
            if isinstance(action, SkewClock):
                clock = self.nodes[action.node].clock = self.nodes[action.node].clock or LocalClock()
                if action.at_s == 0:
                    clock.set(0.0, action.offset_s, action.drift_ppm)
        self.start_controller()
        for name in self.nodes:
            self.start_node(name)

    def find_node(self, name: str) -> Node | None:
        return self.nodes[name].node

    def start_controller(self) -> None:
        """Start every controller that is dead."""
        network, nursery = self._running()
        for place in self.controllers:
            if place.scope is None:
                place.boots += 1
                place.scope = trio.CancelScope()
                with network.on_host(place.host):
                    nursery.start_soon(self._run_controller, place, place.scope, name=place.name)

    async def _run_controller(self, place: SimController, scope: trio.CancelScope) -> None:
        keys = Random(f"{self.seed}:keys:{place.number or ''}{place.boots}")
        listen = f"{place.host}:{CONTROL_PORT}"
        try:
            with scope:
                await run_controller(
                    # Plain WebSockets beyond loopback are refused to real processes only.
                    self._controller_settings.model_copy(update={"listen": listen, "url": place.url}),
                    key_source=keys.randbytes,
                    unix_time=lambda: UNIX_EPOCH + trio.current_time(),
                    on_editable=partial(setattr, place, "apply"),
                    store=place.store,
                )
        except* DEATH:
            if not scope.cancel_called:
                raise

    def apply_topology(self, topology: Topology) -> None:
        """As the operator's ``topology apply`` would; nothing while there is no controller."""
        place = self.leading_controller()
        if place is not None and place.apply is not None:
            place.apply(topology)
            self.edits += 1

    def crash_controller(self) -> None:
        """Kill the one that leads, as a process is killed."""
        network, _ = self._running()
        place = self.leading_controller()
        if place is not None and place.scope is not None:
            place.scope.cancel()
            place.scope = place.apply = None
            network.kill_host(place.host)

    def leading_controller(self) -> SimController | None:
        """The one that leads, as far as the store knows; None: nobody does."""
        if len(self.controllers) == 1:
            return self.controllers[0]
        entry = self.store.entries.get(LEASE_KEY)
        url = "" if entry is None else decode_record(entry.value).url
        return next((place for place in self.controllers if place.url == url), None)

    def start_node(self, name: str) -> None:
        network, nursery = self._running()
        place = self.nodes[name]
        if place.node is not None:
            return
        place.boots += 1
        place.scope = trio.CancelScope()
        with network.on_host(place.host):
            place.node = self._make_node(place, network)
            nursery.start_soon(self._run_node, place.node, place.scope, name=name)
        self.changes += 1

    async def _run_node(self, node: Node, scope: trio.CancelScope) -> None:
        try:
            with scope:
                await node.run()
        except* DEATH:
            if not scope.cancel_called:
                raise

    def crash_node(self, name: str) -> None:
        """It dies as a killed process does: its host's kernel resets its streams."""
        network, _ = self._running()
        place = self.nodes[name]
        if place.node is None or place.scope is None:
            return
        place.count.bury(place.node)
        place.node = None
        place.scope.cancel()
        network.kill_host(place.host)
        self.changes += 1

    def skew_clock(self, action: SkewClock) -> None:
        """Let a node's clock go wrong. One that is wrong from the start was set before the node read it."""
        network, _ = self._running()
        place = self.nodes[action.node]
        assert place.clock is not None, "start() gave one to every node that needs it"
        if action.at_s > 0:
            place.clock.slew(network.now, action.offset_s, action.drift_ppm)
            if place.node is not None:
                place.node.driver.timer.clock_changed()  # type: ignore[attr-defined]  # a NetworkDriver

    def _running(self) -> tuple[Network, trio.Nursery]:
        assert self.network is not None, "start() comes first"
        assert self._nursery is not None, "start() comes first"
        return self.network, self._nursery

    def _make_node(self, place: SimNode, network: Network) -> Node:
        rng = Random(f"{self.seed}:node:{place.name}:{place.boots}")
        media = DirectPort(network, place.host, MEDIA_PORT)
        relay = DirectPort(network, place.host, RELAY_PORT)
        clock, timeline = place.clock, network.timeline
        return Node(
            self._node_settings(place),
            NodePorts(media, relay),
            MediaEndpoint(
                place.host, MEDIA_PORT, self._certificate, ufrag_prefix=f"{name_hash(place.name):016x}"[:6]
            ),
            relay_address=Address(place.host, RELAY_PORT),
            http_url=f"http://{place.host}:{HTTP_PORT}",
            entropy=Entropy(rng, rng.randbytes),
            make_transport=PlainTransport,  # type: ignore[arg-type]  # it has the same face
            clock=(lambda: timeline.now) if clock is None else (lambda: clock.read(timeline.now)),
            make_driver=partial(NetworkDriver, network, clock=clock),
            tap=place.tap,
        )

    # --- settings ------------------------------------------------------------------------------

    def _make_controller_settings(self, topology_file: Path) -> ControllerSettings:
        return ControllerSettings(
            topology=topology_file,
            join_secret=SecretStr(SECRET),
            api_listen=NO_API,
            **self.scenario.settings.controller(),
        )

    def _node_settings(self, place: SimNode) -> NodeSettings:
        settings = NodeSettings(
            name=place.name,
            region=self.scenario.topology.node(place.name).region,
            controller=f"ws://127.0.0.1:{CONTROL_PORT}",
            token=SecretStr(make_join_token(SECRET, name=place.name)),
            relay=f"{place.host}:{RELAY_PORT}",
            media=f"{place.host}:{MEDIA_PORT}",
            **self.scenario.settings.node(),
        )
        return settings.model_copy(update={"controller": ",".join(one.url for one in self.controllers)})
