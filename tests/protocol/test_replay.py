from hypothesis import given
from hypothesis import strategies as st

from relaymesh.protocol.replay import WINDOW, ReplayWindow


@given(
    st.lists(st.one_of(st.integers(1, 40), st.integers(1, 3 * WINDOW), st.integers(1, 1 << 64)), max_size=80)
)
def test_each_number_is_taken_once_and_only_inside_the_window(numbers: list[int]) -> None:
    window, seen = ReplayWindow(), set()
    for number in numbers:
        expected = number not in seen and number > max(seen, default=0) - WINDOW
        assert window.is_new(number) == expected
        if expected:
            window.mark(number)
            seen.add(number)
            assert not window.is_new(number)


def test_the_edges_of_the_window() -> None:
    window = ReplayWindow()
    assert not window.is_new(0)
    window.mark(WINDOW + 1)
    assert not window.is_new(1)
    assert window.is_new(2)
    window.mark(WINDOW + 2)
    assert not window.is_new(2)
    assert not window.is_new(WINDOW + 1)


def test_asking_changes_nothing() -> None:
    window = ReplayWindow()
    before = window.debug_state()
    assert window.is_new(1 << 60)
    assert window.debug_state() == before
