"""The border for link reports: what a node says is believed only about its own links, and only so often.

In: a :class:`Report` of a known sender. Out: the link reports that may enter
the link-state database. Values are finite and in range already (the message
decoder refuses others); what is checked here is whose links they are and how
many come. Whatever is left out is counted, and nobody else's links are touched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from relaymesh.controller.buckets import TokenBucket
from relaymesh.protocol.messages import LinkReport, Report

# A node reports on a period and at once when a link changes; each of its links
# may flap, so the burst is generous, the rate is not.
REPORTS_PER_S = 20.0
REPORT_BURST = 100.0


class Intake:
    """Filters reports; counts what it drops, per reason and per node."""

    def __init__(self, are_neighbours: Callable[[int, int], bool]) -> None:
        self._are_neighbours = are_neighbours
        self._buckets: dict[int, TokenBucket] = {}
        self.counters: Counter[str] = Counter()  # reason → dropped
        self._dropped_by: Counter[int] = Counter()

    def handle_report(self, sender: int, report: Report, now: float) -> list[LinkReport]:
        """The parts of *report* that may be believed; empty when there are none."""
        bucket = self._buckets.get(sender)
        if bucket is None:
            bucket = self._buckets[sender] = TokenBucket(REPORTS_PER_S, REPORT_BURST, now)
        if not bucket.take(now):
            self._drop(sender, "report-flood")
            return []
        accepted: dict[int, LinkReport] = {}
        for link in report.links:
            if not self._are_neighbours(sender, link.peer):
                self._drop(sender, "report-foreign-link")
            elif link.peer in accepted:
                self._drop(sender, "report-duplicate-link")
            else:
                accepted[link.peer] = link
        return list(accepted.values())

    def forget(self, sender: int) -> None:
        """The node is gone for good."""
        self._buckets.pop(sender, None)
        self._dropped_by.pop(sender, None)

    def debug_state(self) -> dict[str, object]:
        return {"dropped": dict(self.counters), "dropped_by_node": dict(self._dropped_by)}

    def _drop(self, sender: int, reason: str) -> None:
        self.counters[reason] += 1
        self._dropped_by[sender] += 1
