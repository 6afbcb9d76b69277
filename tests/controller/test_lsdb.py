from __future__ import annotations

from relaymesh.controller.lsdb import LinkState, LinkStateDb
from tests.controller.reports import down, up

BOTH = {(0, 1), (1, 0)}


def pair(grace: float = 60.0) -> LinkStateDb:
    """Two connected nodes whose link is up."""
    db = LinkStateDb(grace)
    db.handle_connected(0, fresh=True, now=0.0)
    db.handle_connected(1, fresh=True, now=0.0)
    db.handle_report(0, [up(1)], 0.0)
    db.handle_report(1, [up(0)], 0.0)
    return db


def is_up(db: LinkStateDb) -> bool:
    states = [db.state((0, 1)), db.state((1, 0))]
    ups = {state is not None and state.up for state in states}
    assert len(ups) == 1, "both directions go up and down together"
    return ups.pop()


def test_a_link_is_up_when_both_ends_say_so() -> None:
    db = LinkStateDb()
    db.handle_connected(0, fresh=True, now=0.0)
    db.handle_connected(1, fresh=True, now=0.0)
    db.handle_report(0, [up(1)], 0.0)
    assert not is_up(db)
    assert db.handle_report(1, [up(0)], 0.0) == BOTH
    assert is_up(db)
    assert db.handle_report(1, [down(0)], 1.0) >= {(1, 0)}
    assert not is_up(db)


def test_each_direction_has_its_own_measurements() -> None:
    db = pair()
    assert db.handle_report(0, [up(1, 10.0, jitter_ms=3.0, loss_out=0.1, loss_in=0.5)], 1.0) == {(0, 1)}
    assert db.state((0, 1)) == LinkState(True, 10.0, 3.0, 0.1)
    assert db.state((1, 0)) == LinkState(True, 10.0, 0.0, 0.0)
    assert db.handle_report(0, [up(1, 10.0, jitter_ms=3.0, loss_out=0.1, loss_in=0.5)], 2.0) == set()


def test_a_round_trip_is_as_long_as_the_end_says_that_finds_it_longer() -> None:
    db = pair()
    assert db.handle_report(0, [up(1, 0.0)], 1.0) == set(), "nobody makes a link short by saying so"
    assert db.handle_report(0, [up(1, 30.0)], 2.0) == BOTH
    assert db.state((1, 0)) == LinkState(True, 30.0, 0.0, 0.0)


def test_a_closed_channel_alone_moves_nothing_and_the_neighbour_decides() -> None:
    db = pair()
    assert db.handle_disconnected(1, 1.0) == set()
    assert is_up(db) and db.is_reached(1)
    assert db.handle_report(0, [up(1, 30.0, loss_in=0.2)], 100.0) == BOTH
    assert db.state((1, 0)) == LinkState(True, 30.0, 0.0, 0.2)  # by the end that can speak
    assert db.handle_report(0, [down(1)], 101.0) == BOTH
    assert not db.is_reached(1)
    db.handle_report(0, [up(1)], 102.0)
    assert is_up(db)


def test_where_both_ends_are_silent_the_link_lasts_for_a_grace() -> None:
    db = pair(grace=60.0)
    db.handle_disconnected(0, 1.0)
    db.handle_disconnected(1, 5.0)
    assert is_up(db) and db.next_timeout() == 65.0
    assert db.handle_timeout(64.9) == set()
    assert db.handle_timeout(65.0) == BOTH
    assert not is_up(db) and db.next_timeout() is None


def test_silence_that_ends_within_the_grace_leaves_no_trace() -> None:
    db = pair(grace=60.0)
    db.handle_disconnected(0, 1.0)
    db.handle_disconnected(1, 1.0)
    assert db.handle_connected(0, fresh=False, now=10.0) == set()
    assert db.handle_timeout(61.0) == set()
    assert is_up(db) and db.next_timeout() is None


def test_a_new_boot_must_speak_for_itself() -> None:
    db = pair()
    db.handle_disconnected(1, 1.0)
    assert db.handle_connected(1, fresh=True, now=2.0) == BOTH
    assert not is_up(db)
    db.handle_report(1, [up(0)], 3.0)
    assert is_up(db)


def test_a_forgotten_node_leaves_nothing_behind() -> None:
    db = pair()
    assert db.forget(1) == BOTH
    assert db.states() == {} and db.state((0, 1)) is None
    db.handle_report(0, [up(1)], 2.0)
    assert not is_up(db)  # what the forgotten one said of it is forgotten, too
    assert db.forget_link(0, 1) == BOTH
    assert db.states() == {}
