from __future__ import annotations

from relaymesh.controller.settling import Settling
from relaymesh.protocol.messages import Report
from tests.controller.reports import down, up


def test_the_wait_ends_when_everybody_who_is_heard_is_back() -> None:
    settling = Settling(8.0)
    settling.handle_report(0, Report((up(1),)), [0], 0.0)
    assert not settling.waiting and settling.next_timeout() is None
    settling.begin(10.0)
    settling.handle_join()
    settling.handle_report(0, Report((up(1), down(2))), [0], 10.5)
    assert settling.next_timeout() == 18.0
    settling.handle_join()
    settling.handle_report(1, Report((up(0),)), [0, 1], 11.0)
    assert settling.next_timeout() == 18.0  # 0 has not said anew what it hears
    settling.handle_report(0, Report((up(1),)), [0, 1], 11.5)
    assert settling.next_timeout() == 11.5
    assert settling.handle_timeout(11.5) and not settling.handle_timeout(11.5)


def test_the_wait_ends_in_any_case() -> None:
    settling = Settling(8.0)
    settling.begin(10.0)
    settling.handle_report(0, Report((up(1),)), [0], 10.5)
    assert not settling.handle_timeout(17.9)
    assert settling.waiting and settling.handle_timeout(18.0)
    assert not settling.waiting
