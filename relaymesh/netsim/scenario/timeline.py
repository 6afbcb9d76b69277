"""The faults of a scenario as a list of changes: what to do and when, the same for both modes.

In: a :class:`~relaymesh.netsim.scenario.resolved.Scenario`. Out: :func:`timeline`, actions in order of time.
Faults on one link may overlap: at any moment a link has its base conditions, changed by every fault that is
on, in the file's order. A :class:`SetLink` therefore carries the whole conditions a directed link has from
then on, never a difference. Also here: :func:`windows`, the time in which each fault shows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from math import inf
from typing import Any

from relaymesh.netsim.scenario.conditions import BurstByMean
from relaymesh.netsim.scenario.faults import (
    ApplyTopology,
    BrownOut,
    BurstLoss,
    ClockSkew,
    ConditionsChange,
    ControllerCrash,
    DropControl,
    Fault,
    Flap,
    LinkCut,
    LinkFault,
    NodeCrash,
    Partition,
    PlanChanges,
    StoreOutage,
)
from relaymesh.netsim.scenario.resolved import Participant, Scenario
from relaymesh.netsim.scenario.strict import CONTROLLER
from relaymesh.topology import Topology
from relaymesh.topology.edits import with_edits

RAMP_STEP_S = 0.1  # a ramp is a stair of these
SETTLE_S = 5.0  # what a fault did is looked for until so long after its end
_NOTHING = {"delay_ms": 0.0, "jitter_ms": 0.0, "loss": 0.0, "reorder": 0.0, "duplicate": 0.0}
LASTING_S = 10.0  # … and so long after the begin of one that does not end


@dataclass(frozen=True, slots=True)
class SetLink:
    """From now on the link from *source* to *target* is like this."""

    at_s: float
    source: str  # node, or "controller"
    target: str  # node, or "controller"
    conditions: dict[
        str, Any
    ]  # all of it: keywords of ``LinkConditions``; {} with only ``down`` at "controller"
    what: str = ""  # for people; empty where another action of this moment says it


@dataclass(frozen=True, slots=True)
class CrashNode:
    """The node dies without a word."""

    at_s: float
    node: str
    what: str


@dataclass(frozen=True, slots=True)
class StartNode:
    """A crashed node starts again, knowing nothing."""

    at_s: float
    node: str
    what: str


@dataclass(frozen=True, slots=True)
class CrashController:
    """The controller dies without a word."""

    at_s: float
    what: str


@dataclass(frozen=True, slots=True)
class StartController:
    """The controller starts again, knowing nothing."""

    at_s: float
    what: str


@dataclass(frozen=True, slots=True)
class SetStore:
    """The controllers' store goes down, or answers again."""

    at_s: float
    down: bool
    what: str


@dataclass(frozen=True, slots=True)
class SkewClock:
    """The node's clock is off by this from now on."""

    at_s: float
    node: str
    offset_s: float
    drift_ppm: float
    what: str


@dataclass(frozen=True, slots=True)
class DropControlFrames:
    """Control messages of these nodes are lost with this probability, 0 ends it."""

    at_s: float
    nodes: tuple[str, ...]
    fraction: float
    what: str


@dataclass(frozen=True, slots=True)
class EditTopology:
    """From now on this is the mesh's topology; None: the next of a row of random ones."""

    at_s: float
    topology: Topology | None
    what: str


@dataclass(frozen=True, slots=True)
class SetAccess:
    """From now on the participant's access link has this rate, each direction."""

    at_s: float
    participant: Participant
    rate_bps: float
    what: str


Action = (
    SetLink
    | SetAccess
    | CrashNode
    | StartNode
    | CrashController
    | StartController
    | SetStore
    | SkewClock
    | DropControlFrames
    | EditTopology
)


@dataclass(frozen=True, slots=True)
class Window:
    """When a fault shows: from its begin until a while after its end."""

    fault: int  # index in the file
    kind: str
    what: str  # for people
    start_s: float
    end_s: float  # of the fault itself
    until_s: float  # of looking for what it did


def timeline(scenario: Scenario) -> tuple[Action, ...]:
    """All changes, in order of time; those beyond the run's end are left out."""
    actions: list[Action] = list(_link_actions(scenario))
    actions += _access_actions(scenario)
    for fault in scenario.faults:
        actions.extend(_process_actions(scenario, fault))
    actions = [action for action in actions if action.at_s < scenario.duration_s]
    return tuple(sorted(actions, key=lambda action: action.at_s))  # stable: the file's order within a moment


