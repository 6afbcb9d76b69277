from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from relaymesh.protocol.pacer import BURST_BYTES, LANES, MAX_BYTES, PATIENCE, Pacer


def drain(pacer: Pacer[str], until: float, size: int) -> list[tuple[float, str]]:
    """What goes until then, each item of *size* bytes."""
    out: list[tuple[float, str]] = []
    for _ in range(100_000):
        now = pacer.next_timeout()
        if now > until:
            return out
        item = pacer.pop(now)
        if item is not None:
            pacer.spend(size)
            out.append((now, item))
    raise AssertionError("the pacer never came to rest")


def test_without_a_limit_everything_goes_at_once() -> None:
    pacer: Pacer[str] = Pacer()
    assert pacer.may_send(0.0)
    assert pacer.next_timeout() == math.inf
    pacer.push("a", 7, 1000, 0.0)
    assert pacer.pop(0.0) == "a"
    assert not pacer


def test_it_keeps_the_rate_and_the_order_of_the_lanes() -> None:
    pacer: Pacer[str] = Pacer()
    pacer.set_rate(100_000.0, 0.0)
    for i in range(10):
        for lane in (6, 4, 1, 0):
            pacer.push(f"{lane}-{i}", lane, 1000, 0.0)
    sent = drain(pacer, 0.16, 1000)
    assert [name for _, name in sent[:20]] == [f"{lane}-{i}" for lane in (0, 1) for i in range(10)]
    in_time = sum(1000 for at, _ in sent if at <= 0.1)
    assert 10_000 <= in_time <= 10_000 + BURST_BYTES + 1000


def test_what_waited_too_long_is_dropped_and_counted() -> None:
    pacer: Pacer[str] = Pacer()
    pacer.set_rate(1000.0, 0.0)
    pacer.spend(10_000)  # busy for long
    pacer.push("old", 6, 1000, 0.0)
    pacer.push("audio", 0, 100, 0.2)
    assert pacer.pop(PATIENCE[6] + 10.0) is None, "both are too old by now"
    assert pacer.dropped[6] == pacer.dropped[0] == 1
    assert not pacer


@given(st.lists(st.tuples(st.integers(0, LANES - 1), st.integers(1, 60_000)), max_size=200))
def test_it_is_bounded_and_loses_the_lowest_class_first(items: list[tuple[int, int]]) -> None:
    pacer: Pacer[int] = Pacer()
    pacer.set_rate(1.0, 0.0)
    for number, (lane, size) in enumerate(items):
        pacer.push(number, lane, size, 0.0)
        assert pacer.waiting_bytes <= MAX_BYTES
    kept = pacer.clear()
    assert len(kept) + sum(pacer.dropped) == len(items)
    lanes = {items[number][0] for number in kept}
    dropped = [lane for lane, count in enumerate(pacer.dropped) if count]
    if dropped and sum(size for lane, size in items if lane == 0) < MAX_BYTES:
        assert 0 not in dropped or max(lanes, default=0) == 0


# (seconds since the one before, lane, bytes): of all classes, media and repair, as they come.
offers = st.lists(
    st.tuples(st.floats(0.0, 0.4), st.integers(0, LANES - 1), st.integers(60, 1400)), min_size=1, max_size=150
)


@given(offers, st.floats(200.0, 30_000.0), st.floats(0.01, 1.5))
def test_audio_is_dropped_last(offered: list[tuple[float, int, int]], rate: float, pause: float) -> None:
    """Nothing is dropped of a class while anything of a lower one waits, however late anybody looks.

    So no packet of video outlives one of audio that was dropped and came before it.
    """
    pacer: Pacer[int] = Pacer()
    pacer.set_rate(rate, 0.0)
    now, looked = 0.0, 0.0
    waiting: dict[int, int] = {}  # number → class
    for number, (after, lane, size) in enumerate(offered):
        now += after
        pacer.push(number, lane, size, now)
        waiting[number] = lane // 2
        if now - looked >= pause:
            looked = now
            while (item := pacer.pop(now)) is not None:
                pacer.spend(offered[item][2])
                check_dropped(pacer, waiting)
                assert waiting.pop(item) <= min(waiting.values(), default=3)
        check_dropped(pacer, waiting)


def check_dropped(pacer: Pacer[int], waiting: dict[int, int]) -> None:
    for item in pacer.take_dropped():
        assert waiting.pop(item) >= max(waiting.values(), default=0)
