"""The controller and the nodes of a scenario, as they ship, in the emulated network.

In: a scenario, a seed, a network. Out: running processes that can be killed and
started again, links that can be changed, and what of them can be counted. Each
process stands on a host of its own; its randomness is drawn from the seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields
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
from relaymesh.netsim.conditions import condition_changes, link_conditions
from relaymesh.netsim.direct import DirectPort, NetworkTimer, RelayLink
from relaymesh.netsim.link_model import LinkConditions, LinkModel
from relaymesh.netsim.local_clock import LocalClock
from relaymesh.netsim.net import Link, Network
from relaymesh.netsim.plain_transport import PlainTransport
from relaymesh.netsim.scenario.resolved import Scenario
from relaymesh.netsim.scenario.strict import CONTROLLER
from relaymesh.netsim.scenario.timeline import SetLink, SkewClock, timeline
from relaymesh.node.app import Entropy, Node, NodePorts
from relaymesh.node.offers import MediaEndpoint
from relaymesh.node.settings import NodeSettings
from relaymesh.protocol.frames import MEDIA
from relaymesh.protocol.ids import name_hash
from relaymesh.protocol.messages import Address, ControllerMessage, NodeMessage
from relaymesh.topology import Topology
from relaymesh.webrtc.certificate import Certificate

COPY_FLAG = 0x40  # flag of a media frame
CONTROL_PORT, RELAY_PORT, MEDIA_PORT, HTTP_PORT = 7400, 7500, 7600, 7700
CONTROLLER_HOST = "10.0.0.1"
CONTROLLER_NAME = "controller.mesh"
STORE_DELAY_S = 0.002  # what a call of a store takes
SECRET = "a join secret of the emulated network"
UNIX_EPOCH = 1_800_000_000.0  # what the date is when a run begins
# What a killed process leaves in those of its tasks that still run.
DEATH = (trio.ClosedResourceError, trio.BrokenResourceError, OSError)


@dataclass(slots=True)
class Tally:
    """What nodes have counted, those that are dead included."""

    loops: int = 0  # hop limit or reflection
    duplicates: int = 0  # media packets that reached an edge twice
    bugs: int = 0
    payload_hops: int = 0  # bytes of media payload, once for each link they were sent into
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class SimNode:
    """One node's place in the emulated network; ``node`` is None while it is dead."""

    name: str
    host: str
    boots: int = 0
    node: Node | None = None
    scope: trio.CancelScope | None = None
    clock: LocalClock | None = None  # the machine's, so it outlives the node; None: as the network's
    drop_control: float = 0.0  # fraction of control messages
    drop_rng: Random = field(default_factory=Random)
    payload_hops: int = 0
    duplicates: dict[object, int] = field(default_factory=dict)  # encoding → seen so far


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


