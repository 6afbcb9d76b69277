"""How fast the controller plans for a big mesh, and how long it keeps everything else waiting.

In: a size and a seed. Out: measurements, and whether each is within its bound.
A real :class:`~relaymesh.controller.core.ControllerCore` is driven as its
process drives it, with the messages of nodes that answer, in virtual time: only
the work is measured, as CPU time of this thread, message encoding included.
The longest of all calls is what one would wait for the loop at worst.
"""

from __future__ import annotations

import gc
import json
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import networkx as nx

from relaymesh.bench import path_quality
from relaymesh.bench.answering import AnsweringMesh
from relaymesh.bench.edits import measure_edits
from relaymesh.controller.policy import OpenMesh, Placed
from relaymesh.protocol.messages import (
    Forward,
    LinkReport,
    ParticipantName,
    PublicationInfo,
    Publish,
    Report,
    Subscribe,
    TrackInfo,
)
from relaymesh.runtime.process import settle_heap

_STEPS = 1_000_000  # more than any run takes
Pair = tuple[int, int]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Size:
    """What is measured."""

    nodes: int = 1000
    links: int = 8000
    changes: int = 20  # links that die, links that slow, nodes that die: one after the other
    rooms: int = 10_000
    tracks: int = 100_000
    joins: int = 20_000
    quality_nodes: tuple[int, ...] = (20, 50, 100, 200)  # meshes whose paths are compared with the best
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Check:
    """One bound."""

    name: str
    value: float
    limit: float
    unit: str

    @property
    def passed(self) -> bool:
        return self.value < self.limit


@dataclass(slots=True)
class Findings:
    """All that was measured; times are CPU time."""

    checks: list[Check] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


def draw_mesh(nodes: int, links: int, rng: random.Random) -> dict[Pair, float]:
    """Pairs of nodes on a map, most of them near each other, and their round trips, ms."""
    places = [(rng.random(), rng.random()) for _ in range(nodes)]
    near = max(2, round(0.6 * links / nodes))
    pairs: set[Pair] = set()
    for node, place in enumerate(places):
        by_distance = sorted((math.dist(place, other), at) for at, other in enumerate(places))
        pairs |= {(min(node, at), max(node, at)) for _, at in by_distance[1 : near + 1]}
    for _ in range(_STEPS):
        if len(pairs) >= links:
            break
        one, other = rng.sample(range(nodes), 2)
        pairs.add((min(one, other), max(one, other)))
    chosen = sorted(pairs)
    rng.shuffle(chosen)
    return {
        pair: 0.5 + 120 * math.dist(places[pair[0]], places[pair[1]]) * rng.uniform(1, 1.3)
        for pair in sorted(chosen[:links])
    }


class _DrawnMesh(OpenMesh):
    """Only the drawn pairs peer."""

    def __init__(self, pairs: dict[Pair, float]) -> None:
        self._pairs = pairs

    def may_peer(self, one: Placed, other: Placed) -> bool:
        ends = int(one.name[1:]), int(other.name[1:])
        return (min(ends), max(ends)) in self._pairs

    def lists_pairs(self) -> bool:
        return True


def measure(size: Size, say: Callable[[str], None] = lambda _: None) -> Findings:
    """Everything; *say* is told what is being done."""
    thresholds = gc.get_threshold()
    try:
        return _measure_all(size, say)
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)


def _measure_all(size: Size, say: Callable[[str], None]) -> Findings:
    findings = Findings()
    say(f"drawing {size.nodes} nodes, {size.links} links")
    rng = random.Random(size.seed)
    pairs = draw_mesh(size.nodes, size.links, rng)
    say("planning")
    _measure_plans(size, pairs, rng, findings)
    say("edits of the topology")
    edits = measure_edits(size.nodes, size.seed)
    findings.metrics |= edits.metrics
    findings.checks.append(
        Check("topology edited: longest wait for the loop", edits.longest_s * 1000, 10.0, "ms")
    )
    say("paths from noisy reports")
    _measure_quality(size, findings)
    say(f"directory: {size.tracks} tracks in {size.rooms} rooms")
    _measure_directory(size, rng, findings)
    return findings


