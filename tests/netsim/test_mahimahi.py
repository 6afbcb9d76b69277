from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.netsim.mahimahi import DeliveryTrace, TraceError, TraceQueue, load_trace, parse_trace


def test_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "lte.trace"
    file.write_text("# an example\n0\n1\n1\n\n12\n", encoding="ascii")
    trace = load_trace(file)
    assert trace.times_ms == (0, 1, 1, 12) and trace.period_ms == 12 and trace.name == str(file)
    assert trace.mean_rate_bps == 4_000_000
    assert "4 Mbit/s" in repr(trace)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must have a time above 0"),
        ("0\n0\n", "must have a time above 0"),
        ("1\n-2\n", "t:2: a time in whole milliseconds is wanted, not '-2'"),
        ("1\n2.5\n", "t:2: a time"),
        ("5\n4\n", "t:2: 4 comes before 5"),
        ("9" * 13, "t:1: a time"),
        (b"\xff", "not ASCII"),
    ],
)
def test_what_is_no_trace_is_refused(text: str | bytes, said: str) -> None:
    with pytest.raises(TraceError, match=said):
        parse_trace(text, "t")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read"):
        load_trace(tmp_path / "nothing")
    with pytest.raises(TraceError, match="must not"):
        DeliveryTrace((2, 1))


def test_packets_leave_at_opportunities() -> None:
    queue = TraceQueue(DeliveryTrace((1, 2, 4)), start=10.0)

    def leave(at_ms: float, size: int) -> float | None:
        left = queue.leaves(10 + at_ms / 1000, size, 1.0)
        return left and round((left - 10) * 1000, 6)

    assert leave(0, 1000) == 1  # waits for the first
    assert leave(0.5, 500) == 1  # shares it
    assert leave(0.6, 1600) == 4  # takes the second and a part of the third
    assert leave(4.5, 1500) == 5  # the rest is gone; 4 + 1: it starts again
    assert leave(1000, 1) == 1001


def test_a_saturated_link_delivers_the_traces_rate() -> None:
    trace = DeliveryTrace(tuple(range(1, 101)))  # 1500 bytes a millisecond, 12 Mbit/s
    queue = TraceQueue(trace, 0.0)
    left = [queue.leaves(number * 0.0005, 1500, 0.05) for number in range(4000)]  # twice as much
    passed = [time - number * 0.0005 for number, time in enumerate(left) if time is not None]
    assert len(passed) / 4000 == pytest.approx(0.5, abs=0.03)
    assert max(passed) == pytest.approx(0.05, abs=0.003)


def test_an_outage_holds_one_packet_back_but_does_not_lose_it() -> None:
    queue = TraceQueue(DeliveryTrace((5000,)), 0.0)
    assert queue.leaves(0.1, 1000, 0.001) == 5.0
    assert queue.leaves(0.2, 500, 0.001) == 5.0
    assert queue.leaves(0.3, 500, 0.001) == 10.0
    assert queue.leaves(0.4, 500, 0.001) is None


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=20),
    st.lists(st.tuples(st.floats(0, 0.05), st.integers(0, 4000)), max_size=50),
    st.floats(0, 1),
)
def test_packets_leave_in_order_never_early_never_faster_than_the_trace(
    gaps: list[int], packets: list[tuple[float, int]], bound: float
) -> None:
    times = [sum(gaps[: position + 1]) for position in range(len(gaps))]
    times[-1] += 1
    trace = DeliveryTrace(tuple(times))
    queue, now, left, passed = TraceQueue(trace, 0.0), 0.0, [], 0
    for pause, size in packets:
        now += pause
        time = queue.leaves(now, size, bound)
        if time is not None:
            assert time >= now
            left.append(time)
            passed += size
    assert all(a <= b for a, b in pairwise(left))
    if left:
        opportunities = (left[-1] * 1000 // trace.period_ms + 1) * len(times)
        assert passed <= opportunities * 1500


@given(st.binary(max_size=60) | st.text("0123456789\n# .-", max_size=60).map(str.encode))
def test_whatever_the_bytes_only_one_error(data: bytes) -> None:
    try:
        parse_trace(data)
    except TraceError:
        pass