class SimMesh:
    """All processes and the links between them."""

    def __init__(self, scenario: Scenario, seed: int, topology_file: Path) -> None:
        """*topology_file*: the scenario's topology, for the controller to read."""
        self.scenario = scenario
        self.seed = seed
        self.tally = Tally()
        self.link_changes = 0  # rises with each change of a link, a crash, a start
        self.nodes = {
            name: SimNode(name, f"10.1.{index >> 8}.{index & 255}", drop_rng=Random(f"{seed}:drop:{name}"))
            for index, name in enumerate(scenario.nodes)
        }
        self._by_host = {node.host: node.name for node in self.nodes.values()}
        self.controllers = [SimController(number) for number in range(scenario.standbys + 1)]
        self.store = MemoryEngine(STORE_DELAY_S)  # shared by all controllers, where there are several
        for place in self.controllers:
            self._by_host[place.host] = CONTROLLER
            place.store = MemoryStore(self.store) if scenario.standbys else None
        self._clients: dict[str, str] = {}  # host of a client → its node's host
        self._models: dict[tuple[str, str], LinkModel] = {}
        self._relay_links: dict[tuple[str, str], RelayLink] = {}
        self._folder = scenario.path.parent
        self._access = link_conditions(scenario.access, self._folder)
        self._certificate = Certificate.generate(UNIX_EPOCH)
        self.edits = 0  # topologies that were applied
        self._nursery: trio.Nursery | None = None
        self.network: Network | None = None
        self._controller_settings = self._make_controller_settings(topology_file)
        for source in scenario.nodes:
            for target in scenario.nodes:
                given = scenario.conditions(source, target) if source != target else None
                if given is not None:
                    conditions = link_conditions(given, self._folder)
                    self._add_relay_link(source, target, conditions)

    def _add_relay_link(self, source: str, target: str, conditions: LinkConditions) -> None:
        model = LinkModel(conditions, Random(f"{self.seed}:{source}:{target}"))
        self._models[source, target] = model
        self._relay_links[source, target] = RelayLink(model)

    # --- links ---------------------------------------------------------------------------------

    def link(self, source: str, target: str) -> Link | None:
        """The direction from one host to another, for the network."""
        a, b = self._by_host.get(source), self._by_host.get(target)
        if a is not None and b is not None:
            if CONTROLLER in (a, b):
                return self._control_link(a, b)
            return self._relay_links.get((a, b))
        if self._clients.get(source) == target or self._clients.get(target) == source:
            return LinkModel(self._access, Random(f"{self.seed}:{source}:{target}"))
        return None

    def _control_link(self, source: str, target: str) -> LinkModel:
        model = self._models.get((source, target))
        if model is None:
            node = target if source == CONTROLLER else source
            conditions = LinkConditions(delay_ms=self.scenario.controller_delay_ms(node))
            model = LinkModel(conditions, Random(f"{self.seed}:{source}:{target}"))
            self._models[source, target] = model
        return model

    def host_names(self) -> dict[str, str]:
        """The whole DNS of the run."""
        return {place.name: place.host for place in self.controllers}

    def add_client(self, host: str, node: str) -> None:
        """A client on *host* speaks to *node* only."""
        self._clients[host] = self.nodes[node].host

    @property
    def access_delay(self) -> float:
        """One way, seconds."""
        return self._access.delay_ms / 1e3

    def set_link(self, action: SetLink, now: float) -> None:
        """Give a directed link other conditions."""
        pair = action.source, action.target
        model = self._control_link(*pair) if CONTROLLER in pair else self._models[pair]
        if CONTROLLER in pair:
            changes = condition_changes(action.conditions, self._folder)
        else:  # whole conditions: what an earlier fault changed and this one does not name is as it was
            whole = link_conditions(action.conditions, self._folder)
            changes = {field.name: getattr(whole, field.name) for field in fields(LinkConditions)}
        model.apply(now, **changes)
        self.link_changes += 1

    def delay_s(self, source: str, target: str) -> float | None:
        """What the link takes now, one way; None: nothing passes, or there is none."""
        model = self._models.get((source, target))
        return None if model is None or model.conditions.down else model.conditions.delay_ms / 1e3

    def relay_totals(self) -> tuple[int, int, int]:
        """(bytes sent into relay links, media datagrams, of those lost), so far."""
        links = self._relay_links.values()
        return sum(k.bytes for k in links), sum(k.media for k in links), sum(k.lost for k in links)

    def relay_links(self) -> list[tuple[str, str]]:
        return list(self._relay_links)

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
        self.link_changes += 1

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
        self.collect(place)
        self.tally.dropped.update(place.node.core.forwarder.dropped)
        place.node = None
        place.duplicates.clear()
        place.scope.cancel()
        network.kill_host(place.host)
        self.link_changes += 1

    def skew_clock(self, action: SkewClock) -> None:
        """Let a node's clock go wrong. One that is wrong from the start was set before the node read it."""
        network, _ = self._running()
        place = self.nodes[action.node]
        assert place.clock is not None, "start() gave one to every node that needs it"
        if action.at_s > 0:
            place.clock.slew(network.now, action.offset_s, action.drift_ppm)
            if place.node is not None:
                place.node.timer.clock_changed()  # type: ignore[attr-defined]  # a NetworkTimer

    def _running(self) -> tuple[Network, trio.Nursery]:
        assert self.network is not None, "start() comes first"
        assert self._nursery is not None, "start() comes first"
        return self.network, self._nursery

    def _make_node(self, place: SimNode, network: Network) -> Node:
        rng = Random(f"{self.seed}:node:{place.name}:{place.boots}")
        media = DirectPort(network, place.host, MEDIA_PORT)
        relay = DirectPort(network, place.host, RELAY_PORT)
        clock = place.clock
        node = Node(
            self._node_settings(place),
            NodePorts(media, relay),
            MediaEndpoint(
                place.host, MEDIA_PORT, self._certificate, ufrag_prefix=f"{name_hash(place.name):016x}"[:6]
            ),
            relay_address=Address(place.host, RELAY_PORT),
            http_url=f"http://{place.host}:{HTTP_PORT}",
            entropy=Entropy(rng, rng.randbytes),
            make_transport=PlainTransport,  # type: ignore[arg-type]  # it has the same face
            clock=trio.current_time if clock is None else lambda: clock.read(network.now),
            make_timer=partial(NetworkTimer, network, clock=clock),  # type: ignore[arg-type]  # likewise
        )
        media.give_to(node.handle_media)
        relay.give_to(node.handle_relay)
        self._count_payload(place, node)
        self._drop_control(place, node)
        return node

    def _count_payload(self, place: SimNode, node: Node) -> None:
        inner = node.core.relay.send

        def send(peer: int, frame: bytes, now: float) -> bool:
            if frame[0] == MEDIA:
                # type, length (2), hop limit, n | n bytes of bit string, generation (4), stream (19),
                # flags, layers, sequence (4), timestamp (4), x | x bytes of extensions | payload
                n = frame[4]
                if not frame[28 + n] & COPY_FLAG:  # it is overhead whole
                    place.payload_hops += len(frame) - 39 - n - frame[38 + n]
            return inner(peer, frame, now)

        node.core.relay.send = send  # type: ignore[method-assign]

    def _drop_control(self, place: SimNode, node: Node) -> None:
        """Lose messages between the channel and the core where a fault says so."""
        offer, handle = node.agent.offer, node.core.handle_message

        def lost() -> bool:
            return place.drop_control > 0 and place.drop_rng.random() < place.drop_control

        def some(messages: list[NodeMessage]) -> None:
            offer([message for message in messages if not lost()] if place.drop_control else messages)

        def maybe(message: ControllerMessage, now: float) -> None:
            if not lost():
                handle(message, now)

        node.agent.offer = some  # type: ignore[method-assign]
        node.core.handle_message = maybe  # type: ignore[method-assign]

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

    # --- counting ------------------------------------------------------------------------------

    def collect(self, place: SimNode) -> None:
        """Take over what the node counted of duplicates since the last call."""
        if place.node is None:
            return
        seen: dict[object, int] = {}
        for stream in place.node.core.streams:
            if stream.source == "relay":
                for encoding in stream.encodings():
                    seen[encoding] = encoding.duplicates
                    self.tally.duplicates += encoding.duplicates - place.duplicates.get(encoding, 0)
        place.duplicates = seen

    def active_generation(self) -> int:
        """The newest generation that a node stamps packets with."""
        return max((p.node.core.tables.active for p in self.nodes.values() if p.node), default=0)

    def totals(self) -> Tally:
        """Everything counted so far, by the living and the dead."""
        dropped = Counter(self.tally.dropped)
        for place in self.nodes.values():
            if place.node is not None:
                self.collect(place)
                dropped.update(place.node.core.forwarder.dropped)
        return Tally(
            loops=dropped["hop_limit"] + dropped["reflected"],
            duplicates=self.tally.duplicates,
            bugs=dropped["bug"],
            payload_hops=sum(place.payload_hops for place in self.nodes.values()),
            dropped=dropped,
        )
