"""The shipping node and controller cores together, in virtual time: no sockets, no processes.

Control messages are encoded, delayed and decoded; relay datagrams take the
delay of the topology's link; clients (tests/node/browser.py) sit at their edge.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from relaymesh.controller.core import ControllerCore, CoreOptions, Disconnect
from relaymesh.controller.policy import TopologyPolicy
from relaymesh.controller.tokens import make_join_token
from relaymesh.node.core import NodeCore
from relaymesh.node.events import SubscribeAnswered
from relaymesh.protocol.frames import MEDIA
from relaymesh.protocol.messages import (
    CONTROL_VERSION,
    Address,
    Join,
    ParticipantName,
    Refused,
    decode_controller_message,
    decode_node_message,
    encode_message,
)
from relaymesh.topology import Topology
from tests.node.browser import Browser, exchange, offer_text
from tests.node.mesh import count_frames, make_core

SECRET = "a join secret that is long enough for HS256"
CONTROL_DELAY = 0.005


@dataclass
class Joined:
    """One node, its channel and what happened to it."""

    name: str
    core: NodeCore
    host: str
    alive: bool = True
    channel: int | None = None
    refused: Refused | None = None
    boot: int = 0


@dataclass
class WholeMesh:
    """A topology's nodes around a controller; ``cut`` names directed pairs whose datagrams are lost."""

    topology: Topology
    seed: int = 1
    loss: float = 0.0
    now: float = 1000.0
    nodes: dict[str, Joined] = field(default_factory=dict)
    browsers: list[tuple[str, Browser]] = field(default_factory=list)
    cut: set[tuple[str, str]] = field(default_factory=set)
    sent: Counter[tuple[str, int, int]] = field(default_factory=Counter)  # frames, by (from, to, type)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._stalled: dict[str, list[bytes]] = {}  # datagrams that wait in the socket of a node that does
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._channels = itertools.count(1)
        self.controller: ControllerCore | None = None
        self.start_controller()

    # --- processes -----------------------------------------------------------------------------

    def start_controller(self) -> None:
        self.controller = ControllerCore(
            CoreOptions(SECRET),
            TopologyPolicy(self.topology),
            key_source=self._rng.randbytes,
            unix_time=lambda: 1_800_000_000.0,
        )
        for node in self.nodes.values():
            node.channel = None
            if node.alive:
                self.join(node.name)

    def stop_controller(self) -> None:
        self.controller = None
        for node in self.nodes.values():
            node.channel = None
            node.core.handle_disconnected()

    def start_node(self, name: str, region: str | None = None) -> Joined:
        before = self.nodes.get(name)
        number = len(self.nodes) + 1 if before is None else int(before.host.rsplit(".", 1)[1])
        core = make_core(number, now=self.now)
        count_frames(core, name, self.sent)
        node = self.nodes[name] = Joined(
            name, core, f"10.0.0.{number}", boot=(before.boot + 1) if before else 0
        )
        self._regions = getattr(self, "_regions", {})
        self._regions[name] = region or name
        self.join(name)
        return node

    def join(self, name: str) -> None:
        node = self.nodes[name]
        token = make_join_token(SECRET, name=name)
        channel = node.channel = next(self._channels)
        message = Join(
            CONTROL_VERSION,
            name,
            self._regions[name],
            token,
            f"boot-{name}-{node.boot}",
            Address(node.host, 7500),
            f"http://{node.host}",
            **node.core.join_state(),  # type: ignore[arg-type]
        )
        data = encode_message(message)
        self._after(CONTROL_DELAY, lambda: self._controller_hears(channel, data))

    def kill(self, name: str) -> None:
        """SIGKILL: its channel breaks, its datagrams stop."""
        node = self.nodes[name]
        node.alive = False
        channel, node.channel = node.channel, None
        if self.controller is not None and channel is not None:
            self.controller.handle_disconnect(channel, self.now)

    def stall(self, name: str) -> None:
        """Its process is stopped: datagrams wait in its socket, and its timer does not run."""
        self._stalled[name] = []

    def go_on(self, name: str) -> None:
        """The process runs again, and takes what waited."""
        for data in self._stalled.pop(name):
            self.nodes[name].core.handle_relay_datagram(data, self.now)

    # --- clients -------------------------------------------------------------------------------

    def publish(
        self, at: str, name: ParticipantName, offer: str = "chromium-whip", *, credential: bytes = b""
    ) -> Browser:
        browser = Browser(("198.51.100.1", 5000 + len(self.browsers)))
        core = self.nodes[at].core
        session, answer = core.publish(
            name, offer_text(offer), ("VP8", "H264"), self.now, credential=credential
        )
        assert session.publication is not None
        core.directory.announce(session.publication)
        browser.accept(answer)
        self.browsers.append((at, browser))
        browser.connect(core, self.now)
        return browser

    def play(self, at: str, name: ParticipantName, offer: str = "chromium-whep") -> Browser | None:
        """``None`` when nobody publishes it."""
        core = self.nodes[at].core
        if core.directory.find(name) is None:
            request = core.directory.subscribe(name)
            answered: list[SubscribeAnswered] = []
            for _ in range(200):
                self.run(0.01)
                events = core.poll_events()
                answered += [e for e in events if isinstance(e, SubscribeAnswered) and e.request == request]
                if answered:
                    break
            if not answered or not answered[0].found:
                return None
        publication = core.directory.find(name)
        assert publication is not None
        browser = Browser(("198.51.100.2", 6000 + len(self.browsers)))
        _, answer = core.play(publication, offer_text(offer), self.now)
        browser.accept(answer)
        self.browsers.append((at, browser))
        browser.connect(core, self.now)
        return browser

    # --- time ----------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        for _ in range(2_000_000):
            self._drain()
            at = max(self.now, self._next_event())
            if at > end:
                self.now = end
                return
            self.now = at
            while self._queue and self._queue[0][0] <= self.now:
                heapq.heappop(self._queue)[2]()
            self._timeouts()
        raise AssertionError("the mesh never came to rest")

    def media(self, name: str) -> int:
        """MEDIA frames that this node sent to its neighbours so far."""
        return sum(count for (by, _, kind), count in self.sent.items() if by == name and kind == MEDIA)

    def run_until(self, done: Callable[[], bool], seconds: float) -> float:
        """Virtual seconds it took."""
        start = self.now
        while not done():
            assert self.now - start < seconds, f"not within {seconds} s"
            self.run(0.01)
        return self.now - start

    def _next_event(self) -> float:
        times = [t for n in self._running() if (t := n.core.next_timeout()) is not None]
        if self.controller is not None and (t := self.controller.next_timeout()) is not None:
            times.append(t)
        if self._queue:
            times.append(self._queue[0][0])
        return min(times)

    def _timeouts(self) -> None:
        for node in self._running():
            timeout = node.core.next_timeout()
            if timeout is not None and timeout <= self.now:
                node.core.handle_timeout(self.now)
        if self.controller is not None:
            timeout = self.controller.next_timeout()
            if timeout is not None and timeout <= self.now:
                self.controller.handle_timeout(self.now)

    def _running(self) -> list[Joined]:
        return [node for node in self.nodes.values() if node.alive and node.name not in self._stalled]

    def _after(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + delay, next(self._order), action))

    def _drain(self) -> None:
        for node in self.nodes.values():
            messages, datagrams = node.core.poll_messages(), node.core.poll_relay_datagrams()
            if not node.alive:
                continue
            if node.channel is not None:
                for message in messages:
                    data, channel = encode_message(message), node.channel
                    self._after(CONTROL_DELAY, lambda c=channel, d=data: self._controller_hears(c, d))
            for data, address in datagrams:
                self._carry(node, data, address[0])
            exchange(node.core, self.now, *(b for at, b in self.browsers if at == node.name))
        if self.controller is not None:
            for channel, message in self.controller.poll_outgoing():
                if not isinstance(message, Disconnect):
                    data = encode_message(message)
                    self._after(CONTROL_DELAY, lambda c=channel, d=data: self._node_hears(c, d))

    def _carry(self, source: Joined, data: bytes, host: str) -> None:
        target = next(n for n in self.nodes.values() if n.host == host)
        link = self.topology.link(self._regions[source.name], self._regions[target.name])
        assert link is not None, "only pairs that may peer have a link"
        if (source.name, target.name) in self.cut or self._rng.random() < self.loss:
            return
        self._after(link.delay_ms / 1e3, lambda: self._relay_arrives(target, data))

    def _relay_arrives(self, target: Joined, data: bytes) -> None:
        if target.name in self._stalled:
            self._stalled[target.name].append(data)
        elif target.alive:
            target.core.handle_relay_datagram(data, self.now)

    def _controller_hears(self, channel: int, data: bytes) -> None:
        if self.controller is None:
            return
        message = decode_node_message(data)
        if isinstance(message, Join):
            self.controller.handle_join(channel, message, self.now)
        else:
            self.controller.handle_message(channel, message, self.now)

    def _node_hears(self, channel: int, data: bytes) -> None:
        node = next((n for n in self.nodes.values() if n.channel == channel and n.alive), None)
        if node is None:
            return
        message = decode_controller_message(data)
        if isinstance(message, Refused):
            node.refused = node.refused or message
        else:
            node.core.handle_message(message, self.now)
