from __future__ import annotations

import itertools
from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from relaymesh.controller.objective import Pricing
from relaymesh.controller.weights import Weights
from relaymesh.topology import Objective

LINKS = list(itertools.permutations(range(5), 2))
links = st.sampled_from(LINKS)
cost = st.sampled_from([0.25, 1.0, 5.0, 40.0])
objectives: st.SearchStrategy[Objective] = st.sampled_from(get_args(Objective))
# A link that costs something else or is gone (the number may be told though nothing changed), new prices,
# another objective.
steps = st.lists(st.tuples(links, st.none() | cost) | cost | objectives, max_size=30)


def region_of(index: int) -> str:
    return "abb"[index % 3]


@settings(max_examples=200)
@given(objectives, steps, st.sets(st.integers(0, 29)))
def test_link_by_link_comes_to_what_all_at_once_does(
    objective: Objective,
    history: list[tuple[tuple[int, int], float | None] | float | Objective],
    asked: set[int],
) -> None:
    price, base = [0.0], dict[tuple[int, int], float]()

    def price_per_gb(link: tuple[int, int]) -> float:
        return price[0] * (region_of(link[0]) != region_of(link[1]))

    def objective_now() -> Objective:
        return objective

    pricing = Pricing(objective_now, price_per_gb, region_of)
    weights = Weights(lambda link, now: base.get(link), pricing.weigh_sender)
    known = dict[tuple[int, int], float]()
    for number, step in enumerate(history):
        if isinstance(step, float):
            price[0] = step
            weights.reprice()
        elif isinstance(step, str):
            objective = step
            weights.reprice()
        else:
            link, now = step
            if now is None:
                base.pop(link, None)
            else:
                base[link] = now
            weights.update([link], 0.0)
        anew = Pricing(objective_now, price_per_gb, region_of)
        expected = anew.weigh(base)
        assert all(pricing.door_ms(link) == anew.door_ms(link) for link in base)
        assert weights.costs_ms == expected and weights.unpriced_ms() == base
        if number in asked:
            differ = {link for link in LINKS if known.get(link) != expected.get(link)}
            assert weights.poll_changed() >= differ
            assert not weights.poll_changed()
            known = expected
