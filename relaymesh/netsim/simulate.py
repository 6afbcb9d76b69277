"""One run of a scenario in virtual time: the shipping node and controller, in one process, without waiting.

In: a scenario and a seed. Out: a :class:`~relaymesh.netsim.result.Result`. The
same scenario and seed give the same trace hash in any process. Processor time
costs nothing here, streams are not TCP, and clients neither encode nor encrypt;
everything else is what real processes do.
"""

from __future__ import annotations

import gc
import logging
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import structlog
import trio

from relaymesh.netsim.clients import Client
from relaymesh.netsim.clock import run_virtual
from relaymesh.netsim.crowd import Crowd
from relaymesh.netsim.judge import conclude
from relaymesh.netsim.measure import Measurement
from relaymesh.netsim.mesh import SimMesh
from relaymesh.netsim.net import Network
from relaymesh.netsim.participant import ScriptedParticipant, track_spec
from relaymesh.netsim.plan_changes import PlanChanges
from relaymesh.netsim.result import Event, Result
from relaymesh.netsim.scenario.resolved import Participant, Scenario
from relaymesh.netsim.scenario.timeline import (
    Action,
    CrashController,
    CrashNode,
    DropControlFrames,
    EditTopology,
    SetAccess,
    SetLink,
    SetStore,
    SkewClock,
    StartController,
    StartNode,
    timeline,
)
from relaymesh.netsim.track_specs import TrackSpec

DRAIN_S = 2.0  # after the last packet was sent; what is under way then was lost
MAX_JOIN_EVENTS = 60  # of a run; a crowd's joins are seen in the series

Progress = Callable[[float], None]


def replay_command(scenario: Scenario, seed: int, command: str = "simulate") -> str:
    """The command that repeats a run."""
    words = ["relaymesh", command, str(scenario.path), "--seed", str(seed)]
    for key, value in scenario.overrides:
        words += ["--set", f"{key}={value}"]
    return shlex.join(words)


def simulate(
    scenario: Scenario,
    *,
    seed: int | None = None,
    on_progress: Progress | None = None,
    trace: bool = True,
) -> Result:
    """Run *scenario* under *seed* (its own by default); *on_progress* is told the virtual time each second.

    Raises:
        VirtualStall, GuardError: a bug: nothing would ever happen again, or real time was used.
    """
    seed = scenario.seed if seed is None else seed
    with TemporaryDirectory(prefix="relaymesh-") as folder, _quiet() as bugs, _rare_collections():
        topology = Path(folder) / "topology.yaml"
        topology.write_text(scenario.topology_text, encoding="utf-8")
        run = Simulation(scenario, seed, topology, on_progress, trace=trace)
        before = time.process_time()
        run_virtual(run.main, seed=seed, network=run.network)
        return run.result(time.process_time() - before, bugs)


