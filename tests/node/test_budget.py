from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relaymesh.node.budget import PATIENCE, PATIENT_SHARE, Budget, guess

RATES = st.floats(0, 2e6)


def test_a_small_shortage_is_sat_out_and_a_long_one_is_not() -> None:
    budget = Budget()
    assert budget.spend(90e3, 50e3, [50e3], 10.0) == 100e3
    assert budget.spend(90e3, 50e3, [50e3], 10.0 + PATIENCE - 0.1) == 100e3
    assert budget.spend(90e3, 50e3, [50e3], 10.0 + PATIENCE) == 90e3


def test_a_large_shortage_counts_at_once() -> None:
    assert Budget().spend(100e3 * PATIENT_SHARE - 1, 50e3, [50e3], 0.0) == 100e3 * PATIENT_SHARE - 1


def test_each_shortage_is_sat_out_anew() -> None:
    budget = Budget()
    assert budget.spend(90e3, 50e3, [50e3], 0.0) == 100e3
    assert budget.spend(101e3, 50e3, [50e3], 1.0) == 101e3
    assert budget.spend(90e3, 50e3, [50e3], 2.5) == 100e3


def test_what_is_paused_is_not_begun_on_credit() -> None:
    assert Budget().spend(90e3, 50e3, [], 0.0) == 90e3


def test_a_guess_shows_one_video() -> None:
    assert guess(300e3, 50e3, 1e6) > 1.05e6
    assert guess(300e3, 50e3, 100e3) == 300e3


@given(RATES, RATES, st.lists(RATES, max_size=5), st.floats(0, 10))
def test_never_more_than_the_share_allows(
    estimate: float, audio: float, sent: list[float], later: float
) -> None:
    budget = Budget()
    for now in (0.0, later):
        spent = budget.spend(estimate, audio, sent, now)
        assert estimate <= spent <= max(estimate, audio + sum(sent))
        assert spent * PATIENT_SHARE <= estimate * (1 + 1e-9)
        if now >= PATIENCE:
            assert spent == estimate