def _measure_plans(size: Size, pairs: dict[Pair, float], rng: random.Random, findings: Findings) -> None:
    mesh = AnsweringMesh(_DrawnMesh(pairs))
    for node in range(size.nodes):
        mesh.join(node)
    mesh.rest(1.0)
    settle_heap()  # as the process does after its start
    mesh.reset()
    for node in range(size.nodes):
        mesh.say(node, _report(node, pairs))
    findings.metrics["reports_ms"] = mesh.spent_s * 1000
    reports_stall = mesh.longest_s
    mesh.reset()
    before = mesh.core.active_generation
    mesh.run(before + 1)
    full_ms, stall = mesh.spent_s * 1000, max(mesh.longest_s, reports_stall)
    findings.metrics |= {"full_plan_ms": full_ms, **mesh.bytes_told("full_plan")}
    mesh.reset()
    mesh.rest(1.0)
    stall = max(stall, mesh.longest_s)
    findings.metrics |= {"full_detours_ms": mesh.spent_s * 1000, **mesh.bytes_told("full_detours")}
    worst = 0.0
    for kind, affect in (("dies", _die), ("slows", _slow), ("node_dies", _die_with_node)):
        times: list[float] = []
        active: list[float] = []
        follow: list[float] = []
        for _ in range(size.changes):
            ends = affect(pairs, rng)
            mesh.reset()
            before = mesh.core.active_generation
            for node in ends:
                mesh.say(node, _report(node, pairs))
            mesh.run(before + 1)
            times.append(mesh.tables_out_s * 1000)
            active.append(mesh.spent_s * 1000)
            told = mesh.bytes_told(f"{kind}_tables")
            stall = max(stall, mesh.longest_s)
            mesh.reset()
            mesh.rest(0.5)
            follow.append(mesh.spent_s * 1000)
            stall = max(stall, mesh.longest_s)
        findings.metrics |= {
            f"{kind}_ms_median": sorted(times)[len(times) // 2],
            f"{kind}_ms_max": max(times),
            f"{kind}_active_ms_max": max(active),  # with a thousand answers, and the word to use them
            f"{kind}_detours_ms_median": sorted(follow)[len(follow) // 2],
            **told,
        }
        if kind != "node_dies":
            worst = max(worst, *times)
    findings.metrics["networkx_full_plan_ms"] = _networkx_ms(size.nodes, pairs)
    findings.metrics["networkx_ratio"] = findings.metrics["networkx_full_plan_ms"] / max(full_ms, 1e-9)
    findings.checks += [
        Check("full plan: reports in to activation out", full_ms, 1000.0, "ms"),
        Check("one link dies or slows: deltas out, worst", worst, 100.0, "ms"),
        Check("longest wait for the loop", stall * 1000, 10.0, "ms"),
    ]


def _die(pairs: dict[Pair, float], rng: random.Random) -> tuple[int, ...]:
    """Kill a link; who reports it."""
    pair = _alive(pairs, rng)
    pairs[pair] = 0.0
    return pair


def _slow(pairs: dict[Pair, float], rng: random.Random) -> tuple[int, ...]:
    """Make a link slower, so much that it counts at once."""
    pair = _alive(pairs, rng)
    pairs[pair] += 80.0
    return pair


def _die_with_node(pairs: dict[Pair, float], rng: random.Random) -> tuple[int, ...]:
    """Kill all links of a node; who reports it: its neighbours."""
    node = _alive(pairs, rng)[0]
    ends = []
    for pair in [pair for pair, rtt_ms in pairs.items() if node in pair and rtt_ms]:
        pairs[pair] = 0.0
        ends.append(pair[0] + pair[1] - node)
    return tuple(ends)


def _alive(pairs: dict[Pair, float], rng: random.Random) -> Pair:
    return rng.choice([pair for pair, rtt_ms in pairs.items() if rtt_ms])


def _report(node: int, pairs: dict[Pair, float]) -> Report:
    links = []
    for pair, rtt_ms in pairs.items():
        if node in pair:
            peer = pair[0] + pair[1] - node
            links.append(LinkReport(peer, rtt_ms > 0.0, rtt_ms, 0.0, 0.0, 0.0, 1, 1))
    return Report(tuple(links))


def _networkx_ms(nodes: int, pairs: dict[Pair, float], sources: int = 10) -> float:
    """What the distances alone would take there, from a few sources."""
    graph: nx.DiGraph[int] = nx.DiGraph()
    for (one, other), rtt_ms in pairs.items():
        graph.add_edge(one, other, weight=rtt_ms)
        graph.add_edge(other, one, weight=rtt_ms)
    started = time.thread_time()
    for source in sorted(graph)[:sources]:
        nx.single_source_dijkstra_path_length(graph, source)
    return (time.thread_time() - started) * 1000 * nodes / sources


def _measure_quality(size: Size, findings: Findings) -> None:
    worst = 0.0
    for nodes in size.quality_nodes:
        rng = random.Random(size.seed * 1000 + nodes)
        states = path_quality.draw_states(draw_mesh(nodes, 4 * nodes, rng), rng)
        found = path_quality.follow_changes(states, rng)
        worst = max(worst, *(quality.mean for quality in found))
        findings.metrics[f"paths_{nodes}_nodes_over_optimum_percent"] = 100 * max(q.mean for q in found)
        findings.metrics[f"paths_{nodes}_nodes_p99_percent"] = 100 * max(q.p99 for q in found)
    findings.checks.append(Check("paths over the offline optimum, mean", 100 * worst, 2.0, "%"))


def _measure_directory(size: Size, rng: random.Random, findings: Findings) -> None:
    nodes, in_room = 100, 5
    streams = size.rooms * in_room
    per_stream = max(1, size.tracks // streams)
    mesh = AnsweringMesh(OpenMesh())
    for node in range(nodes):
        mesh.join(node)
    mesh.rest(2.0)
    started = time.thread_time()
    for number in range(streams):
        tracks = tuple(
            TrackInfo(track, "video" if track else "audio", "VP8" if track else "opus", 90_000)
            for track in range(per_stream)
        )
        stream = PublicationInfo(f"room-{number // in_room}", f"p{number % in_room}", tracks)
        mesh.say(number % nodes, Publish(number, stream))
    findings.metrics["publish_us"] = (time.thread_time() - started) * 1e6 / streams
    settle_heap()  # as the process does after its start
    times: list[float] = []
    forwards = 0
    for number in range(size.joins):
        name = ParticipantName(f"room-{rng.randrange(size.rooms)}", f"p{rng.randrange(in_room)}")
        mesh.reset()
        said = mesh.say(rng.randrange(nodes), Subscribe(number, name))
        if any(isinstance(message, Forward) for message in said):
            forwards += 1
            times.append(mesh.spent_s * 1000)
    times.sort()
    findings.metrics |= {
        "directory_tracks": streams * per_stream,
        "directory_joins": forwards,
        "join_forward_ms_p50": times[len(times) // 2],
        "join_forward_ms_p99": times[int(len(times) * 0.99)],
        "join_forward_ms_max": times[-1],
    }
    findings.checks.append(Check("join to forward command, p99", times[int(len(times) * 0.99)], 50.0, "ms"))


def table(findings: Findings) -> str:
    """For people."""
    lines = [
        f"{'pass' if check.passed else 'FAIL'}  {check.name:42} {check.value:10.2f} {check.unit}"
        f"  (less than {check.limit:g})"
        for check in findings.checks
    ]
    lines += ["", *(f"{name:36} {value:14,.2f}" for name, value in findings.metrics.items())]
    return "\n".join(lines)


def to_json(findings: Findings) -> str:
    """For machines: ``passed``, ``checks``, ``metrics``."""
    checks = [
        {"name": c.name, "value": c.value, "limit": c.limit, "unit": c.unit, "passed": c.passed}
        for c in findings.checks
    ]
    return json.dumps({"passed": findings.passed, "checks": checks, "metrics": findings.metrics}, indent=1)
