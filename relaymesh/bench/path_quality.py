"""How much longer planned paths are than the best there are, when all that is known are noisy reports.

In: the true state of every link, which may change, and a seed. Out: by how much
the paths planned from reports cost more, by the true state, than the paths that
one who knew it would choose. Smoothing, hysteresis and step detection are those
of the controller; time is virtual. Reports are as noisy as a node's: an RTT that is
the median of some probes, a jitter of as few, losses counted out of a thousand.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from relaymesh.controller.lsdb import Direction, LinkState
from relaymesh.controller.metric import CostBook, cost_of
from relaymesh.controller.paths import follow
from relaymesh.controller.plan import Tables
from relaymesh.controller.routing import Routing

# The losses of one report are counted among these: some seconds of a link that carries a few streams,
# where acknowledgements tell of every datagram. Among a hundred (an idle link's probes) the mean
# excess is 1 to 3 %.
DATAGRAMS = 1000
SETTLED_S = 20.0  # after a change: the step is confirmed and planned long since
CHANGED = 0.1  # of all links
States = dict[Direction, LinkState]


@dataclass(frozen=True, slots=True)
class Quality:
    """Costs above the least possible, as fractions of it, over all ordered pairs of nodes."""

    mean: float
    p99: float
    worst: float


def draw_states(pairs: Mapping[tuple[int, int], float], rng: random.Random) -> States:
    """True states for links with these round trips; some lose, and not the same both ways."""
    states: States = {}
    for (one, other), rtt_ms in pairs.items():
        for direction in ((one, other), (other, one)):
            loss = rng.choice((0.0, 0.0, 0.0, 0.001, 0.005, 0.02))
            states[direction] = LinkState(True, rtt_ms, rng.uniform(0.1, 4.0), loss)
    return states


def changed(states: States, rng: random.Random) -> States:
    """Some links become slower, some quicker, some lossy."""
    after = dict(states)
    for direction in rng.sample(sorted(states), max(1, int(CHANGED * len(states)))):
        state = states[direction]
        if rng.random() < 0.3:
            after[direction] = replace(state, loss=rng.uniform(0.01, 0.05))
        else:
            after[direction] = replace(state, rtt_ms=state.rtt_ms * rng.choice((0.6, 1.4, 2.0)))
    return after


def follow_changes(states: States, rng: random.Random, changes: int = 3) -> list[Quality]:
    """The quality of paths after each of some *changes*, once they settled."""
    book = CostBook(lambda direction: 0.0)
    routing, now, found = Routing(), 0.0, []
    for _ in range(changes + 1):
        for _ in range(int(SETTLED_S)):
            now += 1.0
            book.handle_timeout(now)
            for direction, state in states.items():
                book.update(direction, _measured(state, rng), now)
        found.append(_quality(_tables(routing, book.planned()), states))
        states = changed(states, rng)
    return found


def quality_of_costs(costs_ms: dict[Direction, float], states: States) -> Quality:
    """The quality of the paths that these costs lead to."""
    return _quality(_tables(Routing(), costs_ms), states)


def _measured(state: LinkState, rng: random.Random) -> LinkState:
    lost = sum(rng.random() < state.loss for _ in range(DATAGRAMS)) if state.loss else 0
    return LinkState(
        True,
        state.rtt_ms * rng.gauss(1.0, 0.02) + abs(rng.gauss(0.0, 0.2)),
        state.jitter_ms * rng.uniform(0.7, 1.3),
        lost / DATAGRAMS,
    )


def _tables(routing: Routing, costs_ms: dict[Direction, float]) -> Tables:
    routing.begin(sorted({end for link in costs_ms for end in link}), costs_ms)
    while True:
        routes = routing.step()
        if routes is not None:
            return routes.tables


def _quality(tables: Tables, states: States) -> Quality:
    truth = {direction: cost_of(state, 0.0).total_ms for direction, state in states.items()}
    best = Routing()
    optimum = _tables(best, truth)
    excesses = []
    for start, table in optimum.items():
        for end in table:
            least = _true_cost(optimum, truth, start, end)
            excesses.append(_true_cost(tables, truth, start, end) / least - 1.0)
    excesses.sort()
    return Quality(sum(excesses) / len(excesses), excesses[int(0.99 * (len(excesses) - 1))], excesses[-1])


def _true_cost(tables: Tables, truth: Mapping[Direction, float], start: int, end: int) -> float:
    path = follow(tables, start, end)
    assert path is not None, "the links are all up"
    return sum(truth[hop] for hop in pairwise(path))
