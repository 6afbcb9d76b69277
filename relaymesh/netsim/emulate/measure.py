"""Measuring an emulation: the simulation's measurement, fed by real time and by what processes tell.

In: the emulated mesh and the crowd of clients. Out: the same metrics, series and
player tracks, by the same code (:mod:`relaymesh.netsim.measure`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import trio

from relaymesh.netsim.crowd import Crowd
from relaymesh.netsim.emulate.mesh import EmulatedMesh
from relaymesh.netsim.emulate.plan import EmulationPlan
from relaymesh.netsim.link_model import P90_MINUS_MEDIAN
from relaymesh.netsim.measure import Measurement
from relaymesh.netsim.mesh import SimMesh
from relaymesh.netsim.net import Network
from relaymesh.netsim.result import PathChange
from relaymesh.netsim.routes import Routes
from relaymesh.netsim.scenario.timeline import SetLink, timeline


class RealTime:
    """Seconds since the run began, and calls at such times; the face of the emulated network's clock."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._began = trio.current_time()

    @property
    def now(self) -> float:
        return trio.current_time() - self._began

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Call *call* at *when*."""
        self._nursery.start_soon(self._call_at, when, call)

    async def _call_at(self, when: float, call: Callable[[], None]) -> None:
        await trio.sleep_until(self._began + when)
        call()


class ToldRoutes(Routes):
    """The ways media takes, as the controller tells them.

    Nodes go on forwarding when the controller is dead, or is back and knows
    nothing yet: a way it does not tell is taken to be as it was.
    """

    def __init__(self, mesh: EmulatedMesh, crowd: Crowd) -> None:
        super().__init__(cast(SimMesh, mesh), crowd)
        self._told = mesh

    def sample(self, now: float, seconds: float) -> None:
        for (room, _, publisher), client in self._crowd.playing.items():
            source = self._crowd.publishing.get((room, publisher))
            if source is None or not (source.sessions and client.sessions):
                continue
            pair = source.participant.node, client.participant.node
            key = f"{room}/{publisher}", pair
            path = self._path_told(room, publisher, *pair)
            if path is not None and path != self._paths.get(key):
                self._paths[key] = path
                self.changes.append(PathChange(t=now, stream=key[0], edge=pair[1], path=path))
        if seconds:
            self._weigh(seconds)

    def _path_told(self, room: str, publisher: str, ingress: str, edge: str) -> list[str] | None:
        if ingress == edge:
            return [ingress]
        for stream in self._told.state.get("publications", []):
            if (stream["room"], stream["participant"], stream["ingress"]) == (room, publisher, ingress):
                path: list[str] | None = stream["paths"].get(edge)
                return path
        return None


class EmulatedMeasurement(Measurement):
    """Everything measured of one emulated run."""

    def __init__(self, mesh: EmulatedMesh, crowd: Crowd, time: RealTime) -> None:
        super().__init__(cast(SimMesh, mesh), crowd, cast(Network, time))
        self._told = mesh
        self.routes = ToldRoutes(mesh, crowd)

    def _sample_links(self, now: float) -> None:
        for source, target, rtt_ms in self._told.rtts:
            self._rtts.setdefault((source, target), []).append(rtt_ms)


def rtt_excess_ms(plan: EmulationPlan, rtts: Mapping[str, Mapping[str, float]]) -> float | None:
    """By how much the round trips the nodes measure are longer than the links there and back, at least.

    Of each link the 10th percentile, less its delays and mean jitters; of those the
    largest. Links with a rate, a trace or held back packets tell nothing, nor do those
    the scenario changes. None: no link tells. *rtts*: the metric ``rtt_ms``.
    """
    changed = {frozenset((a.source, a.target)) for a in timeline(plan.scenario) if isinstance(a, SetLink)}
    names = {address: name for name, address in plan.node_address.items()}
    takes_ms: dict[tuple[str, str], float] = {}
    for wire in plan.wires():
        if wire.source in names and wire.target in names:
            pair, given = (names[wire.source], names[wire.target]), wire.conditions
            plain = given.rate_bps is None and given.trace is None and not given.reorder
            if plain and frozenset(pair) not in changed:
                takes_ms[pair] = given.delay_ms + given.jitter_ms / P90_MINUS_MEDIAN
    found = [
        rtts[f"{a}→{b}"]["p10"] - there - takes_ms[b, a]
        for (a, b), there in takes_ms.items()
        if (b, a) in takes_ms and f"{a}→{b}" in rtts
    ]
    return round(max(found), 3) if found else None
