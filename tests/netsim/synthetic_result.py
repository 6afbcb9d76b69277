"""Results as a runner makes them, made up from a seed: for tests of verdicts and reports."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from relaymesh.netsim.judge import conclude
from relaymesh.netsim.result import Event, PathChange, PlayerTrack, Points, Result
from relaymesh.netsim.scenario import Scenario, load_scenario
from relaymesh.netsim.scenario.expectations import ExpectedFail
from relaymesh.topology import best_paths_from

SIMULATIONS = Path(__file__).parents[2] / "simulations"


def make_result(
    name: str = "atlantic-cut", *, seed: int = 1, overrides: dict[str, str] | None = None
) -> Result:
    """A run of a shipped scenario as it might have gone; its gaps are too long, as if that were known."""
    scenario = load_scenario(SIMULATIONS / f"{name}.yaml", overrides)
    known = ExpectedFail(reason="made up", metrics=["media_gap_ms", "excess_gap_ms"])
    scenario = replace(scenario, file=scenario.file.model_copy(update={"expected_fail": known}))
    rng = random.Random(seed)
    return conclude(
        scenario,
        mode="simulate",
        seed=seed,
        metrics={
            "trace_sha256": f"{rng.getrandbits(256):064x}",
            "added_delay_ms": {"p50": 0.4, "p99": rng.uniform(4, 12), "p999": rng.uniform(14, 40)},
            "link_loss": 0.004 * rng.random(),
            "overhead": 0.1 + 0.02 * rng.random(),
            "loops": 0,
            "duplicates": 0,
            "path_stretch": 0.001,
            "rtt_ms": {"a→b": {"p10": 1.0, "p50": 1.1, "p90": 1.2, "p99": 1.4}},
            "sent_packets": 40_000,
            "delivered_packets": 399_000,
            "packets_per_cpu_s": 52_000,
        },
        series=_series(scenario, rng),
        players=_players(scenario, rng),
        events=[Event(t=fault.at_s, what=fault.kind, kind="fault") for fault in scenario.faults],
        paths=_paths(scenario),
        replay=f"relaymesh simulate simulations/{name}.yaml --seed {seed}",
    )


def _hurt(scenario: Scenario, t: float) -> bool:
    return any(fault.at_s <= t < fault.at_s + 1.2 for fault in scenario.faults)


def _series(scenario: Scenario, rng: random.Random) -> dict[str, Points]:
    series: dict[str, Points] = {}
    for second in range(1, int(scenario.duration_s)):
        t, hurt = float(second), _hurt(scenario, second)
        for name, value in {
            "delay_p50_ms": 62 + rng.random(),
            "delay_p99_ms": 140 + rng.gauss(0, 3) + 30 * hurt,
            "added_delay_p50_ms": 0.4 + 0.1 * rng.random(),
            "added_delay_p99_ms": 5 + 2 * rng.random() + 20 * hurt,
            "link_loss": 0.001 * rng.random() + 0.2 * hurt,
            "residual_loss": 0.1 * hurt,
            "overhead": 0.1 + 0.01 * rng.random(),
            "route_changes": 12.0 * hurt,
            "offered_mbps": 2.4 + 0.1 * rng.random(),
            "delivered_mbps": 24 + rng.random() - 6 * hurt,
        }.items():
            series.setdefault(name, []).append((t, value))
    series["gap_ms"] = [(f.at_s + 0.8, rng.uniform(500, 900)) for f in scenario.faults for _ in range(9)]
    return series


def _players(scenario: Scenario, rng: random.Random) -> list[PlayerTrack]:
    people = {(person.room, person.name): person for person in scenario.participants}
    tracks = []
    for person in scenario.participants:
        for name in person.play:
            source = people[person.room, name]
            for track in source.publish:
                gap = (
                    rng.uniform(500, 900)
                    if source.node != person.node and rng.random() < 0.4
                    else 5 * rng.random()
                )
                tracks.append(
                    PlayerTrack(
                        room=person.room,
                        publisher=name,
                        player=person.name,
                        kind=track.kind,
                        ingress=source.node,
                        edge=person.node,
                        sent=1800,
                        lost=round(gap / 20) if gap > 100 else 0,
                        frozen_ms=gap if track.kind == "video" and gap > 100 else 0.0,
                        first_frame_ms=rng.uniform(60, 240),
                        gaps_ms=[gap] * max(1, len(scenario.faults)),
                        added_delay_ms={"p50": 0.3, "p99": rng.uniform(2, 9), "p999": 12.0},
                        delay_ms={"p50": rng.uniform(10, 120), "p99": 130.0},
                    )
                )
    return tracks


def _paths(scenario: Scenario) -> list[PathChange]:
    """The best paths, and with a cut link's end avoided from 0.7 s after the fault."""
    found = []
    for source in {person.node: person for person in scenario.participants if person.publish}.values():
        best = best_paths_from(scenario.topology, source.node)
        for edge in sorted({person.node for person in scenario.participants} - {source.node}):
            stream, path = f"{source.room}/{source.name}", list(best[edge].nodes)
            found.append(PathChange(t=1.0, stream=stream, edge=edge, path=path))
            if scenario.faults and len(path) > 2:
                at = scenario.faults[0].at_s + 0.7
                found.append(PathChange(t=at, stream=stream, edge=edge, path=[source.node, edge]))
    return found
