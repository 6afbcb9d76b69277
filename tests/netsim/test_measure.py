"""Histograms of delays, and what follows from them."""

from __future__ import annotations

from random import Random

import pytest

from relaymesh.netsim.measure import add_bins, bin_quantiles
from relaymesh.netsim.metrics import quantiles


def test_quantiles_of_bins_are_those_of_the_values() -> None:
    rng = Random(1)
    values = [rng.randrange(0, 3000) for _ in range(5000)]
    bins: dict[int, int] = {}
    for value in values:
        bins[value] = bins.get(value, 0) + 1
    names = ("p50", "p99", "p999")
    expected = quantiles([value / 10 for value in values], names)
    assert bin_quantiles(bins, names) == pytest.approx(expected)


def test_empty_bins_have_no_quantiles() -> None:
    assert bin_quantiles({}, ("p50", "p99")) == {"p50": None, "p99": None}


def test_bins_add_up_lowered_by_what_the_best_path_takes() -> None:
    into = {0: 1}
    add_bins(into, {100: 2, 120: 3, 90: 1}, shift=100)
    assert into == {0: 4, 20: 3}
