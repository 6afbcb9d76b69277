"""A subscriber's bandwidth estimated over emulated access paths: rate × round trip × loss × others' traffic.

In: cells, each with the estimator that leads. Out: per cell how much of the path one flow uses, the queue
it makes, how soon it is there, and how two flows share; and, in runs of their own, how a cut of the rate is
followed and forgotten. Virtual time: the same on every machine.

The flows are elastic: encoders that follow the estimate up to 8 Mbit/s, with audio. The estimators are ours
(`relaymesh.webrtc.bwe`, at the sender) and, where it is installed, aiortc's (at the receiver: `access_remb`).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import inf

from relaymesh.bench.access_path import Flow, FlowSettings, Path, follow_estimate
from relaymesh.bench.access_remb import RembFlow
from relaymesh.netsim.link_model import LinkConditions, LinkModel

OURS, AIORTC = "ours", "aiortc"
RATES_MBPS = (0.5, 2.0, 5.0)
RTTS_MS = (20.0, 50.0, 150.0, 300.0)
LOSSES = (0.0, 0.05)  # each way, at random
# Name → share of the rate, seconds on, seconds off; of somebody who heeds nothing.
CROSS = {"none": (0.0, 1.0, 0.0), "steady": (0.4, 1.0, 0.0), "bursts": (0.5, 4.0, 4.0)}
QUEUE_MS = 300.0  # the bottleneck's; what would wait longer is dropped
ALONE = (30.0, 60.0)  # seconds: one flow is measured from, until
SHARED = (30.0, 70.0)  # two
LATE = 5.0  # seconds that the second begins later
REACHED, WITHIN = 0.8, 1.0  # settled: so much of the share arrives, over so many seconds
CUT_RTTS_MS = (20.0, 50.0, 100.0, 150.0, 300.0)
CUT_AT, WIDE_AT, CUT_END = 15.0, 30.0, 60.0
WIDE_BPS, NARROW_BPS, CUT_OFFER_BPS, BACK_BPS = 2e6, 300e3, 1.7e6, 1.5e6


@dataclass(frozen=True, slots=True)
class Cell:
    """One access path, and who estimates it."""

    rate_mbps: float
    rtt_ms: float
    loss: float  # fraction
    cross: str  # of CROSS
    estimator: str  # OURS or AIORTC
    seed: int = 1

    @property
    def left_mbps(self) -> float:
        """The part of the rate that the others leave on average, less what is lost at random."""
        share, on, off = CROSS[self.cross]
        return self.rate_mbps * (1.0 - share * on / (on + off)) * (1.0 - self.loss)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one flow alone, and of two that share the path."""

    cell: Cell
    used: float  # of what the others leave; above 1: taken from them
    queue_p50_ms: float
    queue_p95_ms: float
    settled_s: float | None  # from the start; None: never
    shares_mbps: tuple[float, float]
    jain: float  # 1: equal; 0.5: one has all
    shared_used: float
    shared_queue_p95_ms: float


@dataclass(frozen=True, slots=True)
class Cut:
    """A path of 2 Mbit/s that is 300 kbit/s for 15 s."""

    rtt_ms: float
    seed: int
    estimator: str
    down_s: float | None  # until the estimate is within the narrow rate; None: never
    used_narrow: float  # of the narrow rate, after five seconds
    back_s: float | None  # until the estimate is 1.5 Mbit/s again; None: never


def grid(*, quick: bool, estimators: tuple[str, ...], seed: int = 1) -> list[Cell]:
    """All cells, or a few."""
    rates, rtts = (RATES_MBPS[:1], RTTS_MS[1:2]) if quick else (RATES_MBPS, RTTS_MS)
    crosses = ("none", "bursts") if quick else tuple(CROSS)
    return [
        Cell(rate, rtt, loss, cross, estimator, seed)
        for cross in crosses
        for rate in rates
        for rtt in rtts
        for loss in (LOSSES[:1] if quick else LOSSES)
        for estimator in estimators
    ]


