"""How much longer planned paths are than the best there are, when all that is known are noisy reports.

In: the true state of every link, which may change, and a seed. Out: by how much
the paths planned from reports cost more, by the true state, than the paths that
one who knew it would choose. Smoothing, hysteresis and step detection are those
of nodes and the controller; time is virtual. Reports are as noisy as a node's: an RTT that is
the median of some probes, a jitter of as few, and what a node makes of the losses
among a link's datagrams (of probes alone, or of media) so far.
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
from relaymesh.protocol.lossiness import Lossiness

CHANGED = 0.1  # of all links
States = dict[Direction, LinkState]


@dataclass(frozen=True, slots=True)
class Watched:
    """How links are watched."""

    datagrams: int  # a second and direction, whose fate is known
    settled_s: float  # after a change, until paths are looked at: what shows among so many is planned by then


IDLE = Watched(20, 60.0)  # probes alone
BUSY = Watched(140, 20.0)  # and the packets of one voice and one camera, of which acknowledgements tell


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


def follow_changes(
    states: States, rng: random.Random, changes: int = 3, watched: Watched = IDLE
) -> list[Quality]:
    """The quality of paths after each of some *changes*, once they settled."""
    book = CostBook(lambda direction: 0.0)
    losses = {direction: Lossiness() for direction in states}
    routing, now, found = Routing(), 0.0, []
    for _ in range(changes + 1):
        for _ in range(int(watched.settled_s)):
            now += 1.0
            book.handle_timeout(now)
            for direction, state in states.items():
                book.update(direction, _measured(state, losses[direction], watched.datagrams, rng), now)
        found.append(_quality(_tables(routing, book.planned()), states))
        states = changed(states, rng)
    return found


def quality_of_costs(costs_ms: dict[Direction, float], states: States) -> Quality:
    """The quality of the paths that these costs lead to."""
    return _quality(_tables(Routing(), costs_ms), states)


def _measured(state: LinkState, losses: Lossiness, datagrams: int, rng: random.Random) -> LinkState:
    """One second's report."""
    lost = sum(rng.random() < state.loss for _ in range(datagrams)) if state.loss else 0
    losses.note(datagrams, lost, lost)
    return LinkState(
        True,
        state.rtt_ms * rng.gauss(1.0, 0.02) + abs(rng.gauss(0.0, 0.2)),
        state.jitter_ms * rng.uniform(0.7, 1.3),
        losses.loss,
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
