"""Expectations and settings that cannot be meant."""

from __future__ import annotations

from collections.abc import Iterator

from relaymesh.netsim.metrics import METRICS, metric_names
from relaymesh.netsim.scenario.checks.reading import (
    Finding,
    Mapping,
    entries,
    mapping,
    number,
    participants,
    texts,
)
from relaymesh.topology.checks import suggestion
from relaymesh.topology.source import Path

STEPPED = ("settle_ms", "settled_layer", "switch_ms", "switches")  # metrics of stretches of a player's stay


def check_expectations(data: Mapping) -> Iterator[Finding]:
    """Expectations without a bound, of unknown metrics, or of impossible scopes."""
    names = metric_names()
    used: set[str] = set()
    for index, entry in entries(data, "expect"):
        path: Path = ("expect", index)
        metric = entry.get("metric")
        low, high = number(entry, "min"), number(entry, "max")
        if not any(key in entry for key in ("min", "max", "equals")):
            yield path, "no bound: give max, min or equals"
        if low is not None and high is not None and low > high:
            yield (*path, "min"), f"{low:g} is more than max, {high:g}"
        if isinstance(metric, str):
            used |= {metric, metric.partition(".")[0]}
            if metric not in names:
                yield (*path, "metric"), f"no metric named '{metric[:64]}'{_metric_hint(metric, names)}"
            else:
                yield from _scope(path, metric, mapping(entry, "scope"), data)
    for index, name in texts(mapping(data, "expected_fail").get("metrics")):
        if name not in used:
            yield ("expected_fail", "metrics", index), f"nothing is expected of '{name[:64]}'"


def _metric_hint(metric: str, names: list[str]) -> str:
    known = METRICS.get(metric)
    if known is not None and known.quantiles:
        return f"; there are {', '.join(f'{metric}.{name}' for name in known.quantiles)}"
    return suggestion(metric, names)


def _scope(path: Path, metric: str, scope: Mapping, data: Mapping) -> Iterator[Finding]:
    if not scope:
        return
    name = metric.partition(".")[0]
    timed = name == "relay_mbps" and scope.keys() <= {"from_s", "to_s"}
    if not METRICS[name].by_player and not timed:
        yield (*path, "scope"), f"'{metric}' is of the whole run and has no scope{_timed_hint(name)}"
    else:
        yield from _narrower((*path, "scope"), name, scope, data)
    rooms = [entry.get("name") for _, entry in entries(mapping(data, "traffic"), "rooms")]
    room, fault = scope.get("room"), scope.get("fault")
    gaps = metric.startswith(("media_gap_ms", "excess_gap_ms"))
    given = data.get("faults")
    faults = given if isinstance(given, list) else []
    if scope.get("affected") is True and not gaps:
        yield (*path, "scope", "affected"), "only media_gap_ms and excess_gap_ms are known by fault"
    elif scope.get("affected") is True and all(_shows_nothing(entry) for entry in faults):
        yield (*path, "scope", "affected"), "there is no fault that could affect anybody"
    if isinstance(room, str) and room not in rooms:
        yield (*path, "scope", "room"), f"no room named '{room[:64]}'"
    if not isinstance(fault, int):
        return
    if fault >= len(faults):
        yield (*path, "scope", "fault"), f"there is no faults[{fault}]"
    elif not gaps:
        yield (*path, "scope", "fault"), "only media_gap_ms and excess_gap_ms are known by fault"
    elif fault >= 0 and _shows_nothing(faults[fault]):
        yield (*path, "scope", "fault"), f"faults[{fault}] is a clock-skew, which has no gaps of its own"


def _timed_hint(name: str) -> str:
    return " but from_s and to_s" if name == "relay_mbps" else ""


def _narrower(path: Path, name: str, scope: Mapping, data: Mapping) -> Iterator[Finding]:
    """Players, steps and times in a scope."""
    player, step = scope.get("player"), scope.get("step")
    people = [
        entry for _, _, entry in participants(data) if player in (entry.get("name"), entry.get("prefix"))
    ]
    if isinstance(player, str) and not people:
        yield (*path, "player"), f"no participant or group named '{player[:64]}'"
    if isinstance(step, int) and name not in STEPPED:
        yield (*path, "step"), f"only {', '.join(STEPPED[:-1])} and {STEPPED[-1]} are known by step"
    start, end = number(scope, "from_s"), number(scope, "to_s")
    for key in ("from_s", "to_s"):
        if key in scope and name != "relay_mbps":
            yield (*path, key), "only relay_mbps is known by time"
    if start is not None and end is not None and end < start + 1:
        yield (*path, "to_s"), f"{end:g} s is not a second after from_s, {start:g} s"


def _shows_nothing(fault: object) -> bool:
    return isinstance(fault, dict) and fault.get("kind") == "clock-skew"


def check_settings(data: Mapping) -> Iterator[Finding]:
    """Settings that contradict each other."""
    settings = mapping(data, "settings")
    interval, dead = number(settings, "probe_interval_ms", 50.0), number(settings, "dead_after_ms", 200.0)
    if interval is not None and dead is not None and dead < 2 * interval:
        key = "dead_after_ms" if "dead_after_ms" in settings else "probe_interval_ms"
        yield (
            ("settings", key),
            f"dead_after_ms, {dead:g}, is less than two probe intervals of {interval:g} ms",
        )
