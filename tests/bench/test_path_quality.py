"""Paths planned from noisy reports against the offline optimum of the true link state."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from relaymesh.bench.path_quality import (
    BUSY,
    IDLE,
    Quality,
    Watched,
    draw_states,
    follow_changes,
    quality_of_costs,
)
from relaymesh.bench.routing import draw_mesh
from relaymesh.controller.lsdb import LinkState
from relaymesh.topology import load_topology

IBM_CLOUD = Path(__file__).parents[2] / "topologies" / "ibm-cloud.yaml"

WATCHED = pytest.mark.parametrize("watched", [IDLE, BUSY], ids=["idle", "busy"])


def check(found: list[Quality]) -> None:
    assert all(quality.mean <= 0.02 for quality in found), found
    assert all(quality.p99 <= 0.25 for quality in found), found


@WATCHED
@pytest.mark.parametrize("seed", range(5))
def test_on_ibm_cloud_paths_are_within_two_percent_of_the_optimum(seed: int, watched: Watched) -> None:
    topology, rng = load_topology(IBM_CLOUD), random.Random(seed)
    names = [region.name for region in topology.regions]
    states = {}
    for a, one in enumerate(names):
        for b, other in enumerate(names):
            link = topology.link(one, other) if a != b else None
            if link is not None:
                states[a, b] = LinkState(True, link.rtt_ms, rng.uniform(0.1, 4.0), link.loss)
    assert len(states) == 90
    check(follow_changes(states, rng, watched=watched))


@WATCHED
@pytest.mark.parametrize(("nodes", "seed"), [(20, 1), (20, 2), (20, 3), (60, 4), (60, 5), (200, 6)])
def test_on_random_meshes_too(nodes: int, seed: int, watched: Watched) -> None:
    rng = random.Random(seed)
    pairs = draw_mesh(nodes, 4 * nodes, rng)
    check(follow_changes(draw_states(pairs, rng), rng, changes=2, watched=watched))


def test_it_can_fail() -> None:
    """Paths that know nothing of a change are worse than that."""
    rng = random.Random(1)
    states = draw_states(draw_mesh(30, 120, rng), rng)
    worse = {way: replace(state, rtt_ms=state.rtt_ms * rng.choice((1, 4))) for way, state in states.items()}
    stale = quality_of_costs({way: s.rtt_ms for way, s in states.items()}, worse)
    assert stale.mean > 0.02
