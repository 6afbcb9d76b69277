"""A scenario as a runner uses it: names resolved, groups expanded, faults turned into a timeline.

In: a :class:`~relaymesh.netsim.scenario.file.ScenarioFile` without problems and its topology. Out:
:class:`Scenario`, a pure description: every participant with its edge node, the base conditions of every
directed link, and the timeline of changes. It knows no clock and runs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from relaymesh.netsim.scenario.conditions import Conditions, Direction
from relaymesh.netsim.scenario.expectations import Expectation, ExpectedFail
from relaymesh.netsim.scenario.faults import Fault
from relaymesh.netsim.scenario.file import ScenarioFile, Settings
from relaymesh.netsim.scenario.traffic import (
    AudioTrack,
    GroupEntry,
    ParticipantAccess,
    ParticipantEntry,
    Track,
    VideoTrack,
)
from relaymesh.topology import Topology, best_paths_from


@dataclass(frozen=True, slots=True)
class Participant:
    """One participant, resolved."""

    room: str
    name: str
    node: str  # its edge
    publish: tuple[AudioTrack | VideoTrack, ...]
    play: tuple[str, ...]  # participants of its room; those who come later included
    join_s: float  # seconds from the start of the run
    leave_s: float | None
    access: ParticipantAccess | None = None  # its own access link, where it is not as everybody's
    is_limited: bool = False  # whether its access link ever has a rate


@dataclass(frozen=True)
class Scenario:
    """One scenario file, understood."""

    path: Path  # of the file
    file: ScenarioFile  # as it is written, overrides included
    topology: Topology
    topology_text: str  # as YAML or JSON, for processes that read it from a file
    overrides: tuple[tuple[str, str], ...] = ()  # --set key=value, as given

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def title(self) -> str:
        return self.file.title or self.file.name

    @property
    def duration_s(self) -> float:
        return self.file.duration_s

    @property
    def warmup_s(self) -> float:
        return self.file.warmup_s

    @property
    def seed(self) -> int:
        return self.file.seed

    @property
    def settings(self) -> Settings:
        return self.file.settings

    @property
    def faults(self) -> list[Fault]:
        return self.file.faults

    @property
    def expect(self) -> list[Expectation]:
        return self.file.expect

    @property
    def expected_fail(self) -> ExpectedFail | None:
        return self.file.expected_fail

    @property
    def access(self) -> dict[str, Any]:
        """Conditions of client–edge links, as keywords of ``LinkConditions``."""
        return self.file.access.changes()

    def access_of(self, participant: Participant) -> dict[str, Any]:
        """Conditions of the participant's access link at the start, likewise."""
        own = participant.access.changes() if participant.access is not None else {}
        given = {**self.access, **own}
        if "rate_bps" in own:
            given.pop("trace", None)
        return given

    def access_delay_s(self, participant: Participant) -> float:
        """One way, seconds."""
        return float(self.access_of(participant).get("delay_ms", 0.0)) / 1e3

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """All nodes by name, in the topology's order."""
        return tuple(node.name for node in self.topology.node_list())

    def nodes_at(self, name: str) -> tuple[str, ...]:
        """The node called *name*, or the nodes of the region called so; its node's name goes first."""
        if name in self.nodes and not any(region.name == name for region in self.topology.regions):
            return (name,)
        return tuple(node.name for node in self.topology.node_list() if name in (node.region, node.name))

    @cached_property
    def controller_node(self) -> str:
        """The node beside which the controller stands."""
        at = self.file.controller
        return self.nodes_at(at.at if at else self.topology.regions[0].name)[0]

    @property
    def standbys(self) -> int:
        """How many controllers there are beside the first."""
        return self.file.controller.standbys if self.file.controller else 0

    def controller_delay_ms(self, node: str) -> float:
        """One-way delay between the controller and *node*: the best path through the topology,
        and a local hop, milliseconds."""
        return self._controller_delays.get(node, 100.0)

    @cached_property
    def _controller_delays(self) -> dict[str, float]:
        delays = {self.controller_node: 0.25}
        for target, best in best_paths_from(self.topology, self.controller_node).items():
            links = [self.topology.link(a, b) for a, b in pairwise(best.nodes)]
            delays[target] = 0.25 + sum(link.delay_ms for link in links if link is not None)
        return delays

    @cached_property
    def participants(self) -> tuple[Participant, ...]:
        """Everybody, in the file's order, groups expanded."""
        return tuple(_expanded(self))

    def conditions(self, source: str, target: str) -> dict[str, Any] | None:
        """What the link from node *source* to node *target* is like before any fault: keywords of
        ``LinkConditions`` (``burst`` as in :mod:`conditions`); None where they may not peer."""
        link = self.topology.link(source, target)
        if link is None:
            return None
        given: dict[str, Any] = {"delay_ms": link.delay_ms, "jitter_ms": link.jitter_ms, "loss": link.loss}
        if link.capacity_mbps is not None:
            given["rate_bps"] = link.capacity_mbps * 1e6
        for override in self.file.links:
            if (source, target) in self.directed(override.between, override.direction):
                given.update(override.changes())
        return given

    def directed(self, between: list[str], direction: Direction = "both") -> list[tuple[str, str]]:
        """The directed links between nodes that a pair of nodes or regions names."""
        firsts, seconds = (self.nodes_at(name) for name in between)
        pairs = [(a, b) for a in firsts for b in seconds if a != b and self.topology.link(a, b) is not None]
        forward = pairs if direction != "backward" else []
        backward = [(b, a) for a, b in pairs] if direction != "forward" else []
        return forward + backward


