"""The controller and the nodes of an emulation: processes that can be killed and started again, and watched.

In: a plan and the world it stands in. Out: running processes, links that can be
changed, and what can be counted of all that, with the face of the simulated mesh
(:class:`~relaymesh.netsim.mesh.SimMesh`), so that the same code measures both.

What the simulation reads from the nodes' memory is asked here of their
``/status`` and of the controller's ``/v1/state``, over sockets inside their own
namespaces, past the emulated links.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import trio

from relaymesh.controller.tokens import make_join_token, new_join_secret
from relaymesh.netsim.conditions import link_conditions
from relaymesh.netsim.emulate.certificates import write_certificate
from relaymesh.netsim.emulate.emulator import Counters
from relaymesh.netsim.emulate.netem_world import NetemWorld
from relaymesh.netsim.emulate.plan import API_PORT, HTTP_PORT, LOOPBACK, EmulationPlan
from relaymesh.netsim.emulate.processes import Child, end_all, go_first, last_words
from relaymesh.netsim.emulate.requests import RequestError, request
from relaymesh.netsim.emulate.world import World
from relaymesh.netsim.link_model import UDP_OVERHEAD_BYTES, LinkConditions
from relaymesh.netsim.scenario.strict import CONTROLLER
from relaymesh.netsim.scenario.timeline import (
    Action,
    CrashController,
    CrashNode,
    SetAccess,
    SetLink,
    StartController,
    StartNode,
)
from relaymesh.netsim.tally import Tally
from relaymesh.protocol.datagram import SHORT_HEADER_BYTES, TAG_BYTES
from relaymesh.protocol.frames.compact import FULL_BYTES

READY_WITHIN_S = 60.0  # ten nodes on two processors take about twenty
POLL_S = 0.25  # between looks at the controller
STATUS_S = 1.0  # between looks at the nodes
ASK_WITHIN_S = 2.0
# Of an IP packet with one media frame of a known context; synthetic media has no header extensions.
MEDIA_OVERHEAD_BYTES = UDP_OVERHEAD_BYTES + SHORT_HEADER_BYTES + TAG_BYTES + FULL_BYTES


class NotReady(Exception):
    """The mesh did not come up; the text says what was missing and what the processes said."""


@dataclass(slots=True)
class EmulatedNode:
    """One node's process; ``node`` is None while it is dead."""

    name: str
    child: Child
    boots: int = 0
    node: Child | None = None


