from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from relaymesh.webrtc.bwe.pacer import FACTOR, MAX_BYTES, START_BYTES, Kind, SessionPacer
from relaymesh.webrtc.bwe.probing import ProbeCluster


def drain(pacer: SessionPacer[int], now: float, until: float) -> list[tuple[float, int]]:
    """All that leaves up to *until*, waking when the pacer asks for it."""
    sent: list[tuple[float, int]] = []
    for _ in range(100_000):
        sent += [(now, item) for item in pacer.poll(now)]
        due = pacer.next_timeout()
        if due is None or due > until:
            return sent
        assert due > now, "it asked for a time at which it then did nothing"
        now = due
    raise AssertionError("the pacer never comes to rest")


def test_an_idle_pacer_sends_at_once() -> None:
    pacer: SessionPacer[int] = SessionPacer(300e3, 0.0)
    for turn in range(50):
        pacer.enqueue(turn, 1200, Kind.VIDEO, turn * 0.033)
        assert pacer.poll(turn * 0.033) == [turn]
        assert pacer.next_timeout() is None


def test_a_burst_leaves_at_a_multiple_of_the_estimate() -> None:
    pacer: SessionPacer[int] = SessionPacer(1e6, 0.0)
    for number in range(100):
        pacer.enqueue(number, 1200, Kind.VIDEO, 0.0)
    sent = drain(pacer, 0.0, 10.0)
    assert [item for _, item in sent] == list(range(100))
    assert 0.9 <= sent[-1][0] * FACTOR * 1e6 / 8 / (98 * 1200 - START_BYTES) <= 1.05
    gaps = [later - sooner for (sooner, _), (later, _) in pairwise(sent)]
    assert max(gaps) <= 0.005


def test_audio_never_waits_and_the_rest_goes_by_kind() -> None:
    pacer: SessionPacer[int] = SessionPacer(100e3, 0.0)
    for number in range(20):
        pacer.enqueue(number, 1200, Kind.VIDEO, 0.0)
    pacer.poll(0.0)
    pacer.enqueue(100, 1200, Kind.PADDING, 0.0)
    pacer.enqueue(101, 1200, Kind.RETRANSMISSION, 0.0)
    pacer.enqueue(102, 100, Kind.AUDIO, 0.0)
    assert pacer.poll(0.0) == [102]
    assert drain(pacer, 0.0, 0.2)[0][1] == 101


def test_what_waits_is_bounded_in_bytes_and_age() -> None:
    pacer: SessionPacer[int] = SessionPacer(30e3, 0.0)
    for number in range(3000):
        pacer.enqueue(number, 1200, Kind.VIDEO, 0.0)
    assert pacer.waiting_bytes <= MAX_BYTES
    assert pacer.dropped[Kind.VIDEO] == 3000 - MAX_BYTES // 1200
    pacer.enqueue(9999, 100, Kind.PADDING, 0.0)
    pacer.poll(10.0)
    assert pacer.dropped[Kind.PADDING] == 1
    assert pacer.waiting_bytes == 0


def test_a_cluster_is_sent_at_its_rate_and_media_counts() -> None:
    pacer: SessionPacer[int] = SessionPacer(300e3, 0.0)
    pacer.begin_probe(ProbeCluster(7, 800e3, 4000, 5, 0.04), 0.0)
    now, sent = 0.0, []
    pacer.enqueue(1, 1000, Kind.VIDEO, 0.0)
    for _ in range(50):
        assert pacer.probe == 7
        sent += [(now, 1000)] * len(pacer.poll(now))
        due = pacer.poll_probe(now)
        while due > 0:
            sent.append((now, 200))
            pacer.on_probe_sent(200, now)
            due -= 200
        wake = pacer.next_timeout()
        assert wake is not None
        if sum(size for _, size in sent) >= 4000:
            assert pacer.poll_probe(wake) == 0
            break
        now = max(wake, now + 1e-6)
    assert sum(size for _, size in sent) == 4000
    assert 0.025 <= sent[-1][0] <= 0.045
    assert pacer.probe is None


def test_a_cluster_that_nobody_sends_ends() -> None:
    pacer: SessionPacer[int] = SessionPacer(300e3, 0.0)
    pacer.begin_probe(ProbeCluster(1, 800e3, 4000, 5, 0.04), 0.0)
    assert pacer.poll_probe(0.0) > 0
    assert pacer.poll_probe(1.0) == 0
    assert pacer.probe is None


@given(
    st.lists(st.tuples(st.floats(0, 0.05), st.integers(1, 1500), st.sampled_from(Kind)), max_size=60),
    st.floats(30e3, 5e6),
)
def test_everything_leaves_or_is_counted(events: list[tuple[float, int, Kind]], bps: float) -> None:
    pacer: SessionPacer[int] = SessionPacer(bps, 0.0)
    now, left = 0.0, 0
    for number, (pause, size, kind) in enumerate(events):
        now += pause
        pacer.enqueue(number, size, kind, now)
        left += len(pacer.poll(now))
    left += len(drain(pacer, now, now + 60.0))
    assert left + sum(pacer.dropped.values()) == len(events)
    assert pacer.waiting_bytes == 0
    assert pacer.next_timeout() is None


@given(
    st.lists(
        st.tuples(st.floats(0.0, 0.5), st.sampled_from(Kind), st.integers(60, 60_000)),
        min_size=1,
        max_size=120,
    ),
    st.floats(0.01, 3.0),
)
def test_audio_is_dropped_last(offered: list[tuple[float, Kind, int]], pause: float) -> None:
    """However late anybody looks: no audio is dropped while anything else waits."""
    pacer: SessionPacer[int] = SessionPacer(30e3, 0.0)
    now, looked, dropped = 0.0, 0.0, 0
    for number, (after, kind, size) in enumerate(offered):
        now += after
        pacer.enqueue(number, size, kind, now)
        if now - looked < pause:
            continue
        looked = now
        sent = pacer.poll(now)
        if pacer.dropped[Kind.AUDIO] > dropped:
            dropped = pacer.dropped[Kind.AUDIO]
            assert pacer.waiting_bytes == 0
            assert all(offered[item][1] is Kind.AUDIO for item in sent)
