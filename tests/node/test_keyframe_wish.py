"""Wishes for keyframes: merged, patient, and no more of them than a publisher can bear."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from relaymesh.node.keyframe_wish import (
    ANSWERED_WITHIN,
    IN_PEACE,
    KEYFRAME_INTERVAL,
    KEYFRAME_RETRY,
    KeyframeWish,
    Requests,
)


def test_a_wish_is_served_at_once_and_then_at_a_bounded_rate() -> None:
    wish = KeyframeWish()
    assert wish.next_timeout() is None
    sent = []
    for step in range(200):  # two seconds in which somebody asks every 10 ms and no keyframe comes
        now = step * 0.01
        wish.ask(now)
        if wish.due(now):
            sent.append(now)
    assert sent[0] == 0.0
    assert all(later - earlier >= KEYFRAME_RETRY - 1e-9 for earlier, later in pairwise(sent))
    assert len(sent) == 4


def test_a_new_wish_after_a_keyframe_waits_only_for_the_rate_limit() -> None:
    wish = KeyframeWish()
    wish.ask(0.0)
    assert wish.due(0.0)
    wish.seen(0.05)
    assert not wish.due(0.1)
    wish.ask(0.1)
    assert not wish.due(0.2)
    assert wish.next_timeout() == KEYFRAME_INTERVAL
    assert wish.due(KEYFRAME_INTERVAL)


def test_a_patient_wish_waits_and_an_impatient_one_hurries_it() -> None:
    wish = KeyframeWish()
    wish.ask(0.0, patience=0.3)
    assert wish.next_timeout() == 0.3 and not wish.due(0.2)
    wish.ask(0.1, patience=1.0)
    assert wish.next_timeout() == 0.3
    wish.ask(0.2)
    assert wish.due(0.2)
    assert not wish.due(0.2 + KEYFRAME_INTERVAL)


def test_what_comes_by_itself_ends_a_patient_wish_unsaid() -> None:
    wish = KeyframeWish()
    wish.ask(0.0, patience=0.3)
    wish.seen(0.2)
    assert not wish.due(1.0) and wish.requests == 0 and not wish.wanted


def test_a_publisher_that_answers_no_request_is_known_by_it() -> None:
    wish = KeyframeWish()
    wish.ask(0.0)
    assert wish.due(0.0) and not wish.is_ignored(ANSWERED_WITHIN)
    assert wish.is_ignored(ANSWERED_WITHIN + 0.01), "so far"
    wish.seen(3.0)
    assert wish.is_ignored(3.0) and not wish.wanted, "that one came by itself"
    wish.seen(5.0)
    assert wish.is_ignored(5.0), "one that nobody asked for says nothing"
    wish.ask(6.0)
    assert wish.due(6.0)
    wish.seen(6.1)
    assert not wish.is_ignored(10.0)


def test_a_request_for_another_encoding_of_the_track_waits_for_the_answer_to_the_first() -> None:
    """A browser in simulcast answers one with a keyframe of each encoding."""
    requests = Requests()
    first, second = KeyframeWish(requests), KeyframeWish(requests)
    first.ask(0.0)
    assert first.due(0.0)
    second.ask(0.05)
    assert not second.due(0.1)
    second.seen(0.12)
    assert second.next_timeout() is None and second.requests == 0
    second.ask(0.2)
    assert second.next_timeout() == KEYFRAME_INTERVAL


def test_who_has_time_waits_until_the_publisher_was_left_in_peace() -> None:
    requests = Requests()
    assert requests.patience(5.0) == 0.0
    requests.note_sent(5.0)
    assert requests.patience(5.2) == 5.0 + IN_PEACE - 5.2
    assert requests.patience(5.0 + IN_PEACE) == 0.0


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.floats(0.0, 0.4)), min_size=50, max_size=200))
def test_however_many_wishes_come_a_publisher_is_asked_at_a_bounded_rate(
    steps: list[tuple[int, bool, float]],
) -> None:
    requests = Requests()
    wishes = [KeyframeWish(requests) for _ in range(3)]
    sent: list[float] = []
    now = 0.0
    for which, answered, pause in steps:
        now += pause
        if answered:
            wishes[which].seen(now)
        wishes[which].ask(now)
        sent += [now for wish in wishes if wish.due(now)]
    assert all(later - earlier >= KEYFRAME_INTERVAL - 1e-9 for earlier, later in pairwise(sent))
