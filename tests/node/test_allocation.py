from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from relaymesh.node.allocation import UPGRADE_MARGIN, Allocation, Layer, Subscription, allocate

THREE = (100e3, 400e3, 1500e3)


def video(key: int, rates: Sequence[float] = THREE, **fields: object) -> Subscription[int]:
    layers = tuple(Layer(i, 0, 2, rate) for i, rate in enumerate(rates))
    return Subscription(key, "video", layers, **fields)  # type: ignore[arg-type]


def audio(key: int, rate: float = 40e3) -> Subscription[int]:
    return Subscription(key, "audio", (Layer(0, 0, 0, rate),))


def followed(found: Allocation[int], subscriptions: Sequence[Subscription[int]]) -> list[Subscription[int]]:
    return [replace(s, current=found.choices[s.key]) for s in subscriptions]


def level(found: Allocation[int], key: int) -> int:
    choice = found.choices[key]
    return -1 if choice is None else choice.encoding


SUBSCRIPTIONS = st.lists(
    st.builds(
        lambda is_audio, rates, priority, most, muted: (
            (audio(0, rates[0]) if is_audio else video(0, sorted(rates), priority=priority, max_layer=most)),
            muted,
        ),
        st.booleans(),
        st.lists(st.floats(1e3, 3e6), min_size=1, max_size=6),
        st.integers(0, 3),
        st.one_of(st.none(), st.integers(0, 7)),
        st.booleans(),
    ),
    max_size=12,
).map(lambda found: [replace(s, key=i, muted=muted) for i, (s, muted) in enumerate(found)])


@given(st.floats(0, 2e7), SUBSCRIPTIONS)
def test_within_the_budget_and_audio_always(budget: float, subscriptions: list[Subscription[int]]) -> None:
    found = allocate(budget, subscriptions)
    assert set(found.choices) == {s.key for s in subscriptions}
    total = 0.0
    sees_video = False
    for s in subscriptions:
        choice = found.choices[s.key]
        if s.muted:
            assert choice is None
            continue
        if s.kind == "audio":
            assert choice is not None
        if choice is not None:
            index = [layer.choice for layer in s.layers].index(choice)
            assert s.max_layer is None or s.kind == "audio" or index <= s.max_layer
            total += s.layers[index].rate_bps
            sees_video = sees_video or s.kind == "video"
    assert abs(total - found.used_bps) < 1.0
    assert not sees_video or total <= budget + 1.0
    assert found.wanted_bps == found.used_bps or found.wanted_bps > budget


@given(st.floats(0, 2e7), st.floats(1.0, 3.0), SUBSCRIPTIONS)
def test_more_budget_gives_nobody_less(
    budget: float, more: float, subscriptions: list[Subscription[int]]
) -> None:
    less_found, more_found = allocate(budget, subscriptions), allocate(budget * more, subscriptions)
    for s in subscriptions:
        assert level(more_found, s.key) >= level(less_found, s.key)


@given(st.floats(5e4, 2e7), st.lists(st.floats(0.95, 1.05), max_size=20), SUBSCRIPTIONS)
def test_noise_moves_nothing(
    budget: float, noise: list[float], subscriptions: list[Subscription[int]]
) -> None:
    """After the highest and the lowest of ±5 % were seen, the layers stay where they are."""
    for factor in (1.05, 0.95):
        subscriptions = followed(allocate(budget * factor, subscriptions), subscriptions)
    settled = {s.key: s.current for s in subscriptions}
    for factor in noise:
        found = allocate(budget * factor, subscriptions)
        assert found.choices == settled
        subscriptions = followed(found, subscriptions)


def test_everybody_gets_the_lowest_before_anybody_gets_more() -> None:
    found = allocate(450e3, [audio(0), video(1), video(2, priority=1), video(3)])
    assert [level(found, key) for key in (1, 2, 3)] == [0, 0, 0]
    found = allocate(400e3, [audio(0), video(1, (200e3,)), video(2, (200e3,), priority=1)])
    assert [level(found, key) for key in (1, 2)] == [-1, 0]
    assert found.wanted_bps == 440e3 * UPGRADE_MARGIN and found.paused


def test_the_higher_priority_rises_first_and_equals_in_turn() -> None:
    found = allocate(2e6, [video(1), video(2, priority=1)])
    assert (level(found, 1), level(found, 2)) == (0, 2)
    found = allocate(1e6, [video(1), video(2)])
    assert (level(found, 1), level(found, 2)) == (1, 1)


def test_only_audio_is_left_when_the_path_is_too_narrow() -> None:
    found = allocate(30e3, [video(1, priority=9), audio(0)])
    assert level(found, 1) == -1
    assert level(found, 0) == 0


def test_down_at_once_and_up_with_a_margin() -> None:
    subscriptions = [audio(0), video(1)]
    steps = []
    for budget in (493e3, 441e3, 439e3, 441e3, 492e3, 493e3):
        found = allocate(budget, subscriptions)
        subscriptions = followed(found, subscriptions)
        steps.append(level(found, 1))
    assert steps == [1, 1, 0, 0, 0, 1]


def test_the_viewport_limits_what_is_wanted() -> None:
    found = allocate(1e7, [video(1, max_layer=1)])
    assert level(found, 1) == 1
    assert found.wanted_bps == found.used_bps == 400e3
    shrunk = replace(video(1, max_layer=0), current=video(1).layers[2].choice)
    assert level(allocate(105e3, [shrunk]), 1) == 0