def _expanded(scenario: Scenario) -> list[Participant]:
    turns: dict[str, int] = {}  # region → participants placed so far
    everybody: list[Participant] = []
    for room in scenario.file.traffic.rooms:
        entries = [single for entry in room.participants for single in _singles(entry)]
        publishers = [entry.name for entry in entries if entry.publish]
        for entry in entries:
            nodes = scenario.nodes_at(entry.at)
            edges = [n for n in nodes if "edge" in scenario.topology.node(n).roles] or list(nodes)
            turn = turns[entry.at] = turns.get(entry.at, -1) + 1
            wanted = publishers if entry.play == "all" else [] if entry.play == "none" else entry.play
            everybody.append(
                Participant(
                    room=room.name,
                    name=entry.name,
                    node=edges[turn % len(edges)],
                    publish=tuple(_track(track) for track in entry.publish),
                    play=tuple(name for name in wanted if name != entry.name),
                    join_s=entry.join_s,
                    leave_s=entry.leave_s,
                    access=entry.access,
                    is_limited=_is_limited(scenario, entry.access),
                )
            )
    return everybody


def _is_limited(scenario: Scenario, own: ParticipantAccess | None) -> bool:
    if own is not None and (own.rate_kbps is not None or own.steps):
        return True
    return not scenario.access.keys().isdisjoint(("rate_bps", "trace"))


def _track(track: Track) -> AudioTrack | VideoTrack:
    if isinstance(track, str):
        return AudioTrack(kind="audio") if track == "audio" else VideoTrack(kind="video")
    return track


def _singles(entry: ParticipantEntry | GroupEntry) -> list[ParticipantEntry]:
    if isinstance(entry, ParticipantEntry):
        return [entry]
    start, end = (entry.join.from_s, entry.join.to_s) if entry.join else (0.0, 0.0)
    step = (end - start) / entry.count
    return [
        ParticipantEntry(
            name=f"{entry.prefix}-{index + 1}",
            at=entry.at[index % len(entry.at)],
            publish=entry.publish,
            play=entry.play,
            join_s=start + index * step,
            leave_s=entry.leave_s,
            access=entry.access,
        )
        for index in range(entry.count)
    ]


__all__ = ["Conditions", "Participant", "Scenario"]
