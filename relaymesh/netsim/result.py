"""The result of one run: what was measured, what had to hold, and the verdict.

In: what a runner measured. Out: a :class:`Result`, whose JSON is what ``--json`` prints and what reports are
made of. The metrics that are told per player are computed here (:func:`player_metrics`), so that both modes
mean the same by them. It knows no clock and reads no files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any, Literal

import msgspec

from relaymesh.netsim.longer_ways import longer_ms
from relaymesh.netsim.metrics import METRICS, quantiles
from relaymesh.netsim.scenario.model import Expectation, Scope
from relaymesh.netsim.scenario.resolved import Scenario
from relaymesh.netsim.scenario.timeline import Window, windows

Mode = Literal["simulate", "emulate"]
Outcome = Literal["passed", "failed", "expected-fail", "unexpected-pass", "invalid"]
Metrics = dict[str, Any]
Points = list[tuple[float, float]]


class PlayerTrack(msgspec.Struct, kw_only=True):
    """One track as one player had it."""

    room: str
    publisher: str
    player: str
    kind: Literal["audio", "video"]
    ingress: str  # node of the publisher
    edge: str  # node of the player
    sent: int  # packets the publisher sent in the measured time while the player was attached
    lost: int  # of those: never reached it
    enhancement: int = 0  # packets sent in layers that a short link may leave out
    left_out: int = 0  # of those, that never arrived
    late: int = 0  # of those: came too late to be played
    frozen_ms: float = 0.0  # video only
    first_frame_ms: float | None = None  # None: it never played a frame
    gaps_ms: list[float | None] = []  # one for each of the run's windows; None: not attached then
    longer_ms: list[float] = []  # of each: what the best way around the fault is longer; none = 0
    added_delay_ms: dict[str, float | None] = {}  # p50, p99, p999
    delay_ms: dict[str, float | None] = {}  # p50, p99: publisher to player


class Check(msgspec.Struct, kw_only=True):
    """One thing that must hold; *value* and *bound* are for people, *passed* is the verdict."""

    name: str
    value: float | None  # None: was not measured
    bound: str
    passed: bool
    may_fail: bool = False  # the scenario says it is known not to hold yet


class Event(msgspec.Struct, kw_only=True):
    """Something that happened, for people."""

    t: float  # seconds from the start
    what: str
    kind: Literal["fault", "route", "join", "info"] = "info"


class PathChange(msgspec.Struct, kw_only=True):
    """From *t* on the stream goes to the edge this way."""

    t: float
    stream: str  # room/participant
    edge: str
    path: list[str]  # nodes from ingress to edge; [] = there is no way


class FaultWindow(msgspec.Struct, kw_only=True):
    """When a fault shows; see :class:`~relaymesh.netsim.scenario.timeline.Window`."""

    fault: int
    kind: str
    what: str
    start_s: float
    end_s: float
    until_s: float
    links: list[tuple[str, str]] = []  # directed, those the fault is on
    nodes: list[str] = []


class Result(msgspec.Struct, kw_only=True):
    """One run."""

    scenario: str
    title: str = ""
    description: str = ""
    mode: Mode = "simulate"
    seed: int = 1
    overrides: dict[str, str] = {}
    duration_s: float = 0.0
    warmup_s: float = 0.0
    passed: bool = False  # every check holds
    valid: bool = True  # the run itself can be trusted (emulate: lateness)
    invalid_reason: str | None = None
    expected_fail: str | None = None  # the reason
    outcome: Outcome = "failed"
    checks: list[Check] = []
    metrics: Metrics = {}
    series: dict[str, Points] = {}
    events: list[Event] = []
    paths: list[PathChange] = []
    windows: list[FaultWindow] = []
    players: list[PlayerTrack] = []
    topology: dict[str, Any] = {}
    replay: str = ""  # the command that repeats this run

    def to_json(self, *, indent: int = 0) -> str:
        """The result as JSON text."""
        text = msgspec.json.encode(self)
        return (msgspec.json.format(text, indent=indent) if indent else text).decode()


def result_from_json(text: str | bytes) -> Result:
    """The result that *text* holds. Raises ``msgspec.DecodeError`` (a ``ValueError``) for anything else."""
    return msgspec.json.decode(text, type=Result)


def conclude(
    scenario: Scenario,
    *,
    mode: Mode,
    seed: int,
    metrics: Metrics,
    series: dict[str, Points],
    players: list[PlayerTrack],
    events: list[Event] | None = None,
    paths: list[PathChange] | None = None,
    invalid_reason: str | None = None,
    replay: str = "",
) -> Result:
    """The result of a run of *scenario*: fills in what follows from the players and the paths, and judges.

    *metrics* needs what only the runner knows: ``trace_sha256``, ``added_delay_ms``, ``link_loss``,
    ``overhead``, ``loops``, ``duplicates``, ``path_stretch``, ``rtt_ms``, ``sent_packets``,
    ``delivered_packets``, ``packets_per_cpu_s``. ``media_gap_ms``, ``excess_gap_ms``, ``residual_loss``,
    ``late_loss``, ``first_frame_ms``, ``frozen_ms``, ``streams_played``, ``route_changes``, ``reroute_ms``
    and ``delay_drift_ms`` are computed here unless given.
    """
    paths, found = paths or [], fault_windows(scenario)
    longer = longer_ms(scenario, found, paths)
    for player in players:
        way = f"{player.room}/{player.publisher}", player.edge
        player.longer_ms = [round(by_way.get(way, 0.0), 3) for by_way in longer]
    computed: Metrics = {
        **player_metrics(players, found, paths),
        "route_changes": count_route_changes(paths, scenario.warmup_s),
        "reroute_ms": quantiles(reroute_times_ms(paths, found), ("p50", "max")),
        "delay_drift_ms": drift(series.get("added_delay_p50_ms", []), scenario.warmup_s),
    }
    metrics = {**computed, **metrics}
    known = scenario.expected_fail
    may_fail = None if known is None else known.metrics
    checks = [
        judge(
            expectation,
            metrics,
            (players, found, paths),
            may_fail=known is not None and _listed(expectation, may_fail),
        )
        for expectation in scenario.expect
    ]
    return Result(
        scenario=scenario.name,
        title=scenario.title,
        description=scenario.file.description or "",
        mode=mode,
        seed=seed,
        overrides=dict(scenario.overrides),
        duration_s=scenario.duration_s,
        warmup_s=scenario.warmup_s,
        passed=invalid_reason is None and all(check.passed for check in checks),
        valid=invalid_reason is None,
        invalid_reason=invalid_reason,
        expected_fail=None if known is None else known.reason,
        outcome=_outcome(checks, expected=known is not None, valid=invalid_reason is None),
        checks=checks,
        metrics=metrics,
        series=series,
        events=sorted(events or [], key=lambda event: event.t),
        paths=paths,
        windows=found,
        players=players,
        topology=describe_topology(scenario),
        replay=replay,
    )


def _listed(expectation: Expectation, metrics: list[str] | None) -> bool:
    name = expectation.metric
    return metrics is None or name in metrics or name.partition(".")[0] in metrics


def _outcome(checks: Sequence[Check], *, expected: bool, valid: bool) -> Outcome:
    if not valid:
        return "invalid"
    failed = [check for check in checks if not check.passed]
    if not failed:
        return "unexpected-pass" if expected else "passed"
    return "expected-fail" if all(check.may_fail for check in failed) else "failed"


# --- expectations -----------------------------------------------------------------------------------


def judge(
    expectation: Expectation,
    metrics: Metrics,
    seen: tuple[Sequence[PlayerTrack], Sequence[FaultWindow], Sequence[PathChange]] = ((), (), ()),
    *,
    may_fail: bool = False,
) -> Check:
    """One expectation, judged by *metrics*, or in its scope by what was *seen*: players, windows, paths.

    What was not measured does not hold.
    """
    scope = expectation.scope
    if scope is not None:
        metrics = player_metrics(*seen, scope)
    value = lookup(metrics, expectation.metric)
    low, high, equal = expectation.min, expectation.max, expectation.equals
    bounds = [f"≤ {high:g}"] if high is not None else []
    bounds += [f"≥ {low:g}"] if low is not None else []
    bounds += [f"= {equal:g}"] if equal is not None else []
    passed = value is not None and (
        (high is None or value <= high)
        and (low is None or value >= low)
        and (equal is None or value == equal)
    )
    name = expectation.metric + (f" ({_scope_text(scope)})" if scope is not None else "")
    return Check(name=name, value=value, bound=" and ".join(bounds), passed=passed, may_fail=may_fail)


def lookup(metrics: Metrics, name: str) -> float | None:
    """The number called ``metric`` or ``metric.quantile``; None where there is none."""
    metric, _, quantile = name.partition(".")
    value = metrics.get(metric)
    if quantile:
        value = value.get(quantile) if isinstance(value, dict) else None
    return float(value) if isinstance(value, int | float) else None


def _scope_text(scope: Scope) -> str:
    parts = [f"room {scope.room}"] if scope.room is not None else []
    parts += [scope.kind] if scope.kind is not None else []
    parts += [f"fault {scope.fault}"] if scope.fault is not None else []
    parts += ["affected"] if scope.affected else []
    return ", ".join(parts)


# --- metrics that follow from others ----------------------------------------------------------------


def player_metrics(
    players: Iterable[PlayerTrack],
    found: Sequence[FaultWindow],
    paths: Sequence[PathChange] = (),
    scope: Scope | None = None,
) -> Metrics:
    """The metrics that are told per player, over *players*; with a *scope* over those in it, and their
    ``added_delay_ms``."""
    chosen = [player for player in players if scope is None or _in_scope(player, scope)]
    sent = sum(player.sent for player in chosen)
    enhancement = sum(player.enhancement for player in chosen)
    gaps = _gaps(chosen, found, paths, scope)
    metrics: Metrics = {
        "media_gap_ms": quantiles(gap for gap, _ in gaps),
        "excess_gap_ms": quantiles(max(0.0, gap - longer) for gap, longer in gaps),
        "residual_loss": sum(player.lost for player in chosen) / sent if sent else None,
        "left_out": sum(p.left_out for p in chosen) / enhancement if enhancement else None,
        "late_loss": sum(player.late for player in chosen) / sent if sent else None,
        "first_frame_ms": quantiles(
            (player.first_frame_ms for player in chosen if player.first_frame_ms is not None),
            METRICS["first_frame_ms"].quantiles,
        ),
        "frozen_ms": quantiles(player.frozen_ms for player in chosen if player.kind == "video"),
        "streams_played": sum(player.first_frame_ms is not None for player in chosen) / len(chosen)
        if chosen
        else None,
    }
    if scope is not None:
        metrics["added_delay_ms"] = {
            name: max((v for p in chosen if (v := p.added_delay_ms.get(name)) is not None), default=None)
            for name in METRICS["added_delay_ms"].quantiles
        }
    return metrics


def _in_scope(player: PlayerTrack, scope: Scope) -> bool:
    return scope.room in (None, player.room) and scope.kind in (None, player.kind)


def _gaps(
    players: list[PlayerTrack],
    found: Sequence[FaultWindow],
    paths: Sequence[PathChange],
    scope: Scope | None,
) -> list[tuple[float, float]]:
    """(gap, what the best way around the fault is longer) in milliseconds."""
    wanted = scope.fault if scope is not None else None
    by_fault = scope is not None and scope.affected
    if not found:  # one gap for each player, over the measured time; no fault, so it affected nobody
        chosen = set() if by_fault else {0}
    else:
        chosen = {index for index, window in enumerate(found) if wanted in (None, window.fault)}
    hit = affected(paths, found) if by_fault else None
    return [
        (gap, player.longer_ms[index] if index < len(player.longer_ms) else 0.0)
        for player in players
        for index, gap in enumerate(player.gaps_ms)
        if gap is not None
        and index in chosen
        and (hit is None or (f"{player.room}/{player.publisher}", player.edge) in hit[index])
    ]


def affected(paths: Sequence[PathChange], found: Sequence[FaultWindow]) -> list[set[tuple[str, str]]]:
    """For each window the (stream, edge) whose path used what the fault broke when it began."""
    hit = []
    ordered = sorted(paths, key=lambda path: path.t)
    for window in found:
        current = {(path.stream, path.edge): path.path for path in ordered if path.t < window.start_s}
        hit.append({way for way, path in current.items() if _uses(path, window)})
    return hit


def count_route_changes(paths: Iterable[PathChange], after_s: float) -> int:
    """How often a path changed from one way to another after *after_s*.

    First ways do not count, and a time without any way is not a way.
    """
    ways: dict[tuple[str, str], list[str]] = {}
    changes = 0
    for path in sorted((path for path in paths if path.path), key=lambda path: path.t):
        before = ways.get((path.stream, path.edge))
        changes += before is not None and before != path.path and path.t >= after_s
        ways[path.stream, path.edge] = path.path
    return changes


def reroute_times_ms(paths: Sequence[PathChange], found: Sequence[FaultWindow]) -> list[float]:
    """For each fault and each path that used what it broke: how long until the path avoided it."""
    ordered = sorted(paths, key=lambda path: path.t)
    times = []
    for window, hit in zip(found, affected(ordered, found), strict=True):
        for stream, edge in sorted(hit):
            after = (
                path.t
                for path in ordered
                if (path.stream, path.edge) == (stream, edge)
                and path.t >= window.start_s
                and path.path
                and not _uses(path.path, window)
            )
            times.append((min(next(after, window.end_s), window.end_s) - window.start_s) * 1000)
    return times


def _uses(path: list[str], window: FaultWindow) -> bool:
    inner = path[1:-1]  # a path cannot avoid its own ends
    return any(link in window.links for link in pairwise(path)) or any(node in window.nodes for node in inner)


def drift(points: Points, warmup_s: float) -> float | None:
    """Median of the last tenth of *points* less that of the first, without its sign; None for too few."""
    values = [value for t, value in points if t >= warmup_s]
    tenth = len(values) // 10
    if tenth < 1:
        return None
    first, last = quantiles(values[:tenth], ("p50",))["p50"], quantiles(values[-tenth:], ("p50",))["p50"]
    assert first is not None, "the first tenth is not empty"
    assert last is not None, "the last tenth is not empty"
    return abs(last - first)


# --- the scenario, for readers of the result --------------------------------------------------------


def fault_windows(scenario: Scenario) -> list[FaultWindow]:
    """The windows of the scenario's faults, with the links and nodes each fault is on."""
    return [_window(scenario, window) for window in windows(scenario)]


def _window(scenario: Scenario, window: Window) -> FaultWindow:
    fault = scenario.faults[window.fault]
    between, node = getattr(fault, "between", None), getattr(fault, "node", None)
    links = scenario.directed(between, getattr(fault, "direction", "both")) if between else []
    crashed = list(scenario.nodes_at(node)) if node and fault.kind == "node-crash" else []
    return FaultWindow(**asdict(window), links=links, nodes=crashed)


def describe_topology(scenario: Scenario) -> dict[str, Any]:
    """Nodes with their places, each pair of nodes once with its delay, and where the controller stands."""
    topology = scenario.topology
    nodes = []
    for node in topology.node_list():
        region = topology.region(node.region)
        place = None
        if region.latitude is not None and region.longitude is not None:
            place = {"latitude": region.latitude, "longitude": region.longitude}
        nodes.append({"name": node.name, "region": region.name, "title": region.title, "place": place})
    names = scenario.nodes
    links = [
        {"from": a, "to": b, "delay_ms": link.delay_ms}
        for position, a in enumerate(names)
        for b in names[position + 1 :]
        if (link := topology.link(a, b)) is not None
    ]
    return {"name": topology.name, "nodes": nodes, "links": links, "controller": scenario.controller_node}