def windows(scenario: Scenario) -> tuple[Window, ...]:
    """The window of each fault, in the file's order. Clock skew has none: nothing may show."""
    found = []
    for index, fault in enumerate(scenario.faults):
        if isinstance(fault, ClockSkew) or fault.at_s >= scenario.duration_s:
            continue
        end = end_of(fault)
        until = fault.at_s + LASTING_S if end == inf else end + SETTLE_S
        found.append(
            Window(
                index,
                fault.kind,
                describe(fault),
                fault.at_s,
                min(end, scenario.duration_s),
                min(until, scenario.duration_s),
            )
        )
    return tuple(found)


def edited(topology: Topology, fault: ApplyTopology) -> Topology:
    """What *fault* makes of *topology*. Raises TopologyError."""
    links = [link.model_dump(exclude_none=True) for link in fault.links]
    pins = None if fault.pins is None else [pin.model_dump(by_alias=True) for pin in fault.pins]
    return with_edits(topology, links, pins)


def end_of(fault: Fault) -> float:
    """When *fault* ends, seconds; infinite where it stays."""
    if isinstance(fault, Flap):
        return inf if fault.until_s is None else fault.until_s
    if isinstance(fault, NodeCrash | ControllerCrash):
        lasts = fault.restart_after_s
    elif isinstance(fault, ClockSkew):
        lasts = None
    elif isinstance(fault, ApplyTopology):
        lasts = 0.0  # done at once; what it leads to is looked for as long as what other faults leave
    elif isinstance(fault, PlanChanges):
        lasts = fault.count * fault.every_s
    else:
        lasts = fault.for_s
    return inf if lasts is None else fault.at_s + lasts


def describe(fault: Fault) -> str:
    """*fault* in a few words."""
    if isinstance(fault, NodeCrash | ClockSkew):
        return f"{fault.kind} {fault.node}"
    if isinstance(fault, ControllerCrash | StoreOutage):
        return fault.kind
    if isinstance(fault, ApplyTopology):
        pairs = [" – ".join(link.between) for link in fault.links]
        pins = [f"pin {pin.source} → {pin.target}" for pin in fault.pins or ()]
        return f"{fault.kind} {', '.join(pairs + pins)}".rstrip()
    if isinstance(fault, PlanChanges):
        return f"{fault.count} {fault.kind}"
    if isinstance(fault, DropControl):
        return f"{fault.kind} {fault.fraction:.0%} {fault.node or ''}".rstrip()
    if isinstance(fault, Partition):
        return f"{fault.kind} {' | '.join(', '.join(group) for group in fault.groups)}"
    arrow = {"both": "–", "forward": "→", "backward": "←"}[fault.direction]
    return f"{fault.kind} {fault.between[0]} {arrow} {fault.between[1]}"


# --- links ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Effect:
    """What one fault does to one directed link: changes from a time on, None = nothing any more."""

    steps: list[tuple[float, dict[str, Any] | None]]
    times: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.times = [at for at, _ in self.steps]

    def at(self, now: float) -> dict[str, Any] | None:
        position = bisect_right(self.times, now) - 1
        return self.steps[position][1] if position >= 0 else None


def _link_actions(scenario: Scenario) -> Iterator[SetLink]:
    effects: dict[tuple[str, str], list[_Effect]] = {}
    said: dict[tuple[float, tuple[str, str]], str] = {}
    for fault in scenario.faults:
        for number, (link, effect) in enumerate(_effects(scenario, fault)):
            effects.setdefault(link, []).append(effect)
            if number == 0:  # one line for people, not one for each link
                for at, changes in effect.steps if not _is_ramp(fault) else effect.steps[:1]:
                    text = describe(fault) + ("" if changes is not None else " ends")
                    earlier = said.get((at, link))
                    said[at, link] = f"{earlier}; {text}" if earlier else text
    for link, all_of_it in effects.items():
        base = {} if CONTROLLER in link else scenario.conditions(*link)
        assert base is not None, "only links that exist have effects"
        for at in sorted({at for effect in all_of_it for at in effect.times}):
            now: dict[str, Any] = {**base, "down": False}
            for effect in all_of_it:
                now.update(effect.at(at) or {})
            yield SetLink(at, *link, now, said.get((at, link), ""))


def _is_ramp(fault: Fault) -> bool:
    return isinstance(fault, ConditionsChange) and fault.ramp_s is not None


def _effects(scenario: Scenario, fault: Fault) -> Iterator[tuple[tuple[str, str], _Effect]]:
    if isinstance(fault, Partition):
        for link in _between_groups(scenario, fault.groups):
            yield link, _Effect(_on_off(fault, {"down": True}))
    elif isinstance(fault, LinkFault):
        for link in scenario.directed(fault.between, fault.direction):
            base = scenario.conditions(*link)
            assert base is not None, "directed links exist"
            yield link, _Effect(_steps(scenario, fault, base))


