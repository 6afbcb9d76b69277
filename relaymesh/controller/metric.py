"""The metric of a link: from measurements to milliseconds of expected delivery time.

In: the state of a directed link. Out: its cost, term by term, and the cost the
planner uses. The two differ on purpose: the planner's moves in steps
(:mod:`relaymesh.controller.steps`), so that noise (a busy host's above all) does
not move routes, while a link that comes up or goes down counts at once. Costs
are never zero, which is what makes every shortest path free of loops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace

from relaymesh.controller.lsdb import Direction, LinkState
from relaymesh.controller.parts import Parts, gathered
from relaymesh.controller.steps import Measured, Steps

HOP_MS = 0.25  # receiving, opening, sealing and sending at one node; also the least a link can cost
# Jitters of a path's links are independent and add in quadrature: half of each is
# nearer to that, for two to four hops, than the whole.
JITTER_WEIGHT = 0.5
JITTER_CAP_MS = 50.0  # beyond this a packet counts as late, which loss already weighs
# A lost packet comes late by about one round trip of repair, or not at all: at
# 1 % loss this weighs 4 ms, at 5 % 21 ms.
LOSS_WEIGHT_MS = 400.0
LOSS_CAP = 0.95  # keeps the term finite; a link that loses this much is as bad as none


@dataclass(frozen=True, slots=True)
class CostTerms:
    """One directed link's cost, explained; all in milliseconds."""

    latency_ms: float  # half the round trip: the two clocks are never compared
    jitter_ms: float
    loss_ms: float
    extra_ms: float  # the operator's
    hop_ms: float = HOP_MS

    @property
    def total_ms(self) -> float:
        return self.latency_ms + self.jitter_ms + self.loss_ms + self.extra_ms + self.hop_ms


def cost_of(state: LinkState, extra_cost_ms: float) -> CostTerms:
    """The cost of a link in *state*, with what the operator adds."""
    loss = min(state.loss, LOSS_CAP)
    return CostTerms(
        latency_ms=state.rtt_ms / 2,
        jitter_ms=min(state.jitter_ms, JITTER_CAP_MS) * JITTER_WEIGHT,
        loss_ms=loss / (1 - loss) * LOSS_WEIGHT_MS,
        extra_ms=max(0.0, extra_cost_ms),
    )


class CostBook:
    """The cost of every link that is up: as measured, and as planned with."""

    def __init__(self, extra_cost_ms: Callable[[Direction], float]) -> None:
        self._extra_cost_ms = extra_cost_ms
        self._terms: dict[Direction, CostTerms] = {}
        self._steps = Steps()

    def update(self, direction: Direction, state: LinkState | None, now: float) -> bool:
        """Take in what *direction* is like now (None: forgotten); whether the planner must know."""
        if state is None or not state.up:
            self._terms.pop(direction, None)
            return self._steps.forget(direction)
        known = self._terms.get(direction)
        terms = self._terms[direction] = cost_of(state, self._extra_cost_ms(direction))
        if known is not None and terms.extra_ms != known.extra_ms:
            # A decision, no measurement; :meth:`handle_policy` is on its way.
            self._steps.shift(direction, terms.extra_ms - known.extra_ms)
        return self._steps.update(direction, Measured(terms.total_ms, terms.loss_ms, terms.jitter_ms), now)

    def links(self) -> list[Direction]:
        """All directions that are up."""
        return list(self._terms)

    def handle_policy(self, links: Iterable[Direction]) -> None:
        """Take in another extra cost of these *links*: planned costs follow at once, as it is no noise."""
        for direction in links:
            terms = self._terms.get(direction)
            extra_ms = max(0.0, self._extra_cost_ms(direction))
            if terms is not None and extra_ms != terms.extra_ms:
                self._steps.shift(direction, extra_ms - terms.extra_ms)
                self._terms[direction] = replace(terms, extra_ms=extra_ms)

    def next_timeout(self) -> float | None:
        """Time at which the next departure is old enough to be a step."""
        return self._steps.next_timeout()

    def handle_timeout(self, now: float) -> list[Direction]:
        """Take the steps that are confirmed; the directions the planner must know of."""
        return self._steps.handle_timeout(now)

    def planned(self) -> dict[Direction, float]:
        """Milliseconds per direction that is up, as the planner uses them; a copy."""
        return self._steps.planned()

    def planned_ms(self, direction: Direction) -> float | None:
        """Planned cost of *direction*; None when it is down."""
        return self._steps.planned_ms(direction)

    def terms(self, direction: Direction) -> CostTerms | None:
        """Cost of *direction* by its latest measurement; None when it is down."""
        return self._terms.get(direction)

    def debug_state(self) -> Parts[dict[str, object]]:
        links = yield from gathered(
            (f"{a}>{b}", {"planned_ms": round(planned, 3), "now": asdict(terms)})
            for (a, b), terms in list(self._terms.items())
            if (planned := self.planned_ms((a, b))) is not None  # it may have gone down since
        )
        return {"links": dict(links)}
