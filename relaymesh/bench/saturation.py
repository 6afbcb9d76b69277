"""How many packets a second a node carries to N players before they come late: the search for that rate.

In: a :class:`~relaymesh.bench.edge.Setting`. Out: a :class:`Saturation`. The rate is doubled until it is not
carried, then narrowed. A rate counts as too much only when several runs say so: others' work on the machine
makes a run late, and never early.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from relaymesh.bench.edge import LEAST_ARRIVED, NODE, Edge, Run, Say, Setting, set_up
from relaymesh.bench.packet_mesh import BenchFailed
from relaymesh.bench.packet_rows import Row

BOUND_MS = 5.0  # of the added delay at p99, up to which a rate counts as carried
SATURATION_BURST = 16
FIRST_RATE = 200  # packets a second
MOST_STEPS = 24
TRIES = 3  # runs of a rate
FINEST_STEP = 1.08  # between the last rate that was carried and the first that was not


@dataclass(frozen=True, slots=True)
class Saturation:
    """The highest rate that was carried: nearly all arrived, p99 within the bound."""

    players: int
    profile: str
    feedback: str
    rate: float  # packets a second of the feed; 0: none was carried
    sent_per_s: float  # to all players
    per_core_s: float  # of those, for each core's worth of CPU that the node used
    cpu: float  # cores
    p99_ms: float
    ended_by: str  # what the next rate did


def saturate(setting: Setting, say: Say) -> Saturation:
    """Raise the rate until the node does not carry it any more. Raises :class:`BenchFailed`."""
    search = Search(setting, say)
    while search.rate and search.steps < MOST_STEPS:
        with ExitStack() as stack:  # anew after a rate at which connections broke
            search.go_on(set_up(stack, setting, say, alone=True))
    return search.found()


class Search:
    """The search for the highest rate that is carried."""

    def __init__(self, setting: Setting, say: Say) -> None:
        self.rate = FIRST_RATE  # to try next, packets a second; 0: it is known
        self.steps = 0
        self._setting = setting
        self._say = say
        self._low = self._high = 0  # carried, not carried; 0: none yet
        self._best: Run | None = None
        self._idle = 0.0
        self._ended_by = "no further rate was tried"

    def go_on(self, edge: Edge) -> None:
        """Try rates until it is known, or until *edge* is broken."""
        setting = self._setting
        idle = edge.idle(setting.idle_seconds)[NODE]
        while self.rate and self.steps < MOST_STEPS:
            self.steps += 1
            try:
                run, refusal = self._try(edge)
            except BenchFailed as error:
                run, refusal = None, str(error)
            self._say(f"{self.rate}/s to {setting.players} players: {refusal or 'carried'}")
            self._note(run, refusal, idle)
            if run is None:
                return

    def _try(self, edge: Edge) -> tuple[Run, str]:
        """The run at this rate, and what says that it is too much. Raises :class:`BenchFailed`."""
        setting, row = self._setting, Row(self.rate, SATURATION_BURST)
        if setting.lead_seconds:
            edge.run(row, setting.lead_seconds)
        for _ in range(TRIES):
            run = edge.run(row, setting.seconds)
            refusal = why_not_carried(run, setting.players)
            if not refusal:
                break
            edge.idle(setting.idle_seconds)  # let the queues go
        return run, refusal

    def _note(self, run: Run | None, refusal: str, idle: float) -> None:
        if refusal:
            self._high, self._ended_by = self.rate, f"{self.rate}/s: {refusal}"
        else:
            self._low, self._best, self._idle = self.rate, run, idle
        self.rate = next_rate(self._low, self._high)

    def found(self) -> Saturation:
        """What was found."""
        setting, run = self._setting, self._best
        rate = float(self._low)
        cpu = (run.cpu_s - self._idle * run.seconds) * rate / run.sent.packets if run else 0.0
        return Saturation(
            players=setting.players,
            profile=setting.profile,
            feedback=setting.feedback,
            rate=rate,
            sent_per_s=rate * setting.players,
            per_core_s=rate * setting.players / max(cpu, 1e-9),
            cpu=cpu,
            p99_ms=run.tally.p99_ms if run else 0.0,
            ended_by=self._ended_by,
        )


def next_rate(low: int, high: int) -> int:
    """The rate to try when *low* was carried and *high* was not (0: none yet); 0: it is known."""
    if not high:
        return low * 2
    if not low:
        return high // 2 if high // 2 >= SATURATION_BURST else 0
    return round((low * high) ** 0.5) if high / low > FINEST_STEP else 0


def why_not_carried(run: Run, players: int) -> str:
    """What says that this rate is too much; empty: nothing."""
    arrived = run.tally.arrived / (run.sent.packets * players)
    if run.sent.late_p99_ms > BOUND_MS:
        return f"the feed was late: {run.sent.late_p99_ms:.1f} ms at p99"
    if arrived < LEAST_ARRIVED:
        return f"{arrived * 100:.2f} % arrived"
    if run.tally.p99_ms > BOUND_MS:
        return f"p99 {run.tally.p99_ms:.1f} ms"
    return ""
