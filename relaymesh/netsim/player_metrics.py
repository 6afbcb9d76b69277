"""The metrics that follow from what players had and which ways media took.

In: player tracks, fault windows, path changes. Out: metrics by name, of all players or of those in a scope.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import inf

from relaymesh.netsim.metrics import METRICS, quantiles
from relaymesh.netsim.result import FaultWindow, Metrics, PathChange, PlayerTrack, Points
from relaymesh.netsim.scenario.expectations import Scope


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
        "longest_freeze_ms": quantiles(p.longest_freeze_ms for p in chosen if p.kind == "video"),
        **_layers(chosen, scope),
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
    named = scope.player
    return (
        scope.room in (None, player.room)
        and scope.kind in (None, player.kind)
        and (named is None or player.player == named or player.player.startswith(f"{named}-"))
    )


def _layers(players: Iterable[PlayerTrack], scope: Scope | None) -> Metrics:
    """When each player settled on which layer, by the stretches of its stay."""
    wanted = scope.step if scope is not None else None
    stays = [
        (player, start, end)
        for player in players
        for index, (start, end) in enumerate(player.stretches)
        if wanted in (None, index)
    ]
    settled = [found for player, *stay in stays if (found := _settled(player.layers, *stay)) is not None]
    switches = [ms for player, start, end in stays for at, ms in player.switches if start <= at < end]
    return {
        "switch_ms": quantiles(switches, METRICS["switch_ms"].quantiles),
        "switches": len(switches),
        "settle_ms": quantiles((after for after, _ in settled), METRICS["settle_ms"].quantiles),
        "settled_layer": quantiles((layer for _, layer in settled), METRICS["settled_layer"].quantiles),
    }


def _settled(changes: Sequence[tuple[float, int, int]], start: float, end: float) -> tuple[float, int] | None:
    """How long after *start* (ms) the layer was shown that was shown at *end*, and which it is."""
    shown = [change for change in changes if change[0] < end]
    if not shown:
        return None
    at, encoding, spatial = shown[-1]
    return max(0.0, at - start) * 1000, encoding + spatial  # a track has several of one only


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


def relay_mbps(points: Points, scope: Scope | None = None) -> dict[str, float | None]:
    """Quantiles of the rate into relay links by the second; *points* stand at the ends of their seconds."""
    start = scope.from_s if scope is not None and scope.from_s is not None else 0.0
    end = scope.to_s if scope is not None and scope.to_s is not None else inf
    names = METRICS["relay_mbps"].quantiles
    return quantiles((value for t, value in points if start + 1 <= t <= end), names)


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