class Simulation:
    """One run: the network, the processes on it, the clients, the faults, the measuring."""

    def __init__(
        self,
        scenario: Scenario,
        seed: int,
        topology_file: Path,
        on_progress: Progress | None = None,
        *,
        trace: bool = True,
    ) -> None:
        self.scenario = scenario
        self.seed = seed
        self.mesh = SimMesh(scenario, seed, topology_file)
        self.crowd = Crowd()
        self.network = Network(seed, self.mesh.links.find, self.mesh.processes.host_names(), trace=trace)
        self.measurement = Measurement(self.mesh, self.crowd, self.network)
        self.events: list[Event] = []
        self._hosts: dict[tuple[str, str], str] = {}  # room, participant → where it stands
        self._on_progress = on_progress
        self._trace = trace
        self._plan_changes = PlanChanges(scenario.topology, Random(f"{seed}:plan-changes"))

    async def main(self, network: Network) -> None:
        """The whole run, in virtual time."""
        if self._on_progress is not None:
            network.at(1.0, self._tell_progress, 1.0)
        async with trio.open_nursery() as processes:
            self.mesh.processes.start(network, processes)
            async with trio.open_nursery() as clients:
                for client in self._clients():
                    clients.start_soon(client.run)
                clients.start_soon(self._faults)
            await trio.sleep_until(self.scenario.duration_s + DRAIN_S)
            processes.cancel_scope.cancel()

    def _tell_progress(self, now: float) -> None:
        assert self._on_progress is not None, "only then is it scheduled"
        self._on_progress(now)
        if now < self.scenario.duration_s:
            self.network.at(now + 1.0, self._tell_progress, now + 1.0)

    def _clients(self) -> Iterator[Client]:
        participants = self.scenario.participants
        specs = {
            (one.room, one.name): tuple(track_spec(track) for track in one.publish) for one in participants
        }
        quiet = len(participants) > MAX_JOIN_EVENTS
        for index, participant in enumerate(participants):
            host = f"10.{2 + (index >> 16)}.{index >> 8 & 255}.{index & 255}"
            self.mesh.add_client(host, participant)
            self._hosts[participant.room, participant.name] = host
            if not quiet:
                self._note_stay(participant)
            script = ScriptedParticipant(
                participant,
                partial(_specs_in, specs, participant.room),
                self.crowd,
                seed=str(self.seed),
                ends_at=self.scenario.duration_s,
            )
            yield Client(
                script,
                network=self.network,
                host=host,
                access_delay=self.scenario.access_delay_s(participant),
                find_node=self.mesh.find_node,
            )

    def _note_stay(self, participant: Participant) -> None:
        name = f"{participant.name} ({participant.room})"
        if participant.join_s < self.scenario.duration_s:
            self.events.append(
                Event(t=participant.join_s, what=f"{name} joins at {participant.node}", kind="join")
            )
        if participant.leave_s is not None and participant.leave_s < self.scenario.duration_s:
            self.events.append(Event(t=participant.leave_s, what=f"{name} leaves", kind="join"))

    # --- faults --------------------------------------------------------------------------------

    async def _faults(self) -> None:
        for action in timeline(self.scenario):
            await trio.sleep_until(action.at_s)
            self._act(action)
            if action.what:
                self.events.append(Event(t=action.at_s, what=action.what, kind="fault"))

    def _act(self, action: Action) -> None:
        mesh, processes = self.mesh, self.mesh.processes
        # What travelled until now is judged by the paths there were until now.
        self.measurement.take_delays()
        match action:
            case SetLink():
                mesh.links.set(action, self.network.now)
            case SetAccess(participant=one, rate_bps=rate_bps):
                mesh.links.set_access(self._hosts[one.room, one.name], rate_bps, self.network.now)
            case CrashNode():
                processes.crash_node(action.node)
            case StartNode():
                processes.start_node(action.node)
            case CrashController():
                processes.crash_controller()
            case StartController():
                processes.start_controller()
            case SetStore():
                processes.store.down = action.down
            case DropControlFrames():
                for name in action.nodes:
                    mesh.nodes[name].tap.drop_control = action.fraction
            case SkewClock():
                processes.skew_clock(action)
            case EditTopology():
                processes.apply_topology(action.topology or self._plan_changes.next())

    # --- what came of it -----------------------------------------------------------------------

    def result(self, cpu_s: float, bugs: list[str]) -> Result:
        """The run, judged; *bugs* are errors the processes logged."""
        measurement = self.measurement
        players = measurement.players()
        metrics = measurement.metrics(players)
        metrics["trace_sha256"] = self.network.trace_sha256() if self._trace else None
        metrics["packets"] = self.network.packets
        metrics["packets_per_cpu_s"] = round(self.network.packets / cpu_s) if cpu_s else None
        metrics["cpu_s"] = round(cpu_s, 3)
        dead = self.mesh.totals().bugs
        invalid = None
        if bugs or dead:
            invalid = f"a process had a bug: {bugs[0] if bugs else f'{dead} inputs dropped'}"
        return conclude(
            self.scenario,
            mode="simulate",
            seed=self.seed,
            metrics=metrics,
            series=measurement.finish_series(),
            players=players,
            events=self.events,
            paths=measurement.routes.changes,
            invalid_reason=invalid,
            replay=replay_command(self.scenario, self.seed),
        )


def _specs_in(
    specs: dict[tuple[str, str], tuple[TrackSpec, ...]], room: str, name: str
) -> tuple[TrackSpec, ...]:
    return specs[room, name]


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Let the garbage collector look at a run's many long-lived objects less often; it finds little there."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@contextmanager
def _quiet() -> Iterator[list[str]]:
    """No log lines of the processes while the block runs; errors among them are collected."""
    errors: list[str] = []

    def collect(_: Any, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if "exc_info" in event or name in ("exception", "error"):
            text = structlog.processors.format_exc_info(None, "", event)
            errors.append(f"{text.get('event')}\n{text.get('exception', '')}".rstrip())
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[collect], wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR)
    )
    try:
        yield errors
    finally:
        structlog.configure(**before)
