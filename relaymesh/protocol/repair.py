"""Repair policies: what a link does about loss, for each priority class.

In: what is known of the path (:class:`Path`), a packet's class, how much time
it has left. Out: how long a class may be late, how much redundancy to send
ahead of losses (FEC), and how much behind them, with retransmissions. A policy
decides and keeps no state; :mod:`relaymesh.protocol.recovery` acts.

*Added delay* is what a packet takes longer than one that was not lost. With
ARQ alone it is one RTT and the time until the loss is noticed; a second
retransmission costs as much again. So the last retransmission that can make the
deadline is sent with redundancy, as Hairpin does (NSDI 2024): a Reed–Solomon
block over the packets that are at their last chance, which shares its repair
packets among all of them. On a clean link nothing is sent and nothing waits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

ROUND_MARGIN = 0.012  # seconds from an arrival to its ACK: reordering tolerance and ACK interval
RESIDUAL = 3e-5  # fraction of packets that may stay lost
FEWEST_LOST = 1e-4  # loss below this gets nothing ahead
MAX_RESERVE = 0.5  # repair bytes per media byte, whatever the peer claims


@dataclass(frozen=True, slots=True)
class Path:
    """Measurements of the path to the peer."""

    loss: float  # fraction of datagrams
    burst: float  # mean length of a run of lost datagrams, at least 1
    rtt: float  # seconds
    variation: float  # seconds, of the RTT
    retransmission_loss: float = 0.0  # fraction of the retransmissions lost


@dataclass(frozen=True, slots=True)
class Ahead:
    """Protection before anything is lost: blocks of a class."""

    sources: int  # that close a block
    wait: float  # seconds that close a block
    tolerated: float  # fraction of packets that may stay lost after it
    block: int  # 0 … 3: classes of the same number share their blocks


@dataclass(frozen=True, slots=True)
class Behind:
    """Redundancy with retransmissions."""

    wait: float  # seconds to gather the packets it protects
    tolerated: float  # fraction of the retransmitted packets that may stay lost after it


class RepairPolicy(Protocol):
    """The face of a policy. ``priority`` is the class of a media frame, 0 (audio) … 3."""

    name: str
    retransmits: bool

    def budget(self, priority: int, path: Path) -> float:
        """Seconds a packet of this class may be late."""
        ...

    def reserve(self, path: Path) -> float:
        """Redundant bytes (not the retransmissions themselves) that may be sent per media byte."""
        ...

    def ahead(self, priority: int, path: Path) -> Ahead | None:
        """Protection ahead of losses."""
        ...

    def behind(self, tries: int, left: float, path: Path) -> Behind | None:
        """Redundancy with retransmission number *tries* (from 1) of a packet with *left* seconds to go."""
        ...


def budget_of(priority: int, path: Path) -> float:
    """Default lateness budget of a packet: enough for one retransmission, or what its class bears."""
    return max((0.2, 0.4, 0.3, 0.2)[priority], 1.5 * path.rtt + 0.02)


class NoRepair:
    """Nothing: what is lost stays lost."""

    name = "none"
    retransmits = False

    def budget(self, priority: int, path: Path) -> float:
        return budget_of(priority, path)

    def reserve(self, path: Path) -> float:
        return 0.0

    def ahead(self, priority: int, path: Path) -> Ahead | None:
        return None

    def behind(self, tries: int, left: float, path: Path) -> Behind | None:
        return None


class ArqOnly(NoRepair):
    """Each loss is sent again, as long as it can make the deadline."""

    name = "arq"
    retransmits = True


class FecOnly(NoRepair):
    """Blocks over everything, strong enough for the loss measured; nothing is sent again."""

    name = "fec"

    def reserve(self, path: Path) -> float:
        return MAX_RESERVE

    def ahead(self, priority: int, path: Path) -> Ahead | None:
        if path.loss < FEWEST_LOST:
            return None
        return Ahead(24, 0.04, RESIDUAL, 0)


class Adaptive(NoRepair):
    """Retransmission, with redundancy where there is no second chance; audio on long links ahead as well."""

    name = "adaptive"
    retransmits = True
    LATE = 0.005  # fraction of packets that may need more than one round …
    LATE_LEFT = 0.001  # … and what redundancy should make of it, where it is more
    LONG_RTT = 0.1  # seconds from which audio cannot wait for a retransmission unheard

    def reserve(self, path: Path) -> float:
        # With the retransmissions themselves (one per loss, and again for their losses) this stays
        # below twice the loss and 2 %.
        return min(MAX_RESERVE, 0.9 * path.loss + 0.015)

    def ahead(self, priority: int, path: Path) -> Ahead | None:
        if priority or path.loss < 20 * FEWEST_LOST or path.rtt < self.LONG_RTT:
            return None
        return Ahead(10, 0.04, 0.02 * path.loss, 0)

    def behind(self, tries: int, left: float, path: Path) -> Behind | None:
        loss = max(path.loss, 1e-3)
        if left < path.rtt + 2 * path.variation + ROUND_MARGIN:  # the last chance
            return Behind(min(0.08, 0.6 * left), min(0.5, RESIDUAL / loss**tries))
        # Enough chances; but too many packets would need the second.
        if tries == 1 and path.loss * path.retransmission_loss > self.LATE:
            in_time = 0.5 * path.rtt + 0.02 - ROUND_MARGIN
            return Behind(max(0.0, min(0.08, 0.5 * in_time, left)), self.LATE_LEFT / path.loss)
        return None


POLICIES: dict[str, type[NoRepair]] = {
    policy.name: policy for policy in (NoRepair, ArqOnly, FecOnly, Adaptive)
}
DEFAULT_POLICY = Adaptive.name


def policy_called(name: str) -> RepairPolicy:
    """The policy of that name. Raises ``KeyError``."""
    return POLICIES[name]()


# --- how much redundancy -----------------------------------------------------------------------------


def repairs_ahead(sources: int, tolerated: float, path: Path, most: int) -> int:
    """The fewest repair packets right behind *sources* that leave at most *tolerated* of them lost."""
    for repairs in range(most):
        if _left_ahead(sources, repairs, *_rounded(path)) <= tolerated:
            return repairs
    return most


def repairs_behind(sources: int, tolerated: float, path: Path, most: int) -> int:
    """The same when the repair packets travel well apart from the sources, so that no burst hits both."""
    for repairs in range(1, most):
        if _left_behind(sources, repairs, *_rounded(path)) <= tolerated:
            return repairs
    return most


def _rounded(path: Path) -> tuple[float, float]:
    """Loss and burst on a coarse grid, upwards, so that tables can be kept."""
    loss = min(0.5, max(1e-4, path.loss))
    burst = min(32.0, max(1.0, path.burst))
    return (
        1.25 ** math.ceil(math.log(loss, 1.25) - 0.25),
        1.0 if burst < 1.3 else 1.5 ** math.ceil(math.log(burst, 1.5) - 0.25),
    )


@lru_cache(maxsize=4096)
def _losses(packets: int, loss: float, burst: float) -> tuple[float, ...]:
    """Probability of 0, 1, … *packets* losses among so many in a row (Gilbert's model)."""
    end = 1 / burst if burst > 1.0 else 1 - loss  # a burst of mean 1 is loss without memory
    begin = min(1.0, end * loss / (1 - loss))
    good, bad = [1 - loss], [0.0, loss]  # by losses so far: the last packet came, or did not
    good.append(0.0)
    for _ in range(packets - 1):
        good, bad = (
            [g * (1 - begin) + b * end for g, b in zip(good, bad, strict=True)] + [0.0],
            [0.0] + [g * begin + b * (1 - end) for g, b in zip(good, bad, strict=True)],
        )
    return tuple(g + b for g, b in zip(good, bad, strict=True))


@lru_cache(maxsize=8192)
def _left_ahead(sources: int, repairs: int, loss: float, burst: float) -> float:
    total = sources + repairs
    return sum(p * lost / total for lost, p in enumerate(_losses(total, loss, burst)) if lost > repairs)


@lru_cache(maxsize=8192)
def _left_behind(sources: int, repairs: int, loss: float, burst: float) -> float:
    came = [1.0 - sum(_losses(repairs, loss, burst)[repairs - lost + 1 :]) for lost in range(repairs + 1)]
    # came[j]: the probability that at least j repair packets arrive
    return sum(
        p * lost / sources * (1.0 - (came[lost] if lost <= repairs else 0.0))
        for lost, p in enumerate(_losses(sources, loss, burst))
        if lost
    )
