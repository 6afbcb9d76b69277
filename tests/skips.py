"""A bound on tests that do not run: what is skipped because the machine is too busy, and all that is skipped.

A test that measures in real time may find that the machine cannot carry it; then it says so by
:func:`too_busy`. One such skip is bad luck. More of them, or any in CI, would mean that less is
tested and nobody sees it, so the run fails. `RELAYMESH_BUSY_SKIPS` sets how many there may be
(default: none where `CI` is set, else one); `RELAYMESH_SKIPS`, where it is set, how many of any
reason, for a machine that has everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import pytest

BUSY = "the machine is too busy: "


def too_busy(reason: str) -> NoReturn:
    """Skip the test that runs, for a reason that lies in how busy the machine is."""
    pytest.skip(BUSY + reason)


@dataclass
class SkipBudget:
    """Counts skips of a run; a pytest plugin. With xdist it hears of those of all workers."""

    busy_most: int
    most: int | None = None
    busy: list[str] = field(default_factory=list)  # node ids
    every: list[str] = field(default_factory=list)

    def __hash__(self) -> int:  # pytest keeps plugins in a set
        return id(self)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> SkipBudget:
        busy = environment.get("RELAYMESH_BUSY_SKIPS") or ("0" if environment.get("CI") else "1")
        most = environment.get("RELAYMESH_SKIPS")
        return cls(int(busy), int(most) if most else None)

    @property
    def broken(self) -> list[str]:
        """Which bounds do not hold, as sentences."""
        said = []
        if len(self.busy) > self.busy_most:
            said.append(
                f"{len(self.busy)} tests were skipped as the machine is too busy, "
                f"at most {self.busy_most} may be: {', '.join(self.busy)}"
            )
        if self.most is not None and len(self.every) > self.most:
            said.append(
                f"{len(self.every)} tests were skipped, at most {self.most} may be: {', '.join(self.every)}"
            )
        return said

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        self.every.append(report.nodeid)
        if BUSY in str(report.longrepr):
            self.busy.append(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.broken and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for sentence in self.broken:
            terminalreporter.write_line(f"FAILED: {sentence}", red=True)
