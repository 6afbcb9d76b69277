import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaymesh.protocol import repair
from relaymesh.protocol.repair import Adaptive, Path, repairs_ahead, repairs_behind

CLEAN = Path(0.0, 1.0, 0.04, 0.001)
paths = st.builds(
    Path,
    st.floats(0, 1),
    st.floats(1, 50),
    st.floats(0, 2),
    st.floats(0, 1),
    st.floats(0, 1),
)


@pytest.mark.parametrize("name", repair.POLICIES)
@given(path=paths, left=st.floats(0, 2), priority=st.integers(0, 3), tries=st.integers(1, 20))
def test_every_policy_stays_in_its_ranges(
    name: str, path: Path, left: float, priority: int, tries: int
) -> None:
    policy = repair.policy_called(name)
    assert policy.name == name
    assert policy.budget(priority, path) >= 1.5 * path.rtt
    assert 0 <= policy.reserve(path) <= repair.MAX_RESERVE
    ahead, behind = policy.ahead(priority, path), policy.behind(tries, left, path)
    if ahead:
        assert 0 <= ahead.block <= 3
        assert ahead.wait > 0
    if behind:
        assert 0 <= behind.wait <= left
        assert 0 < behind.tolerated <= 1


@pytest.mark.parametrize("name", repair.POLICIES)
def test_a_clean_link_has_nothing_ahead(name: str) -> None:
    assert [repair.policy_called(name).ahead(priority, CLEAN) for priority in range(4)] == [None] * 4


def test_adaptive_adds_redundancy_at_the_last_chance_only() -> None:
    policy, path = Adaptive(), Path(0.02, 1.0, 0.1, 0.002, 0.02)
    assert policy.behind(1, 0.3, path) is None
    last = policy.behind(1, 0.09, path)
    assert last is not None
    assert last.wait < 0.09
    assert policy.behind(2, 0.09, path).tolerated > last.tolerated  # type: ignore[union-attr]


def test_adaptive_adds_it_at_once_where_second_rounds_would_be_many() -> None:
    assert Adaptive().behind(1, 0.3, Path(0.1, 1.0, 0.1, 0.002, 0.1)) is not None


def test_audio_on_long_links_is_protected_ahead() -> None:
    lossy = Path(0.03, 1.0, 0.2, 0.002)
    assert Adaptive().ahead(0, lossy) is not None
    assert Adaptive().ahead(2, lossy) is None
    assert Adaptive().ahead(0, Path(0.03, 1.0, 0.02, 0.002)) is None


def test_more_loss_and_longer_bursts_take_more_repairs() -> None:
    def need(loss: float, burst: float) -> int:
        return repairs_ahead(20, 1e-3, Path(loss, burst, 0.1, 0.0), 32)

    assert need(0.001, 1) < need(0.01, 1) < need(0.05, 1) < need(0.05, 8)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.sampled_from([0.02, 0.1, 0.3]), st.sampled_from([1.0, 3.0, 8.0]))
def test_the_model_agrees_with_a_simulation(sources: int, loss: float, burst: float) -> None:
    path = Path(loss, burst, 0.1, 0.0)
    tolerated = 0.02
    ahead = repairs_ahead(sources, tolerated, path, 32)
    behind = repairs_behind(sources, tolerated, path, 32)
    rng = random.Random(1)

    def losses(count: int) -> int:
        end = 1 / burst if burst > 1 else 1 - loss
        bad, lost = rng.random() < loss, 0
        for _ in range(count):
            lost += bad
            bad = rng.random() >= end if bad else rng.random() < end * loss / (1 - loss)
        return lost

    rounds = 3000
    left_ahead = left_behind = 0.0
    for _ in range(rounds):
        lost = losses(sources + ahead)
        left_ahead += lost / (sources + ahead) if lost > ahead else 0.0
        lost = losses(sources)
        left_behind += lost / sources if lost > behind - losses(behind) else 0.0
    if ahead < 32:
        assert left_ahead / rounds < tolerated + 0.012
    if behind < 32:
        assert left_behind / rounds < tolerated + 0.012


def test_an_unknown_policy_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        repair.policy_called("magic")