def cuts(*, quick: bool, estimators: tuple[str, ...], seeds: int) -> list[tuple[float, int, str]]:
    """Arguments of :func:`cut`."""
    return [
        (rtt, seed, estimator)
        for rtt in (CUT_RTTS_MS[1:2] if quick else CUT_RTTS_MS)
        for seed in range(1, (min(1, seeds) if quick else seeds) + 1)
        for estimator in estimators
    ]


def run(cell: Cell) -> Result:
    """Both runs of *cell*."""
    on = _path(cell)
    alone = _flow(on, cell, 0)
    on.advance(ALONE[1])
    queue = on.queue(*ALONE)
    both = _path(cell)
    flows = _flow(both, cell, 0), _flow(both, cell, 1, start=LATE)
    both.advance(SHARED[1])
    one, other = (flow.mbps(*SHARED) for flow in flows)
    squares = one * one + other * other
    return Result(
        cell,
        used=alone.mbps(*ALONE) / cell.left_mbps,
        queue_p50_ms=_at(queue, 0.5),
        queue_p95_ms=_at(queue, 0.95),
        settled_s=_settled(alone, cell.left_mbps),
        shares_mbps=(round(one, 3), round(other, 3)),
        jain=(one + other) ** 2 / (2 * squares) if squares else 0.0,
        shared_used=(one + other) / cell.left_mbps,
        shared_queue_p95_ms=_at(both.queue(*SHARED), 0.95),
    )


def cut(of: tuple[float, int, str]) -> Cut:
    """One run: round trip in ms, seed, estimator."""
    rtt_ms, seed, estimator = of
    cell = Cell(WIDE_BPS / 1e6, rtt_ms, 0.0, "none", estimator, seed)
    on = _path(cell)
    flow = _flow(on, cell, 0, most_bps=CUT_OFFER_BPS)
    on.at(CUT_AT, lambda: on.forth.apply(CUT_AT, rate_bps=NARROW_BPS))
    on.at(WIDE_AT, lambda: on.forth.apply(WIDE_AT, rate_bps=WIDE_BPS))
    on.advance(CUT_END)
    down = next((at for at, bps in flow.estimates if CUT_AT < at < WIDE_AT and bps <= NARROW_BPS), inf)
    back = next((at for at, bps in flow.estimates if at > WIDE_AT and bps >= BACK_BPS), inf)
    return Cut(
        rtt_ms,
        seed,
        estimator,
        down_s=_finite(down - CUT_AT),
        used_narrow=flow.mbps(CUT_AT + 5.0, WIDE_AT) * 1e6 / NARROW_BPS,
        back_s=_finite(back - WIDE_AT),
    )


def _path(cell: Cell) -> Path:
    conditions = LinkConditions(
        delay_ms=cell.rtt_ms / 2, rate_bps=cell.rate_mbps * 1e6, loss=cell.loss, queue_ms=QUEUE_MS
    )
    path = Path(LinkModel(conditions, random.Random(cell.seed)))
    share, on, off = CROSS[cell.cross]
    if share:
        path.cross_traffic(share * cell.rate_mbps * 1e6, 0.0, inf, on, off)
    return path


def _flow(path: Path, cell: Cell, number: int, *, start: float = 0.0, most_bps: float = 8e6) -> Flow:
    seed = cell.seed + number
    back = LinkModel(LinkConditions(delay_ms=cell.rtt_ms / 2, loss=cell.loss), random.Random(seed + 100))
    kind = Flow if cell.estimator == OURS else RembFlow
    return kind(path, back, follow_estimate(most_bps), FlowSettings(start=start), seed)


def _settled(flow: Flow, left_mbps: float) -> float | None:
    """The end of the first seconds in which enough arrived."""
    tenths = range(round(WITHIN * 10), round(ALONE[1] * 10) + 1)
    ends = (t / 10 for t in tenths if flow.mbps(t / 10 - WITHIN, t / 10) >= REACHED * left_mbps)
    return next(ends, None)


def _at(ordered: list[float], fraction: float) -> float:
    return round(ordered[int(fraction * (len(ordered) - 1))], 1)


def _finite(seconds: float) -> float | None:
    return None if seconds == inf else round(seconds, 2)