class EmulatedMesh:
    """All processes of RelayMesh, and the links between the nodes."""

    def __init__(self, plan: EmulationPlan, world: World | NetemWorld, folder: Path) -> None:
        """*folder*: where their files are written."""
        self.scenario = plan.scenario
        self.link_changes = 0  # rises with each change of a link, a crash, a start
        self.state: dict[str, Any] = {}  # what the controller said last
        self.rtts: list[tuple[str, str, float]] = []  # from, to, ms: of the last look at the nodes
        self._first = False  # whether the processes go before others
        self._plan = plan
        self._world = world
        self._conditions: dict[tuple[str, str], LinkConditions] = {}
        self._traces = plan.scenario.path.parent
        secret = new_join_secret()
        (folder / "topology.yaml").write_text(plan.scenario.topology_text)
        write_certificate(plan.controller_address, folder / "cert.pem", folder / "key.pem")
        children = world.state
        self.controller = Child(
            plan.controller_command(folder, secret), world.namespaces[CONTROLLER], children
        )
        self.nodes: dict[str, EmulatedNode] = {}
        for name in plan.scenario.nodes:
            token = make_join_token(secret, name=name, region=plan.region_of(name))
            command = plan.node_command(name, folder, token)
            self.nodes[name] = EmulatedNode(name, Child(command, world.namespaces[name], children))
            for other in plan.scenario.nodes:
                given = plan.scenario.conditions(name, other) if other != name else None
                if given is not None:
                    self._conditions[name, other] = link_conditions(given, self._traces)
        self._dropped: dict[tuple[str, int], Counter[str]] = {}  # node and boot → what it counted
        self._duplicates: dict[tuple[str, int], int] = {}
        self._address_names = {address: name for name, address in plan.node_address.items()}

    # --- the face of a mesh ------------------------------------------------------------------------

    def delay_s(self, source: str, target: str) -> float | None:
        """What the link takes now, one way; None: nothing passes, or there is none."""
        conditions = self._conditions.get((source, target))
        return None if conditions is None or conditions.down else conditions.delay_ms / 1e3

    def relay_links(self) -> list[tuple[str, str]]:
        return list(self._conditions)

    def _relay_counters(self) -> list[Counters]:
        names = self._address_names
        wires: dict[tuple[str, str], Counters] = self._world.stats()["wires"]
        return [counters for (a, b), counters in wires.items() if a in names and b in names]

    def relay_totals(self) -> tuple[int, int, int]:
        """(bytes sent into relay links, packets with media, of those lost), so far."""
        found = self._relay_counters()
        return sum(c.bytes_in for c in found), sum(c.media for c in found), sum(c.media_lost for c in found)

    def active_generation(self) -> int:
        """The generation that packets are stamped with, as the controller last said."""
        return int(self.state.get("active_generation", 0))

    def totals(self) -> Tally:
        """Everything counted so far, by the living and the dead, as of the last look at them."""
        dropped: Counter[str] = sum(self._dropped.values(), Counter())
        return Tally(
            loops=dropped["hop_limit"] + dropped["reflected"],
            duplicates=sum(self._duplicates.values()),
            bugs=dropped["bug"],
            payload_hops=sum(c.media_bytes - c.media * MEDIA_OVERHEAD_BYTES for c in self._relay_counters()),
            dropped=dropped,
        )

    # --- processes ------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start everything, and return when all nodes are there and all links are up.

        Raises:
            NotReady: that took too long.
            ChildDied: one of them ended.
        """
        self.controller.start()
        with trio.move_on_after(READY_WITHIN_S):
            while not await self._ask_controller():
                self.check()
                await trio.sleep(0.1)
            for place in self.nodes.values():
                self._start(place)
            self._world.tell_children()
            while not (await self._ask_controller() and self._complete()):
                self.check()
                await trio.sleep(0.1)
            return
        raise NotReady(f"after {READY_WITHIN_S:.0f} s: {self._missing()}{last_words(self.controller.log)}")

    def _start(self, place: EmulatedNode) -> None:
        place.child.start()
        place.boots += 1
        place.node = place.child
        self.link_changes += 1

    def _complete(self) -> bool:
        connected = {node["name"] for node in self.state.get("nodes", []) if node["connected"]}
        up = {(link["from"], link["to"]) for link in self.state.get("links", []) if link["up"]}
        wanted = {pair for pair, conditions in self._conditions.items() if not conditions.down}
        return connected >= self.nodes.keys() and up >= wanted

    def _missing(self) -> str:
        connected = {node["name"] for node in self.state.get("nodes", []) if node["connected"]}
        missing = self.nodes.keys() - connected
        if missing:
            return f"not connected: {', '.join(sorted(missing))}"
        return "links are missing"

    def check(self) -> None:
        """Raises :class:`ChildDied` when a process has ended that nobody had killed."""
        for child in self.children():
            child.check()

    def go_first(self) -> None:
        """From now on the processes, and this one, go before what else this machine does.

        Those that are started again do so once they answer.
        """
        self._first = True
        go_first()
        for child in self.children():
            child.go_first()

    def children(self) -> list[Child]:
        return [self.controller, *(place.child for place in self.nodes.values())]

    async def stop(self) -> None:
        """End all processes, the controller last."""
        await end_all([place.child for place in self.nodes.values()])
        await end_all([self.controller])

    def do(self, action: Action) -> None:
        """What a fault asks for. Raises ``TypeError`` for what cannot be done to a real process."""
        match action:
            case SetLink():
                self._set_link(action)
            case SetAccess():
                self._set_access(action)
            case CrashNode(node=name):
                self.nodes[name].child.crash()
                self.nodes[name].node = None
                self.link_changes += 1
            case StartNode(node=name):
                self._start(self.nodes[name])
                self._world.tell_children()
            case CrashController():
                self.controller.crash()
            case StartController():
                self.controller.start()
                self._world.tell_children()
            case _:
                raise TypeError(f"{type(action).__name__} cannot be emulated")

    def _set_link(self, action: SetLink) -> None:
        pair = action.source, action.target
        if CONTROLLER in pair:
            node = action.target if action.source == CONTROLLER else action.source
            base: dict[str, Any] = {"delay_ms": self.scenario.controller_delay_ms(node)}
            conditions = link_conditions({**base, **action.conditions}, self._traces)
        else:
            conditions = self._conditions[pair] = link_conditions(action.conditions, self._traces)
        self._world.set_link(self._plan.address(pair[0]), self._plan.address(pair[1]), conditions)
        self.link_changes += 1

    def _set_access(self, action: SetAccess) -> None:
        given = link_conditions(self.scenario.access_of(action.participant), self._traces)
        conditions = replace(given, rate_bps=action.rate_bps, trace=None)
        mine = self._plan.address_of(action.participant)
        edge = self._plan.node_address[action.participant.node]
        self._world.set_link(mine, edge, conditions)
        self._world.set_link(edge, mine, conditions)

    # --- looking at them ------------------------------------------------------------------------

    async def watch(self) -> None:
        """Look at all processes, again and again; cancel it. Raises :class:`ChildDied`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_controller)
            for place in self.nodes.values():
                nursery.start_soon(self._watch_node, place)

    async def _watch_controller(self) -> None:
        while True:
            self.check()
            await self._ask_controller()
            await trio.sleep(POLL_S)

    async def _ask_controller(self) -> bool:
        """Whether it said how things are."""
        try:
            namespace = self._world.namespaces[CONTROLLER]
            answer = await request(namespace, (LOOPBACK, API_PORT), "GET", "/v1/state", within=ASK_WITHIN_S)
            if answer.status != 200:
                return False
            self.state = answer.json()
        except (RequestError, ValueError):
            return False
        if self._first:
            self.controller.go_first()
        return True

    async def _watch_node(self, place: EmulatedNode) -> None:
        while True:
            await trio.sleep(STATUS_S)
            if place.node is not None:
                await self.look_at(place)

    async def look_at(self, place: EmulatedNode) -> None:
        """Take over what a node says of itself, if it answers."""
        boot = place.name, place.boots
        try:
            answer = await request(
                self._world.namespaces[place.name],
                (LOOPBACK, HTTP_PORT),
                "GET",
                "/status",
                within=ASK_WITHIN_S,
            )
            status = answer.json()
        except (RequestError, ValueError):
            return
        if self._first:
            place.child.go_first()
        self._dropped[boot] = Counter(status["counters"]["dropped"])
        # A stream that is over takes its count with it: the most that was seen is what counts.
        duplicates = sum(s["duplicates"] for s in status["publications"] if s["source"] == "relay")
        self._duplicates[boot] = max(duplicates, self._duplicates.get(boot, 0))
        self.rtts = [rtt for rtt in self.rtts if rtt[0] != place.name]
        self.rtts += [
            (place.name, link["peer"], link["rtt_ms"])
            for link in status["links"]
            if link["up"] and link["rtt_ms"]
        ]

    async def look_at_all(self) -> None:
        """Once more, before they are ended."""
        for place in self.nodes.values():
            if place.node is not None:
                await self.look_at(place)
