"""Reports of links to the controller: on a period, sooner when they step, at once when one dies."""

from __future__ import annotations

from math import inf

from relaymesh.node.outbox import Outbox
from relaymesh.node.relay import RelayPort
from relaymesh.node.repair import LocalRepair
from relaymesh.protocol.bitstring import encode_set
from relaymesh.protocol.messages import Report

REPORT_PAUSE = 0.1  # s; between reports of links that got better or worse
REPORT_INTERVAL_SHORT = 0.3  # s; while a link is short: other ways should be found soon


class Reporting:
    """The clock of link reports."""

    def __init__(self, relay: RelayPort, repair: LocalRepair, outbox: Outbox, now: float) -> None:
        self._relay = relay
        self._repair = repair
        self._outbox = outbox
        self._interval = 1.0
        self.due = inf  # when :meth:`handle_timeout` is to be called, s; ∞: the controller wants no reports
        self._reported_at = now

    def start(self, interval: float, now: float) -> None:
        """The controller wants a report each *interval* seconds, the first at once."""
        self._interval, self.due = interval, now

    def handle_timeout(self, sessions: int, now: float) -> None:
        """Report if it is due. *sessions*: held now."""
        if now >= self.due or (
            self.due < inf and now >= self._reported_at + REPORT_INTERVAL_SHORT and self._relay.short
        ):
            self.report(sessions, now)

    def soon(self, now: float) -> None:
        """A link got better or worse: sooner than the period, but not at every step of every link."""
        if self.due < inf:
            self.due = min(self.due, max(now, self._reported_at + REPORT_PAUSE))

    def report(self, sessions: int, now: float) -> None:
        """Report now."""
        self.due = now + self._interval
        self._reported_at = now
        if self._outbox.connected:
            detoured = encode_set(self._repair.waiting())
            self._outbox.tell(Report(self._relay.reports(now), sessions, detoured))
