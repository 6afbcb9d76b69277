"""Layers for each player: whole simulated runs of the scenarios that state it, on a few seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from relaymesh.netsim.scenario import load_scenario
from relaymesh.netsim.simulate import simulate

SIMULATIONS = Path(__file__).parents[2] / "simulations"


def holds(name: str, seed: int) -> None:
    """The scenario's own bounds hold, all of them."""
    result = simulate(load_scenario(SIMULATIONS / f"{name}.yaml"), seed=seed)
    assert result.valid, result.invalid_reason
    assert result.checks
    assert [(check.name, check.value, check.bound) for check in result.checks if not check.passed] == []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_line_gets_what_it_carries_and_a_cut_costs_no_long_freeze(seed: int) -> None:
    holds("adaptive-access", seed)


def test_a_layer_is_shown_within_150_ms_of_its_keyframe_inside_a_region() -> None:
    holds("layer-switches", 1)


def test_a_link_carries_the_top_layer_only_while_somebody_takes_it() -> None:
    holds("simulcast-demand", 1)
