"""From a run's measurements to a :class:`~relaymesh.netsim.result.Result`: the last figures, and the verdict.

In: metrics, series, players and paths of one run. Out: its result. Both modes end here, so that they mean the
same by what had to hold. It knows no clock and reads no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from relaymesh.netsim.fault_windows import fault_windows
from relaymesh.netsim.longer_ways import longer_ms
from relaymesh.netsim.metrics import quantiles
from relaymesh.netsim.player_metrics import (
    count_route_changes,
    drift,
    player_metrics,
    relay_mbps,
    reroute_times_ms,
)
from relaymesh.netsim.result import (
    Check,
    Event,
    FaultWindow,
    Metrics,
    Mode,
    Outcome,
    PathChange,
    PlayerTrack,
    Points,
    Result,
)
from relaymesh.netsim.scenario.expectations import Expectation, Scope
from relaymesh.netsim.scenario.resolved import Scenario


class Seen(NamedTuple):
    """What an expectation with a scope is judged by."""

    players: Sequence[PlayerTrack] = ()
    windows: Sequence[FaultWindow] = ()
    paths: Sequence[PathChange] = ()
    relay_mbps: Points = ()  # type: ignore[assignment]


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
    metrics = {**_derived(scenario, players, series, found, paths), **metrics}
    seen = Seen(players, found, paths, _measured(series.get("relay_mbps", []), scenario))
    checks = _judged(scenario, metrics, seen)
    known = scenario.expected_fail
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


def _derived(
    scenario: Scenario,
    players: list[PlayerTrack],
    series: dict[str, Points],
    found: list[FaultWindow],
    paths: list[PathChange],
) -> Metrics:
    """The metrics that follow from players and paths; also fills in each player's ``longer_ms``."""
    longer = longer_ms(scenario, found, paths)
    for player in players:
        way = f"{player.room}/{player.publisher}", player.edge
        player.longer_ms = [round(by_way.get(way, 0.0), 3) for by_way in longer]
    return {
        **player_metrics(players, found, paths),
        "relay_mbps": relay_mbps(_measured(series.get("relay_mbps", []), scenario)),
        "route_changes": count_route_changes(paths, scenario.warmup_s),
        "reroute_ms": quantiles(reroute_times_ms(paths, found), ("p50", "max")),
        "delay_drift_ms": drift(series.get("added_delay_p50_ms", []), scenario.warmup_s),
    }


def _measured(points: Points, scenario: Scenario) -> Points:
    """Those of *points* whose second is within the measured time."""
    return [(t, value) for t, value in points if scenario.warmup_s + 1 <= t <= scenario.duration_s]


def _judged(scenario: Scenario, metrics: Metrics, seen: Seen) -> list[Check]:
    known = scenario.expected_fail
    may_fail = None if known is None else known.metrics
    return [
        judge(expectation, metrics, seen, may_fail=known is not None and _listed(expectation, may_fail))
        for expectation in scenario.expect
    ]


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
    seen: Seen = Seen(),  # noqa: B008
    *,
    may_fail: bool = False,
) -> Check:
    """One expectation, judged by *metrics*, or in its scope by what was *seen*: players, windows, paths.

    What was not measured does not hold.
    """
    scope = expectation.scope
    if scope is not None:
        metrics = {
            **player_metrics(seen.players, seen.windows, seen.paths, scope),
            "relay_mbps": relay_mbps(seen.relay_mbps, scope),
        }
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
    parts += [scope.player] if scope.player is not None else []
    parts += [f"step {scope.step}"] if scope.step is not None else []
    parts += [f"from {scope.from_s:g} s"] if scope.from_s is not None else []
    parts += [f"to {scope.to_s:g} s"] if scope.to_s is not None else []
    parts += [f"fault {scope.fault}"] if scope.fault is not None else []
    parts += ["affected"] if scope.affected else []
    return ", ".join(parts)


# --- the scenario, for readers of the result --------------------------------------------------------


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
