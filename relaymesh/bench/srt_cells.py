"""What the comparison with SRT runs: links, systems, and the latency that SRT is given.

In: text of the command line. Out: :class:`Cell` and :class:`System` objects. It runs nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from relaymesh.netsim.link_model import GilbertElliott, LinkConditions

LONGEST_RTT_MS = 1000.0
LONGEST_BURST = 100.0

# SRT Deployment Guide (Haivision), "Configuring SRT Streams": packet loss of at most (fraction) →
# (RTT multiplier, bandwidth overhead in per cent, least latency in ms for an RTT up to 20 ms).
_RECOMMENDED: tuple[tuple[float, int, int, int], ...] = (
    (0.01, 3, 33, 60),
    (0.03, 4, 25, 80),
    (0.07, 5, 20, 100),
    (0.10, 6, 17, 120),
)
HIGHEST_LOSS = _RECOMMENDED[-1][0]


class BadCell(ValueError):
    """No link of such numbers; the text is for people."""


@dataclass(frozen=True, slots=True)
class Cell:
    """An emulated link, the same in both directions."""

    rtt_ms: float
    loss: float  # fraction, each way
    burst: float  # mean length of a run of losses; 1: each packet for itself

    @property
    def bound_ms(self) -> float:
        """The added delay that our link is to stay below, as in ``bench link``."""
        return 1.5 * self.rtt_ms + 20.0

    @property
    def conditions(self) -> LinkConditions:
        """One direction of it."""
        burst = GilbertElliott.from_mean(self.loss, self.burst) if self.loss and self.burst > 1 else None
        return LinkConditions(delay_ms=self.rtt_ms / 2, loss=0.0 if burst else self.loss, burst=burst)

    def __str__(self) -> str:
        return f"{self.rtt_ms:g}:{self.loss * 100:g}:{self.burst:g}"


DEFAULT_CELLS = (Cell(40.0, 0.01, 1.0), Cell(80.0, 0.05, 1.0), Cell(160.0, 0.03, 3.0), Cell(40.0, 0.05, 8.0))


def parse_cell(text: str) -> Cell:
    """The cell written as ``RTT:LOSS:BURST`` (ms, per cent, packets).

    Raises:
        BadCell: it says something else, or what SRT has no recommendation for.
    """
    try:
        rtt_ms, loss_percent, burst = (float(word) for word in text.split(":"))
    except ValueError:
        raise BadCell(f"{text}: give RTT:LOSS:BURST, as in 80:5:1") from None
    if not 1 <= rtt_ms <= LONGEST_RTT_MS:
        raise BadCell(f"{text}: the RTT must be 1 to {LONGEST_RTT_MS:g} ms")
    if not 0 <= loss_percent <= HIGHEST_LOSS * 100:
        raise BadCell(
            f"{text}: the loss must be 0 to {HIGHEST_LOSS * 100:g} %: SRT recommends nothing beyond"
        )
    if not 1 <= burst <= LONGEST_BURST:
        raise BadCell(f"{text}: the mean burst must be 1 to {LONGEST_BURST:g} packets")
    return Cell(rtt_ms, loss_percent / 100, burst)


def recommended_latency_ms(rtt_ms: float, loss: float) -> int:
    """SRT's ``latency`` for a link, by the table of its makers: a multiple of the RTT, and a least value.

    *loss* is a fraction, at most :data:`HIGHEST_LOSS`.
    """
    for most, multiplier, _, least_ms in _RECOMMENDED:
        if loss <= most + 1e-9:
            return max(least_ms, math.ceil(multiplier * rtt_ms - 1e-9))
    raise ValueError(f"SRT recommends nothing for a loss of {loss}")


@dataclass(frozen=True, slots=True)
class System:
    """One of those compared."""

    name: str
    says: str  # what it is, in words

    def latency_ms(self, cell: Cell) -> int | None:
        """The ``latency`` of SRT; ``None``: this is not SRT."""
        if self is SRT:
            return recommended_latency_ms(cell.rtt_ms, cell.loss)
        return math.ceil(cell.bound_ms) if self is SRT_SHORT else None


SRT = System("srt", "srt-live-transmit at the latency recommended for the loss")
SRT_SHORT = System("srt-short", "srt-live-transmit at a latency of 1.5 × RTT + 20 ms, our bound")
RELAYMESH = System("relaymesh", "our relay link, adaptive repair")
SYSTEMS = {system.name: system for system in (SRT, SRT_SHORT, RELAYMESH)}
