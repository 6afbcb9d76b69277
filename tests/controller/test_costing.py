"""The stages of costs together: what is kept link by link is what all of them say at any time."""

from __future__ import annotations

import itertools
import random
from typing import get_args

import pytest

from relaymesh.controller.costing import LinkCosts
from relaymesh.controller.damping import HOLD_S, PROBATION_MS
from relaymesh.controller.lsdb import Direction, LinkState
from relaymesh.controller.policy import OpenMesh, Placed
from relaymesh.controller.registry import Registry
from relaymesh.controller.tokens import make_join_token
from relaymesh.protocol.messages import CONTROL_VERSION, Address, Join, LinkReport
from relaymesh.topology import Objective

NODES = range(6)
LINKS = list(itertools.permutations(NODES, 2))


class Priced(OpenMesh):
    """Crossing a border costs money, and some links the operator dislikes."""

    def price_per_gb(self, source: Placed, target: Placed) -> float:
        return 0.08 if source.region != target.region else 0.0

    def extra_cost_ms(self, source: Placed, target: Placed) -> float:
        return 7.0 if source.name == "n1" else 0.0


def costs_of(objective: Objective) -> LinkCosts:
    policy = Priced()
    registry = Registry(policy, 100)
    for node in NODES:
        name = f"n{node}"
        token = make_join_token("a secret that only tests use, long", name=name)
        address = Address("10.0.0.1", 4000)
        registry.join(
            Join(CONTROL_VERSION, name, "ab"[node % 2], token, f"boot-{name}", address, "http://x", node),
            node,
            0.0,
        )
    return LinkCosts(policy, registry, objective)


def all_at_once(costs: LinkCosts, now: float) -> dict[Direction, float]:
    """What the stages say of every link, looked at anew."""
    unpriced = {}
    for link, planned in costs.book.planned().items():
        if not costs.retiring.holds(link):
            unpriced[link] = planned + costs.damping.added_ms(link, now) + costs.load.load_ms(link)
    return costs.pricing.weigh(unpriced)


@pytest.mark.parametrize("objective", get_args(Objective))
@pytest.mark.parametrize("seed", range(5))
def test_weights_are_at_any_time_what_the_stages_say(seed: int, objective: Objective) -> None:
    rng, costs, now = random.Random(seed), costs_of(objective), 0.0
    states: dict[Direction, LinkState] = {}
    known: dict[Direction, float] = {}
    for _ in range(400):
        now += rng.choice([0.0, 0.05, 1.0, 5.0])
        if (due := costs.next_timeout()) is not None and now >= due:
            costs.handle_timeout(now)
        what = rng.randrange(6)
        if what < 3:  # reports: slower, lossy, dead, alive; of one direction
            links = rng.sample(LINKS, rng.randrange(1, 4))
            for link in links:
                loss = rng.choice([0.0, 0.0, 0.04])
                states[link] = LinkState(rng.random() < 0.8, rng.choice([5.0, 20.0, 80.0]), 1.0, loss)
            costs.handle_changes(links, states.get, now)
        elif what == 3:
            peer = rng.randrange(1, 6)
            rates = LinkReport(
                peer, True, 9.0, 0.0, 0.0, 0.0, 1, 1, used_kbps=rng.choice([1.0, 9.9e3]), available_kbps=1e4
            )
            costs.handle_report(0, [rates], now)
        elif what == 4:
            costs.retiring.keep_only([])
            costs.retiring.begin([(0, rng.randrange(1, 6))], now)
            costs.handle_edited(costs.book.links(), now)
            costs.weights.reprice()
        else:
            node = rng.choice(NODES)
            costs.forget(node)
            gone = [link for link in LINKS if node in link]
            for link in gone:
                states.pop(link, None)
            costs.handle_changes(gone, states.get, now)
        expected = all_at_once(costs, now)
        assert costs.weights.costs_ms == pytest.approx(expected)
        differ = {link for link in LINKS if known.get(link) != costs.weights.costs_ms.get(link)}
        if rng.random() < 0.5:
            assert costs.weights.poll_changed() >= differ
            known = costs.weights.costs_ms


def test_both_directions_are_on_probation_whichever_died() -> None:
    costs = costs_of("latency")
    states = {(0, 1): LinkState(True, 20.0, 0.0, 0.0), (1, 0): LinkState(True, 20.0, 0.0, 0.0)}
    costs.handle_changes(states, states.get, 0.0)
    for up in (False, True):
        states[0, 1] = LinkState(up, 20.0, 0.0, 0.0)
        assert costs.handle_changes([(0, 1)], states.get, 10.0)
    assert min(costs.weights.costs_ms.values()) > PROBATION_MS
    assert costs.handle_timeout(10.0 + HOLD_S)
    assert max(costs.weights.costs_ms.values()) < 100.0