def _between_groups(scenario: Scenario, groups: list[list[str]]) -> Iterator[tuple[str, str]]:
    def members(group: list[str]) -> list[str]:
        return [
            node for name in group for node in ((name,) if name == CONTROLLER else scenario.nodes_at(name))
        ]

    for one, other in combinations([members(group) for group in groups], 2):
        for a in one:
            for b in other:
                if CONTROLLER in (a, b) or scenario.topology.link(a, b) is not None:
                    yield a, b
                    yield b, a


def _on_off(fault: Fault, changes: dict[str, Any]) -> list[tuple[float, dict[str, Any] | None]]:
    end = end_of(fault)
    return [(fault.at_s, changes)] + ([] if end == inf else [(end, None)])


def _steps(
    scenario: Scenario, fault: LinkFault, base: dict[str, Any]
) -> list[tuple[float, dict[str, Any] | None]]:
    if isinstance(fault, LinkCut):
        return _on_off(fault, {"down": True})
    if isinstance(fault, BurstLoss):
        burst = BurstByMean(loss=fault.loss, mean_burst=fault.mean_burst)
        return _on_off(fault, {"burst": burst})
    if isinstance(fault, BrownOut):
        rate = fault.mbps * 1e6 if fault.mbps is not None else (fault.factor or 1.0) * base["rate_bps"]
        return _on_off(fault, {"rate_bps": rate})
    if isinstance(fault, Flap):
        return _flapping(scenario, fault)
    if fault.ramp_s is None:
        return _on_off(fault, fault.changes())
    return _ramp(fault, fault.ramp_s, base)


def _flapping(scenario: Scenario, fault: Flap) -> list[tuple[float, dict[str, Any] | None]]:
    until = min(end_of(fault), scenario.duration_s)
    steps: list[tuple[float, dict[str, Any] | None]] = []
    turn = 0
    while (down := fault.at_s + turn * fault.period_s) < until:
        steps.append((down, {"down": True}))
        steps.append((min(down + fault.down_s, until), None))
        turn += 1
    return steps


def _ramp(
    fault: ConditionsChange, ramp_s: float, base: dict[str, Any]
) -> list[tuple[float, dict[str, Any] | None]]:
    goal = fault.changes()
    count = max(1, round(ramp_s / RAMP_STEP_S))
    steps: list[tuple[float, dict[str, Any] | None]] = []
    for index in range(1, count + 1):
        part = index / count
        changes = {
            name: start + (value - start) * part
            if isinstance(value, float) and (start := {**_NOTHING, **base}.get(name)) is not None
            else value  # what is no number, or had no bound before, changes at once
            for name, value in goal.items()
        }
        steps.append((fault.at_s + ramp_s * (index - 1) / count, changes))
    end = end_of(fault)
    return [step for step in steps if step[0] < end] + ([] if end == inf else [(end, None)])


def _access_actions(scenario: Scenario) -> Iterator[SetAccess]:
    for one in scenario.participants:
        for step in one.access.steps if one.access is not None else ():
            what = f"access of {one.name} ({one.room}): {step.rate_kbps:g} kbit/s"
            yield SetAccess(step.at_s, one, step.rate_kbps * 1e3, what)


# --- processes --------------------------------------------------------------------------------------


def _process_actions(scenario: Scenario, fault: Fault) -> Iterator[Action]:
    what, end = describe(fault), end_of(fault)
    if isinstance(fault, NodeCrash):
        for node in scenario.nodes_at(fault.node):
            yield CrashNode(fault.at_s, node, what)
            if end != inf:
                yield StartNode(end, node, f"{node} starts again")
    elif isinstance(fault, ControllerCrash):
        yield CrashController(fault.at_s, what)
        if end != inf:
            yield StartController(end, "controller starts again")
    elif isinstance(fault, StoreOutage):
        yield SetStore(fault.at_s, True, what)
        if end != inf:
            yield SetStore(end, False, f"{what} ends")
    elif isinstance(fault, ClockSkew):
        for node in scenario.nodes_at(fault.node):
            yield SkewClock(fault.at_s, node, fault.offset_s, fault.drift_ppm, what)
    elif isinstance(fault, ApplyTopology):
        yield EditTopology(fault.at_s, edited(scenario.topology, fault), what)
    elif isinstance(fault, PlanChanges):
        for number in range(fault.count):
            at_s = fault.at_s + number * fault.every_s
            yield EditTopology(at_s, None, "" if number else what)
    elif isinstance(fault, DropControl):
        nodes = scenario.nodes_at(fault.node) if fault.node else scenario.nodes
        yield DropControlFrames(fault.at_s, nodes, fault.fraction, what)
        if end != inf:
            yield DropControlFrames(end, nodes, 0.0, f"{what} ends")
