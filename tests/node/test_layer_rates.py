"""Rates of layers as an ingress measures them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.node.layer_rates import MAX_LAYERS, OVERHEAD_BYTES, SILENT_AFTER, WINDOW, LayerRates


def bps(*sizes: int) -> float:
    """Of one packet of each size, 100 times a second, with what is around it on the wire."""
    return 100 * 8.0 * sum(size + OVERHEAD_BYTES for size in sizes)


def fed(
    seconds: float, layers: list[tuple[int, int, int]], *, rates: LayerRates | None = None, at: float = 0.0
):  # type: ignore[no-untyped-def]
    """Packets each 10 ms, the layers (spatial, temporal, bytes) in turns."""
    rates = rates or LayerRates()
    for k in range(round(seconds * 100)):
        rates.note(*layers[k % len(layers)], at + k / 100)
    return rates


def test_nothing_came_yet() -> None:
    told = LayerRates().layers(3, 1.0)
    assert (told.number, told.live, told.spatial, told.temporal, told.rates_bps) == (3, False, 1, 1, (0,))


def test_one_layer_has_the_rate_of_all_of_it() -> None:
    told = fed(3.0, [(0, 0, 1000)]).layers(1, 3.0)
    assert told.live and told.number == 1
    assert told.rates_bps[0] == pytest.approx(bps(1000), rel=0.1)


def test_rates_add_up_over_the_layers_below() -> None:
    """Two spatial and two temporal layers in equal parts of 100 packets/s."""
    told = fed(3.0, [(0, 0, 1000), (1, 0, 2000), (0, 1, 500), (1, 1, 700)]).layers(0, 3.0)
    assert (told.spatial, told.temporal) == (2, 2)
    below = ((1000,), (1000, 500), (1000, 2000), (1000, 2000, 500, 700))  # (0,0), (0,1), (1,0), (1,1)
    expected = [bps(*sizes) / 4 for sizes in below]
    assert list(told.rates_bps) == pytest.approx(expected, rel=0.1)


def test_a_young_encoding_is_not_taken_for_one_of_a_low_rate() -> None:
    told = fed(0.5, [(0, 0, 1000)]).layers(0, 0.5)
    assert told.rates_bps[0] == pytest.approx(bps(1000), rel=0.1)


def test_the_burst_of_a_keyframe_is_spread_over_the_window() -> None:
    rates = fed(2.0, [(0, 0, 1000)])
    for _ in range(50):
        rates.note(0, 0, 1000, 2.0)
    assert rates.layers(0, 2.05).rates_bps[0] < 1.7 * bps(1000)


def test_an_encoding_is_live_while_packets_come() -> None:
    rates = fed(1.0, [(0, 0, 1000)])
    assert rates.live(0.99 + SILENT_AFTER)
    assert not rates.live(1.0 + SILENT_AFTER)
    told = rates.layers(0, 1.1 + WINDOW + SILENT_AFTER)
    assert not told.live and told.rates_bps == (0,)


def test_one_that_comes_back_is_measured_anew() -> None:
    rates = fed(1.0, [(0, 0, 1000), (1, 1, 1000)])
    assert (rates.spatial, rates.temporal) == (2, 2)
    rates = fed(0.6, [(0, 0, 500)], rates=rates, at=10.0)
    told = rates.layers(0, 10.6)
    assert told.live and (told.spatial, told.temporal) == (1, 1), "it may come back with fewer layers"
    assert told.rates_bps[0] == pytest.approx(bps(500), rel=0.1)


def test_one_that_stops_sending_a_layer_says_so() -> None:
    """Which of its layers cost something now is what edges choose by."""
    rates = fed(1.0, [(0, 0, 1000), (1, 0, 1000)])
    fed(2.0, [(0, 0, 1000)], rates=rates, at=1.0)
    told = rates.layers(0, 3.0)
    assert len(told.rates_bps) == told.spatial * told.temporal
    assert told.rates_bps[-1] == told.rates_bps[0] == pytest.approx(bps(1000), rel=0.1)


@given(
    st.lists(
        st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(0, 1500), st.floats(0.0, 3.0)),
        max_size=60,
    )
)
def test_what_is_told_always_fits_a_frame_and_never_falls_with_a_layer(packets) -> None:  # type: ignore[no-untyped-def]
    rates, now = LayerRates(), 5.0
    for spatial, temporal, size, wait in packets:
        now += wait
        rates.note(spatial, temporal, size, now)
        told = rates.layers(0, now)
        assert 1 <= told.spatial <= MAX_LAYERS and 1 <= told.temporal <= MAX_LAYERS
        assert len(told.rates_bps) == told.spatial * told.temporal
        table = [told.rates_bps[s * told.temporal : (s + 1) * told.temporal] for s in range(told.spatial)]
        assert all(list(row) == sorted(row) for row in table)
        assert all(list(column) == sorted(column) for column in zip(*table, strict=True))
        assert told.live and 0 <= told.rates_bps[-1] < 1 << 32
