"""Runs a scenario with real processes in real time, from the empty machine to the result.

In: a scenario and a seed. Out: a :class:`~relaymesh.netsim.result.Result`. The run's
clock begins when the mesh is complete: starting processes takes the time it takes,
and scenarios are not about that.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from relaymesh.netsim.crowd import Crowd
from relaymesh.netsim.emulate.audience import Spectator
from relaymesh.netsim.emulate.cleanup import RunState, clean_up, new_run, state_root
from relaymesh.netsim.emulate.lateness import VALID_P99_S
from relaymesh.netsim.emulate.measure import EmulatedMeasurement, RealTime, rtt_excess_ms
from relaymesh.netsim.emulate.mesh import EmulatedMesh, NotReady
from relaymesh.netsim.emulate.namespaces import NotAllowed, enter_user_namespace
from relaymesh.netsim.emulate.netem import TUN, cannot_netem
from relaymesh.netsim.emulate.netem_world import NetemWorld
from relaymesh.netsim.emulate.plan import EmulationPlan, TooLarge, clients_host
from relaymesh.netsim.emulate.processes import ChildDied, go_along
from relaymesh.netsim.emulate.world import EmulatorDied, World, open_world
from relaymesh.netsim.judge import conclude
from relaymesh.netsim.participant import ScriptedParticipant, track_spec
from relaymesh.netsim.result import Event, Result
from relaymesh.netsim.scenario.faults import ApplyTopology, ClockSkew, DropControl, PlanChanges, StoreOutage
from relaymesh.netsim.scenario.resolved import Participant, Scenario
from relaymesh.netsim.scenario.timeline import timeline
from relaymesh.netsim.simulate import DRAIN_S, MAX_JOIN_EVENTS, replay_command
from relaymesh.netsim.track_specs import TrackSpec
from relaymesh.runtime.process import wait_for_stop
from relaymesh.webrtc.certificate import Certificate

PROGRESS_S = 0.5

Progress = Callable[[float, str], None]  # seconds of the run (negative: not begun), what is going on


class EmulationFailed(Exception):
    """The run did not come to a result; the text is for people."""


class Stopped(Exception):
    """Somebody asked for the run to end before its time."""


def cannot_emulate(scenario: Scenario, backend: str = TUN) -> list[str]:
    """What *scenario* asks for that cannot be done to real processes, or not by *backend*."""
    found = [] if backend == TUN else cannot_netem(scenario)
    if scenario.standbys:
        found.append(
            f"{scenario.path}: controller.standbys cannot be emulated: there is no store; simulate it"
        )
    return found + [
        f"{scenario.path}: faults[{index}]: {fault.kind} cannot be emulated: {why}"
        for index, fault in enumerate(scenario.faults)
        for kind, why in (
            (ClockSkew, "all processes share this machine's clock"),
            (StoreOutage, "there is no store; simulate it"),
            (DropControl, "control messages travel inside TLS; simulate it"),
            (ApplyTopology | PlanChanges, "only a simulated controller is edited by a scenario"),
        )
        if isinstance(fault, kind)
    ]


def replay(scenario: Scenario, seed: int, backend: str) -> str:
    """The one command that runs it again."""
    chosen = "" if backend == TUN else f" --backend {backend}"
    return replay_command(scenario, seed, "emulate") + chosen


@dataclass(frozen=True, slots=True)
class Place:
    """Where runs of this process keep their state, and by what right they run."""

    root: Path
    own_user_namespace: bool
    removed: list[str]  # what killed runs had left, in words


def prepare() -> Place:
    """Once for each process, while it has one thread: remove what killed runs left, get the rights to run.

    Raises:
        EmulationFailed: the kernel does not let us.
    """
    try:
        root = state_root()
        removed = clean_up(root)
        return Place(root, enter_user_namespace(), removed)
    except (NotAllowed, OSError) as error:
        raise EmulationFailed(f"cannot emulate here: {error}") from None


def emulate(
    scenario: Scenario,
    seed: int,
    place: Place,
    *,
    progress: Progress,
    logs: Path | None = None,
    backend: str = TUN,
) -> Result:
    """Run *scenario* under *seed*. The processes' logs are kept in a folder under *logs*.

    Raises:
        EmulationFailed: it did not come to a result.
        Stopped: SIGINT or SIGTERM came.
    """
    state = new_run(place.root)
    state.scenario = scenario.name
    state.own_user_namespace = place.own_user_namespace
    try:
        plan = EmulationPlan(scenario, seed)
        state.urls = {name: plan.http_url(name) for name in scenario.nodes}
        with open_world(plan, state, backend) as world:
            result: Result = trio.run(_Run(plan, world, state, progress).run)
    except (NotAllowed, TooLarge, ChildDied, EmulatorDied, NotReady, OSError) as error:
        raise EmulationFailed(str(error)) from None
    except BaseExceptionGroup as group:
        cause = _first(group)
        if isinstance(cause, Stopped):
            raise cause from None
        if cause is None:
            raise
        raise EmulationFailed(str(cause)) from None
    finally:
        if logs is not None:
            keep_logs(state.folder, logs / f"{scenario.name}-{seed}")
        state.remove()
    return result


def keep_logs(folder: Path, goal: Path) -> None:
    """Copy what the processes of *folder* said to *goal*."""
    goal.mkdir(parents=True, exist_ok=True)
    for log in folder.glob("*.log"):
        shutil.copyfile(log, goal / log.name)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """The exception that says what went wrong, however deep."""
    kinds = (ChildDied, EmulatorDied, NotReady, Stopped, OSError)
    for error in group.exceptions:
        found = _first(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, kinds):
            return found
    return None


class _Run:
    """One run, from the start of its processes to its result."""

    def __init__(
        self, plan: EmulationPlan, world: World | NetemWorld, state: RunState, progress: Progress
    ) -> None:
        self.plan = plan
        self.scenario = plan.scenario
        self.world = world
        self.progress = progress
        self.state = state
        self.crowd = Crowd()
        self.events: list[Event] = []
        self.cpu_began = 0.0
        self.packets_began = 0

    async def run(self) -> Result:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stop_on_signal)
            mesh = EmulatedMesh(self.plan, self.world, self.state.folder)
            try:
                self.progress(-1.0, f"starting {len(self.scenario.nodes)} nodes")
                await mesh.start()
                mesh.go_first()
                result = await self._measured(mesh)
            finally:
                go_along()
                with trio.CancelScope(shield=True):
                    await mesh.stop()
            nursery.cancel_scope.cancel()
        return result

    async def _stop_on_signal(self) -> None:
        raise Stopped(f"stopped by {await wait_for_stop()}")

    async def _measured(self, mesh: EmulatedMesh) -> Result:
        scenario = self.scenario
        async with trio.open_nursery() as nursery:
            clock = RealTime(nursery)
            measurement = EmulatedMeasurement(mesh, self.crowd, clock)
            nursery.start_soon(mesh.watch)
            nursery.start_soon(self._do_faults, mesh, clock, measurement)
            nursery.start_soon(self._show_progress, clock)
            nursery.start_soon(self._begin_measuring, clock)
            async with trio.open_nursery() as audience:
                self._let_in(audience, clock)
                await trio.sleep(max(0.0, scenario.duration_s - clock.now))
                await trio.sleep(DRAIN_S)
                await mesh.look_at_all()
                audience.cancel_scope.cancel()
            result = self._conclude(measurement)
            nursery.cancel_scope.cancel()
        return result

    def _let_in(self, nursery: trio.Nursery, clock: RealTime) -> None:
        """Every participant, each in its region's namespace."""
        plan, scenario = self.plan, self.scenario
        certificate = Certificate.generate(time.time())
        specs: dict[tuple[str, str], tuple[TrackSpec, ...]] = {
            (p.room, p.name): tuple(track_spec(track) for track in p.publish) for p in scenario.participants
        }
        for participant in scenario.participants:
            script = ScriptedParticipant(
                participant,
                lambda name, room=participant.room: specs[room, name],  # type: ignore[misc]
                self.crowd,
                seed=str(plan.seed),
                ends_at=scenario.duration_s,
                reports=True,
            )
            spectator = Spectator(
                script,
                namespace=self.world.namespaces[clients_host(plan.region_of(participant.node))],
                address=plan.address_of(participant),
                node_address=plan.node_address[participant.node],
                certificate=certificate,
                clock=lambda: clock.now,
            )
            nursery.start_soon(spectator.run)
            if len(scenario.participants) <= MAX_JOIN_EVENTS:
                self._note_stay(participant)

    def _note_stay(self, participant: Participant) -> None:
        name, end = f"{participant.name} ({participant.room})", self.scenario.duration_s
        if participant.join_s < end:
            text = f"{name} joins at {participant.node}"
            self.events.append(Event(t=participant.join_s, what=text, kind="join"))
        if participant.leave_s is not None and participant.leave_s < end:
            self.events.append(Event(t=participant.leave_s, what=f"{name} leaves", kind="join"))

    async def _do_faults(self, mesh: EmulatedMesh, clock: RealTime, measurement: EmulatedMeasurement) -> None:
        for action in timeline(self.scenario):
            await trio.sleep(max(0.0, action.at_s - clock.now))
            # What travelled until now is judged by the paths there were until now.
            measurement.take_delays()
            mesh.do(action)
            if action.what:
                self.events.append(Event(t=round(clock.now, 3), what=action.what, kind="fault"))

    async def _begin_measuring(self, clock: RealTime) -> None:
        await trio.sleep(max(0.0, self.scenario.warmup_s - clock.now))
        self.world.begin_measuring()
        stats = self.world.stats()
        self.cpu_began, self.packets_began = stats["cpu_s"], _delivered(stats)

    async def _show_progress(self, clock: RealTime) -> None:
        while True:
            faults = [event.what for event in self.events if event.kind == "fault"]
            self.progress(clock.now, faults[-1] if faults else "running")
            await trio.sleep(PROGRESS_S)

    # --- the end -------------------------------------------------------------------------------

    def _conclude(self, measurement: EmulatedMeasurement) -> Result:
        stats = self.world.stats()
        players = measurement.players()
        metrics = measurement.metrics(players)
        cpu = stats["cpu_s"] - self.cpu_began
        metrics["trace_sha256"] = None  # real time never repeats itself
        metrics["packets_per_cpu_s"] = (
            round((_delivered(stats) - self.packets_began) / cpu) if cpu > 0 else None
        )
        excess_ms = rtt_excess_ms(self.plan, metrics["rtt_ms"]) if stats["lateness_ms"] is None else None
        metrics["emulator"] = {
            "backend": self.world.backend,
            "fifo": self.world.fifo,
            "lateness_ms": stats["lateness_ms"],
            "rtt_excess_ms": excess_ms,
            "overflowed": stats["overflowed"],
            "unroutable": stats["unroutable"],
        }
        return conclude(
            self.scenario,
            mode="emulate",
            seed=self.plan.seed,
            metrics=metrics,
            series=measurement.finish_series(),
            players=players,
            events=self.events,
            paths=measurement.routes.changes,
            invalid_reason=why_invalid(stats, self.world.fifo, excess_ms),
            replay=replay(self.scenario, self.plan.seed, self.world.backend),
        )


def _delivered(stats: dict[str, Any]) -> int:
    return sum(counters.packets_out for counters in stats["wires"].values())


def why_invalid(stats: dict[str, Any], fifo: bool, excess_ms: float | None = None) -> str | None:
    """Why a run with these figures of the emulator says nothing; None: nothing speaks against it.

    A backend without lateness is judged by *excess_ms*, see :func:`rtt_excess_ms`.
    """
    if excess_ms is not None and excess_ms > VALID_P99_S * 1000:
        return f"round trips took {excess_ms:g} ms more than their links, over {VALID_P99_S * 1000:g} ms"
    late_ms = stats["lateness_ms"]["p99"] if stats["lateness_ms"] else 0.0
    if late_ms > VALID_P99_S * 1000:
        advice = "" if fifo else "; run as root, so that the emulator goes before everything else"
        return f"the emulator was late: {late_ms:g} ms at p99, more than {VALID_P99_S * 1000:g} ms{advice}"
    if stats["overflowed"]:
        return f"{stats['overflowed']} packets were lost because a queue of this machine was full"
    return None
