"""A controller core and fake nodes in virtual time: nothing is real but the core.

A fake node does what a node does on the control channel: it holds links, tables
and forwards, answers, reports, and announces its state when it comes back. Its
link to another is up when the emulated wire says so and both hold matching
keys. Packets are not sent; :meth:`FakeMesh.route` walks the tables they would
be sent by.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from relaymesh.controller.core import ControllerCore, CoreEvent, CoreOptions, Disconnect
from relaymesh.controller.policy import MeshPolicy, OpenMesh
from relaymesh.controller.tokens import make_join_token
from relaymesh.protocol.bitstring import decode_set, members
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.messages import (
    CONTROL_VERSION,
    Activate,
    Address,
    Close,
    ControllerMessage,
    Delta,
    Forward,
    Join,
    LinkConfig,
    LinkReport,
    Links,
    NodeMessage,
    ParticipantName,
    PublicationEnded,
    PublicationInfo,
    PublicationMoved,
    PublishReply,
    Refused,
    Report,
    SiteInfo,
    Snapshot,
    SnapshotWanted,
    SubscribeReply,
    TablesHeld,
    Welcome,
    decode_controller_message,
    decode_node_message,
    encode_message,
)
from tests.controller.node_tables import Table, from_snapshot, with_delta
from tests.controller.reports import down, up

SECRET = "a join secret for tests, long enough"
REPORT_S = 0.5
DEAD_AFTER_S = 0.6


@dataclass
class FakeNode:
    """The control side of one node."""

    name: str
    region: str
    site: SiteInfo | None = None
    boot: int = 1
    index: int | None = None
    conn_id: int | None = None
    running: bool = True
    answers: bool = True  # says which tables it holds
    sends_reports: bool = True
    links: dict[int, LinkConfig] = field(default_factory=dict)
    tables: dict[int, Table] = field(default_factory=dict)  # by generation
    active: int = 0
    forwards: dict[ParticipantName, list[int]] = field(default_factory=dict)
    forward_log: list[Forward] = field(default_factory=list)
    published: dict[ParticipantName, PublicationInfo] = field(default_factory=dict)
    subscribed: set[ParticipantName] = field(default_factory=set)
    heard: list[ControllerMessage] = field(default_factory=list)

    def join(self, token: str) -> Join:
        return Join(
            CONTROL_VERSION,
            self.name,
            self.region,
            token,
            f"{self.name}-boot-{self.boot}",
            Address("10.0.0.1", 4000 + len(self.name)),
            f"http://{self.name}.example:8000",
            self.index,
            self.active,
            tuple(self.published.values()),
            tuple(sorted(self.subscribed, key=lambda name: (name.room, name.participant))),
            site=self.site,
        )

    def reboot(self) -> None:
        """The process ends and another starts: nothing is remembered."""
        self.boot += 1
        self.index, self.active = None, 0
        for state in (self.links, self.tables, self.forwards, self.published, self.subscribed):
            state.clear()

    def handle(self, message: ControllerMessage) -> list[NodeMessage]:
        self.heard.append(message)
        match message:
            case Welcome():
                self.index = message.index
            case Links():
                for peer in message.remove:
                    self.links.pop(peer, None)
                self.links |= {config.peer: config for config in message.set}
            case Snapshot():
                self.tables[message.generation] = from_snapshot(message)
                return self._held(message.generation)
            case Delta():
                if message.base not in self.tables:
                    return [SnapshotWanted()]
                self.tables[message.generation] = with_delta(self.tables[message.base], message)
                return self._held(message.generation)
            case Activate():
                assert message.generation in self.tables or not self.answers
                assert message.generation >= self.active, "generations never go back"
                self.active = message.generation
            case Forward():
                self.forwards[message.participant] = members(decode_set(message.edges))
                self.forward_log.append(message)
            case PublicationEnded():
                self.subscribed.discard(message.participant)
            case Close():
                self.published.pop(message.participant, None)
            case PublishReply() | SubscribeReply() | PublicationMoved() | Refused():
                pass
        return []

    def said(self, kind: type[ControllerMessage]) -> list[ControllerMessage]:
        """What of this kind the controller said so far."""
        return [message for message in self.heard if isinstance(message, kind)]

    def _held(self, generation: int) -> list[NodeMessage]:
        return [TablesHeld(generation)] if self.answers else []


class FakeMesh:
    """One core, its nodes, the wires between them, and the time."""

    def __init__(
        self, *, policy: MeshPolicy | None = None, seed: int = 1, unix_time: float = 1e9, **options: float
    ) -> None:
        self.policy: MeshPolicy = policy or OpenMesh()
        self.options = CoreOptions(SECRET, **options)  # type: ignore[arg-type]
        self.unix_time = unix_time
        self.rng = random.Random(seed)
        self.now = 100.0
        self.nodes: dict[str, FakeNode] = {}
        self.events: list[CoreEvent] = []
        self.closed: dict[int, str] = {}  # channels the core closed, and why
        self.trace: list[tuple[float, int, bytes]] = []
        self._wires: dict[frozenset[str], float] = {}  # rtt_ms of what is connected
        self._down_since: dict[frozenset[str], float] = {}
        self._next_conn = 1
        self._next_report = self.now
        self.core = self._new_core()

    # --- what happens to the mesh --------------------------------------------------------------

    def add(
        self, name: str, region: str = "here", *, connect: bool = True, site: SiteInfo | None = None
    ) -> FakeNode:
        node = self.nodes[name] = FakeNode(name, region, site)
        if connect:
            self.connect(name)
        return node

    def wire(self, one: str, other: str, rtt_ms: float | None) -> None:
        """Put a wire between two nodes, or cut it (None)."""
        ends = frozenset((one, other))
        if rtt_ms is None:
            self._wires.pop(ends, None)
            self._down_since[ends] = self.now
        else:
            self._wires[ends] = rtt_ms

    def connect(self, name: str, token: str | None = None) -> int:
        """Open a control channel for the node and join; the channel's number."""
        node = self.nodes[name]
        conn_id = self.channel()
        node.conn_id = conn_id
        self.say(conn_id, node.join(make_join_token(SECRET, name=name) if token is None else token))
        return conn_id

    def channel(self) -> int:
        """The number of a fresh channel, on which nobody has spoken yet."""
        self._next_conn += 1
        return self._next_conn

    def disconnect(self, name: str) -> None:
        node = self.nodes[name]
        assert node.conn_id is not None
        conn_id, node.conn_id = node.conn_id, None
        self.core.handle_disconnect(conn_id, self.now)
        self._deliver()

    def kill(self, name: str) -> None:
        """The process is gone; the kernel closes its channel."""
        node = self.nodes[name]
        node.running = False
        for other in self.nodes:
            self._down_since[frozenset((name, other))] = self.now
        if node.conn_id is not None:
            self.disconnect(name)

    def restart(self, name: str) -> None:
        self.nodes[name].reboot()
        self.nodes[name].running = True
        self.connect(name)

    def restart_controller(self) -> None:
        """The controller is killed and started again; nodes must connect() by themselves."""
        for node in self.nodes.values():
            node.conn_id = None
        self.core = self._new_core()

    def say(self, conn_id: int, message: NodeMessage) -> None:
        """A message on a channel, over the real encoding."""
        self.core.handle_message(conn_id, decode_node_message(encode_message(message)), self.now)
        self._deliver()

    def garble(self, name: str) -> None:
        """The node's channel carries what is no message."""
        conn_id = self.nodes[name].conn_id
        assert conn_id is not None
        self.core.handle_malformed(conn_id, ProtocolError("malformed", "x" * 5000), self.now)
        self._deliver()

    def tell(self, name: str, message: NodeMessage) -> None:
        conn_id = self.nodes[name].conn_id
        assert conn_id is not None
        self.say(conn_id, message)

    def run(self, seconds: float) -> None:
        """Let virtual time pass."""
        end = self.now + seconds
        for _ in range(100_000):
            due = self.core.next_timeout()
            self.now = max(self.now, min(end, self._next_report, end if due is None else due))
            if due is not None and self.now >= due:
                self.core.handle_timeout(self.now)
                self._deliver()
            if self.now >= self._next_report:
                self._next_report += REPORT_S
                self.report()
            elif self.now >= end:
                return
        raise AssertionError("the core asks for timeouts without end")

    def report(self) -> None:
        """Every node that can reports its links."""
        for node in list(self.nodes.values()):
            if node.running and node.conn_id is not None and node.sends_reports:
                self.tell(node.name, Report(tuple(self._measure(node, peer) for peer in sorted(node.links))))

    # --- what one sees -------------------------------------------------------------------------

    def route(self, start: str, end: str) -> list[str] | None:
        """The nodes a packet would visit now; None when it would not arrive."""
        generation = self.nodes[start].active
        path = [start]
        target = self.nodes[end].index
        while path[-1] != end:
            here = self.nodes[path[-1]]
            hop = here.tables.get(generation, {}).get(-1 if target is None else target)
            names = [name for name, node in self.nodes.items() if node.index == hop and node.running]
            if hop is None or len(names) != 1 or names[0] in path or not self._is_up(here.name, names[0]):
                return None
            path.append(names[0])
        return path

    def has_wire(self, one: str, other: str) -> bool:
        return frozenset((one, other)) in self._wires

    # --- inside --------------------------------------------------------------------------------

    def _new_core(self) -> ControllerCore:
        return ControllerCore(
            self.options, self.policy, key_source=self.rng.randbytes, unix_time=lambda: self.unix_time
        )

    def _deliver(self) -> None:
        for _ in range(10_000):
            outgoing = self.core.poll_outgoing()
            self.events += self.core.poll_events()
            if not outgoing:
                return
            for conn_id, message in outgoing:
                self._deliver_one(conn_id, message)
        raise AssertionError("the core and the nodes talk without end")

    def _deliver_one(self, conn_id: int, message: ControllerMessage | Disconnect) -> None:
        owner = next((node for node in self.nodes.values() if node.conn_id == conn_id), None)
        if isinstance(message, Disconnect):
            self.closed[conn_id] = message.reason
            if owner is not None:
                owner.conn_id = None
            return
        encoded = encode_message(message)
        self.trace.append((self.now, conn_id, encoded))
        decoded = decode_controller_message(encoded)
        if owner is not None:
            for answer in owner.handle(decoded):
                self.core.handle_message(conn_id, answer, self.now)

    def _measure(self, node: FakeNode, peer: int) -> LinkReport:
        name = node.links[peer].name
        if name not in self.nodes or not self._seems_up(node.name, name):
            return down(peer)
        return up(peer, self._wires.get(frozenset((node.name, name)), 0.0))

    def _is_up(self, one: str, other: str) -> bool:
        a, b = self.nodes[one], self.nodes[other]
        if a.index is None or b.index is None or frozenset((one, other)) not in self._wires:
            return False
        there, back = a.links.get(b.index), b.links.get(a.index)
        if there is None or back is None or not (a.running and b.running):
            return False
        return there.send_key == back.receive_key and there.receive_key == back.send_key

    def _seems_up(self, one: str, other: str) -> bool:
        """What the probes say: a dead link is noticed only after a while."""
        ends = frozenset((one, other))
        if self._is_up(one, other):
            return True
        return self.now - self._down_since.get(ends, -1e9) < DEAD_AFTER_S
