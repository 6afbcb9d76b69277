import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.protocol.seqnum import Extender, distance


@pytest.mark.parametrize(
    ("newer", "older", "expected"),
    [(1, 0, 1), (0, 65535, 1), (65535, 0, -1), (32767, 0, 32767), (32768, 0, -32768), (7, 7, 0)],
)
def test_distance_goes_the_short_way_round(newer: int, older: int, expected: int) -> None:
    assert distance(newer, older) == expected


@given(
    st.sampled_from([8, 16, 32]),
    st.integers(0, 1 << 40),
    st.lists(st.integers(-127, 127), max_size=60),
)
def test_an_extender_follows_any_walk_of_less_than_half_a_turn(
    bits: int, start: int, steps: list[int]
) -> None:
    mask = (1 << bits) - 1
    extender = Extender(bits)
    base = start - extender.extend(start & mask)
    highest = start
    for step in steps:
        true = highest + step
        assert extender.extend(true & mask) + base == true
        highest = max(highest, true)
        assert extender.highest == highest - base


def test_a_number_before_the_first_one_keeps_its_low_bits() -> None:
    extender = Extender(16)
    assert extender.extend(0) == 0
    assert extender.extend(65535) == -1
    assert extender.extend(1) == 1
