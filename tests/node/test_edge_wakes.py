"""What a wake of the edge visits: only sessions that have something to do."""

from __future__ import annotations

from collections import Counter

import pytest

from relaymesh.node.session import Session
from tests.node.test_edge import KEY, Stage

PLAYERS = 12


@pytest.fixture
def visits(monkeypatch) -> Counter[str]:
    """How often sessions were asked for their next timeout, and called."""
    seen: Counter[str] = Counter()
    for name in ("next_timeout", "handle_timeout"):
        inner = getattr(Session, name)

        def counted(session, *arguments, inner=inner, name=name):
            seen[name] += 1
            return inner(session, *arguments)

        monkeypatch.setattr(Session, name, counted)
    return seen


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.publish()
    for _ in range(PLAYERS):
        stage.play()
    stage.send(KEY)
    stage.send()
    stage.pass_time(2.0)
    return stage


def test_a_datagram_visits_its_own_session_alone(stage, visits):
    stage.send()
    stage.core.poll_media_datagrams()
    stage.core.next_timeout()
    assert visits["next_timeout"] == 1, "the publisher's; the players follow"


def test_idle_sessions_are_visited_a_few_times_a_second(stage, visits):
    start = stage.now
    while stage.now < start + 10.0:
        at = stage.core.next_timeout()
        assert at is not None
        stage.now = max(stage.now, at)
        stage.core.handle_timeout(stage.now)
        stage.core.poll_media_datagrams()
    # Each looks after its reports once a second; the publisher's also measures what comes, five times.
    assert visits["handle_timeout"] <= 10 * (2 * PLAYERS + 25)


def test_a_session_that_is_over_goes_with_the_next_tick(stage):
    session = stage.core.edge.sessions()[-1]
    session.drain_events(stage.now)
    session.closed = "for a test"
    session._touch()
    at = stage.core.edge.next_timeout()
    assert at is not None and at <= stage.now + 0.01
    stage.now = max(stage.now, at)
    stage.core.handle_timeout(stage.now)
    assert session not in stage.core.edge.sessions()


def test_the_heap_stays_small_though_sessions_are_due_at_other_times_again_and_again(stage):
    for _ in range(3000):
        stage.now += 0.01
        stage.send()
        stage.core.poll_media_datagrams()
        stage.core.next_timeout()
        stage.core.handle_timeout(stage.now)
    assert len(stage.core.edge._due._heap) <= 64 + 2 * (PLAYERS + 1)
    assert stage.core.edge.audit() == []
