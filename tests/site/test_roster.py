from __future__ import annotations

import signal

from relaymesh.site.channel import Report
from relaymesh.site.roster import FIRST_WAIT, HOPELESS, LONGEST_WAIT, STEADY, Roster


def report(sessions: int = 0, *, connected: bool = True) -> Report:
    return Report(sessions, connected, "127.0.0.1:7600", "127.0.0.1:7500")


def roster(workers: int = 2) -> Roster:
    """A site whose workers have all come up at time 0."""
    found = Roster([(f"fra-1.{n}", f"http://x/worker/{n}") for n in range(1, workers + 1)])
    for number in range(1, workers + 1):
        found.handle_started(number, 1000 + number)
        assert not found.is_up(number)
        found.handle_report(number, report(), 0.0)
        assert found.is_up(number)
    return found


def fail(found: Roster, number: int, now: float, times: int = 1) -> list[float | None]:
    """It comes up and is killed at once, so many times: the waits."""
    waits = []
    for _ in range(times):
        found.handle_report(number, report(), now)
        waits.append(found.handle_ended(number, -signal.SIGKILL, now))
        found.handle_started(number, 1)
    return waits


# --- lives -------------------------------------------------------------------------------------


def test_a_worker_that_fails_again_and_again_waits_ever_longer_and_its_sibling_goes_on() -> None:
    found = roster()
    waits = fail(found, 1, 1.0, 10)
    assert waits[:4] == [FIRST_WAIT, 1.0, 2.0, 4.0] and waits[-1] == LONGEST_WAIT
    assert fail(found, 1, 1.0, 100)[-1] == LONGEST_WAIT
    assert found.is_up(2) and not found.failure


def test_who_ran_for_long_begins_anew_with_the_first_wait() -> None:
    found = roster()
    assert fail(found, 1, 0.0, 3)[-1] == 2.0
    found.handle_report(1, report(), 10.0)
    assert found.handle_ended(1, 1, 10.0 + STEADY - 0.1) == 4.0
    found.handle_report(1, report(), 100.0)
    found.handle_report(1, report(3), 130.0)
    assert found.handle_ended(1, 1, 100.0 + STEADY) == FIRST_WAIT


def test_one_that_was_stopped_alone_starts_again_and_that_is_no_failure() -> None:
    found = roster()
    for _ in range(20):
        found.handle_report(1, report(), 0.0)
        assert found.handle_ended(1, 0, 0.0) == FIRST_WAIT
    assert found.debug_state()[0]["failures"] == 0 and found.debug_state()[0]["restarts"] == 20


def test_a_worker_that_never_ran_ends_the_site_at_once() -> None:
    found = Roster([("fra-1.1", ""), ("fra-1.2", "")])
    for number in (1, 2):
        found.handle_started(number, number)
    found.handle_report(1, report(), 0.0)
    assert found.handle_ended(2, 1, 1.0) is None
    assert "fra-1.2 could not start (exit code 1)" in found.failure


def test_later_on_the_site_gives_up_only_when_none_runs_and_all_have_failed_often() -> None:
    found = roster()
    fail(found, 1, 0.0, 3 * HOPELESS)
    assert None not in fail(found, 2, 0.0, HOPELESS - 1) and not found.failure
    found.handle_report(1, report(), 0.0)
    assert fail(found, 2, 0.0) != [None], "the other one runs"
    assert found.handle_ended(1, 1, 0.0) is None
    assert "no worker runs" in found.failure


# --- clients -----------------------------------------------------------------------------------


def place(found: Roster, clients: int) -> list[int]:
    chosen = []
    for _ in range(clients):
        number = found.choose()
        assert number is not None
        found.handle_asked(number)
        chosen.append(number)
    return chosen


def test_clients_go_where_the_fewest_are() -> None:
    found = roster(3)
    found.handle_report(1, report(4), 1.0)
    found.handle_report(2, report(1), 1.0)
    chosen = place(found, 7)
    assert [chosen.count(number) for number in (1, 2, 3)] == [0, 3, 4]


def test_clients_on_their_way_count_until_a_report_does() -> None:
    found = roster()
    assert place(found, 2) == [1, 2]
    found.handle_answered(1, opened=True)
    found.handle_answered(2, opened=False)
    assert found.choose() == 2, "its client was refused"
    found.handle_report(1, report(1), 1.0)
    assert found.debug_state()[0]["sessions"] == 1
    found.handle_report(1, report(0), 2.0)
    assert found.choose() == 1, "its client left"


def test_who_does_not_know_the_mesh_yet_is_chosen_last_and_who_does_not_run_never() -> None:
    found = roster(3)
    found.handle_report(1, report(9), 1.0)
    found.handle_report(2, report(0, connected=False), 1.0)
    found.handle_ended(3, -9, 1.0)
    assert found.choose() == 1 and found.choose({1}) == 2
    assert found.choose({1, 2}) is None
    found.handle_ended(1, -9, 1.0)
    assert found.choose() == 2, "without a controller clients are served all the same"


def test_a_worker_that_died_has_no_clients() -> None:
    found = roster()
    found.handle_report(1, report(9), 1.0)
    found.handle_asked(1)
    found.handle_ended(1, -9, 2.0)
    found.handle_answered(1, opened=False)
    found.handle_started(1, 77)
    found.handle_report(1, report(), 3.0)
    shown = found.debug_state()[0]
    assert (shown["sessions"], shown["pid"], shown["restarts"], shown["state"]) == (0, 77, 1, "up")
