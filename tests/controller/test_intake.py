from __future__ import annotations

from relaymesh.controller.intake import REPORT_BURST, REPORTS_PER_S, Intake
from relaymesh.protocol.messages import Report
from tests.controller.reports import down, up


def ring_of_three(one: int, other: int) -> bool:
    return one != other and one < 3 and other < 3


def test_a_node_is_believed_about_its_own_links_only() -> None:
    intake = Intake(ring_of_three)
    report = Report((up(1), up(7), up(0), up(2)))
    assert intake.handle_report(0, report, 0.0) == [up(1), up(2)]
    assert intake.counters == {"report-foreign-link": 2}


def test_a_link_reported_twice_counts_once() -> None:
    intake = Intake(ring_of_three)
    assert intake.handle_report(0, Report((up(1), down(1))), 0.0) == [up(1)]
    assert intake.counters == {"report-duplicate-link": 1}


def test_a_flood_is_dropped_and_only_the_flooder_suffers() -> None:
    intake = Intake(ring_of_three)
    taken = sum(bool(intake.handle_report(0, Report((up(1),)), 0.0)) for _ in range(1000))
    assert taken == REPORT_BURST
    assert intake.counters["report-flood"] == 1000 - REPORT_BURST
    assert intake.handle_report(1, Report((up(0),)), 0.0) == [up(0)]
    assert intake.handle_report(0, Report((up(1),)), 1.0 / REPORTS_PER_S) == [up(1)]
    assert intake.debug_state()["dropped_by_node"] == {0: 1000 - REPORT_BURST}
    intake.forget(0)
    assert intake.debug_state()["dropped_by_node"] == {}
