"""How long an operator waits for an edit of a big mesh, and everything else for the operator.

In: a number of nodes and a seed. Out: CPU times of what the API does: it prepares
and previews an edit in a thread, and lets it hold in the loop, where plan and tables follow.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from relaymesh.bench.answering import AnsweringMesh
from relaymesh.controller.editing import Edit, prepare
from relaymesh.controller.policy import TopologyPolicy
from relaymesh.controller.preview import Situation, preview
from relaymesh.protocol.messages import LinkReport, Report
from relaymesh.runtime.process import settle_heap
from relaymesh.topology import Topology, parse_topology
from relaymesh.topology.edits import with_edits

REGIONS = 20
EDITS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "price": [{"between": ["r1", "r2"], "price_per_gb": 0.1}],
    "extra_cost": [{"between": ["r5", "r6"], "extra_cost_ms": 50}],
    "forbid": [{"between": ["r3", "r4"], "peering": "never"}],
    "allow": [{"between": ["r3", "r4"], "peering": "private", "delay_ms": 10}],
}


@dataclass(slots=True)
class EditTimes:
    """CPU time."""

    longest_s: float = 0.0  # of all calls in the loop
    metrics: dict[str, float] = field(default_factory=dict)


def measure_edits(nodes: int, seed: int) -> EditTimes:
    """Edit a mesh of *nodes* in :data:`REGIONS` regions, of which any two may peer."""
    rng = random.Random(seed)
    mesh = AnsweringMesh(TopologyPolicy(_topology(rng)))
    for node in range(nodes):
        mesh.join(node, f"r{node % REGIONS}")
    mesh.rest(1.0)
    neighbours: dict[int, list[int]] = {}
    for low, high in mesh.core.situation().neighbours:
        neighbours.setdefault(low, []).append(high)
        neighbours.setdefault(high, []).append(low)
    for node, peers in neighbours.items():
        reported = (LinkReport(peer, True, _rtt_ms(node, peer), 0.0, 0.0, 0.0, 1, 1) for peer in peers)
        mesh.say(node, Report(tuple(reported)))
    mesh.run(mesh.core.active_generation + 1)
    mesh.rest(1.0)
    settle_heap()  # as the process does after its start
    times = EditTimes()
    for name, links in EDITS.items():
        topology = mesh.core.topology
        assert topology is not None, "it was given one"
        edited = with_edits(topology, links)
        mesh.reset()
        situation = _situation(mesh)
        started = time.thread_time()
        edit = prepare(edited, topology)
        preview(situation, edited)
        times.metrics[f"topology_plan_{name}_ms"] = (time.thread_time() - started) * 1000
        mesh.work(partial(_apply, mesh, edit))
        mesh.rest(3.0)
        times.longest_s = max(times.longest_s, mesh.longest_s)
        times.metrics[f"topology_apply_{name}_ms"] = mesh.spent_s * 1000
    return times


def _apply(mesh: AnsweringMesh, edit: Edit) -> None:
    mesh.core.apply_topology(edit, mesh.now)


def _situation(mesh: AnsweringMesh) -> Situation:
    found: list[Situation] = []
    parts = mesh.core.situation_in_parts()

    def part() -> None:
        try:
            next(parts)
        except StopIteration as end:
            found.append(end.value)

    while not found:
        mesh.work(part)
    return found[0]


def _topology(rng: random.Random) -> Topology:
    names = [f"r{number}" for number in range(REGIONS)]
    return parse_topology(
        json.dumps(
            {
                "version": 1,
                "name": "big",
                "regions": [
                    {"name": name, "latitude": rng.uniform(-60, 60), "longitude": rng.uniform(-170, 170)}
                    for name in names
                ],
                "links": [
                    {"between": [one, other], "delay_ms": rng.uniform(5, 100)}
                    for number, one in enumerate(names)
                    for other in names[:number]
                ],
            }
        ),
        "big.json",
    )


def _rtt_ms(one: int, other: int) -> float:
    """The same from both ends, and all but random."""
    return 10.0 + (one * other * 31 + one + other) % 97
