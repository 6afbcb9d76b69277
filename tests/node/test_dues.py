"""The earliest of many times that change all the time."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from relaymesh.node.dues import Dues

KEYS = st.integers(0, 5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, st.one_of(st.integers(0, 20).map(float), st.just(inf))),
        st.tuples(st.just("forget"), KEYS, st.just(0.0)),
        st.tuples(st.just("take"), st.just(0), st.integers(0, 20).map(float)),
        st.tuples(st.just("clear"), st.just(0), st.just(0.0)),
    ),
    max_size=300,
)


@given(STEPS)
def test_it_says_what_a_look_at_every_key_says(steps):
    dues, expected = Dues(), dict[int, float]()
    for step, key, at in steps:
        if step == "set":
            dues.set(key, at)
            expected[key] = at
        elif step == "forget":
            dues.forget(key)
            expected.pop(key, None)
        elif step == "clear":
            dues.clear()
            expected.clear()
        else:
            due = sorted(key for key, when in expected.items() if when <= at)
            assert dues.take(at) == due
            expected |= dict.fromkeys(due, inf)
        assert dues.first() == min(expected.values(), default=inf)


def test_times_that_move_all_the_time_do_not_pile_up():
    dues = Dues()
    for round_ in range(2000):
        for key in range(10):
            dues.set(key, 1000.0 + round_)  # later, as each packet makes it
    for round_ in range(2000):
        for key in range(10):
            dues.set(key, 900.0 - round_ / 10)  # earlier each time: the one case in which entries stay behind
    assert dues.first() == 900.0 - 199.9
    assert len(dues._heap) <= 2 * 10 + 64
