"""One direction of an emulated link: when a packet sent now arrives, how often, if at all.

In: the time, a packet's size, and randomness from a seeded generator. Out: the
times at which the packet is due at the other end: none when it is lost, two
when it is duplicated. It holds no packets, knows no clock, no task and no
socket, so that the same model serves real time and virtual time, and the same
seed loses the same packets.

A packet passes, in this order: the switch (`down`), the size limit (`mtu_bytes`),
the queue of a sender with a rate or a delivery trace, the wire, which may lose
it (a packet lost there has used the rate), the delay with its jitter, and the
places that hold packets back (`reorder`) or copy them (`duplicate`).

Jitter keeps the order unless one asks otherwise: a packet is never due before
one sent earlier, as on a path with queues. Behind a slow packet others
therefore wait, and with many packets within one jitter the mean delay rises a
little above the sum of its parts.

Sizes are those of whole IP packets in every mode: a datagram's bytes and ``UDP_OVERHEAD_BYTES``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from math import inf, isfinite, log
from typing import TYPE_CHECKING, Any, Literal, Self

from relaymesh.netsim.mahimahi import DeliveryTrace, TraceQueue

if TYPE_CHECKING:
    from random import Random

UDP_OVERHEAD_BYTES = 28  # IPv4 and UDP headers around a datagram

# 90th percentile minus median of an exponential distribution, in units of its mean.
P90_MINUS_MEDIAN = log(10) - log(2)


@dataclass(frozen=True, slots=True)
class GilbertElliott:
    """Loss that comes in bursts: a good and a bad state, judged once for each packet.

    The parameters are those of ``tc netem loss gemodel p r 1-h 1-k`` (Gilbert 1960,
    Elliott 1963): after each packet the state changes with probability *p* or *r*.
    """

    p: float  # probability to go from good to bad
    r: float  # probability to go from bad to good
    loss_bad: float = 1.0  # fraction lost in the bad state (1 − h)
    loss_good: float = 0.0  # fraction lost in the good state (1 − k)

    def __post_init__(self) -> None:
        for field in fields(self):
            _fraction(field.name, getattr(self, field.name))
        if self.p + self.r == 0:
            raise ValueError("p and r must not both be 0")

    @classmethod
    def from_mean(cls, loss: float, burst: float) -> Self:
        """Losses of *loss* on average (fraction below 1) in runs of *burst* packets on average (at least 1).

        Raises:
            ValueError: there is no such model; so much loss needs longer runs.
        """
        if not (isfinite(loss) and 0 <= loss < 1):
            raise ValueError(f"the mean loss must be a fraction below 1, not {loss}")
        if not (isfinite(burst) and burst >= 1):
            raise ValueError(f"the mean burst must be at least 1 packet, not {burst}")
        p = loss / (1 - loss) / burst
        if p > 1:
            raise ValueError(f"a mean loss of {loss} must come in runs of at least {loss / (1 - loss):.4g}")
        return cls(p=p, r=1 / burst)

    @property
    def mean_loss(self) -> float:
        """The fraction lost in the long run."""
        bad = self.p / (self.p + self.r)
        return bad * self.loss_bad + (1 - bad) * self.loss_good

    @property
    def mean_burst(self) -> float:
        """The mean length of a run of lost packets; 0 when nothing is lost, infinite when all are."""
        bad = self.p / (self.p + self.r)
        good = 1 - bad
        after_bad = (1 - self.r) * self.loss_bad + self.r * self.loss_good
        after_good = (1 - self.p) * self.loss_good + self.p * self.loss_bad
        lost = self.mean_loss
        lost_again = bad * self.loss_bad * after_bad + good * self.loss_good * after_good
        if lost == 0:
            return 0.0
        return inf if lost_again >= lost else lost / (lost - lost_again)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkConditions:
    """What one direction of a link is like at one time. Impossible values raise ``ValueError``."""

    delay_ms: float = 0.0  # the least one-way delay of a packet that waits in no queue
    # On top of it, exponentially distributed: 90th percentile minus median, the
    # meaning jitter has in topology files and link reports.
    jitter_ms: float = 0.0
    jitter_order: Literal["keep", "free"] = "keep"  # free: packets overtake each other by jitter
    loss: float = 0.0  # fraction, each packet for itself
    burst: GilbertElliott | None = None  # losses in bursts, besides `loss`
    reorder: float = 0.0  # fraction held back by reorder_ms, while those behind pass
    reorder_ms: float = 10.0
    duplicate: float = 0.0  # fraction that arrives twice
    rate_bps: float | None = None  # bits per second; None: not limited
    queue_ms: float = 100.0  # a packet that would wait longer for the rate is dropped
    mtu_bytes: int | None = None  # longest IP packet; None: not limited
    trace: DeliveryTrace | None = None  # delivery opportunities over time, instead of a rate
    down: bool = False  # everything is lost

    def __post_init__(self) -> None:
        for name in ("delay_ms", "jitter_ms", "reorder_ms", "queue_ms"):
            value = getattr(self, name)
            if not (isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be a number that is not negative, not {value}")
        for name in ("loss", "reorder", "duplicate"):
            _fraction(name, getattr(self, name))
        for name in ("rate_bps", "mtu_bytes"):
            limit = getattr(self, name)
            if limit is not None and not (isfinite(limit) and limit > 0):
                raise ValueError(f"{name} must be a number above 0, or none, not {limit}")
        if self.jitter_order not in ("keep", "free"):
            raise ValueError(f"jitter_order must be 'keep' or 'free', not {self.jitter_order!r}")
        if self.trace is not None and self.rate_bps is not None:
            raise ValueError("a link must have a trace or a rate_bps, not both")


def _fraction(name: str, value: float) -> None:
    if not (isfinite(value) and 0 <= value <= 1):
        raise ValueError(f"{name} must be a fraction from 0 to 1, not {value}")


class LinkModel:
    """One direction of a link under :class:`LinkConditions` that may change.

    The same conditions and generator state give the same answers to the same questions.
    """

    __slots__ = (
        "_bad",
        "_bad_log",
        "_busy_until",
        "_conditions",
        "_delay",
        "_good_log",
        "_jitter",
        "_last_due",
        "_left_in_state",
        "_loss",
        "_plain",
        "_queue",
        "_random",
        "_seconds_per_byte",
        "_trace",
        "delivered",
        "duplicated",
        "lost_down",
        "lost_mtu",
        "lost_queue",
        "lost_random",
    )

    def __init__(self, conditions: LinkConditions, rng: Random) -> None:
        self._random = rng.random
        self._last_due = -inf  # seconds; nothing in order may be due earlier
        self._busy_until = -inf  # seconds; when the sender has sent what it has
        self._trace: TraceQueue | None = None
        self._bad = False  # the burst model's state, and the packets it still lasts
        self._left_in_state = 0.0
        self.delivered = 0  # packets that arrive, their copies not counted
        self.duplicated = 0  # copies
        self.lost_random = 0  # packets lost on the wire
        self.lost_queue = 0  # packets that found the queue full
        self.lost_down = 0
        self.lost_mtu = 0
        self._conditions = LinkConditions()
        self._use(conditions)

    @property
    def conditions(self) -> LinkConditions:
        """What holds for packets sent now."""
        return self._conditions

    @property
    def lost(self) -> int:
        """Packets that never arrive, for whatever reason."""
        return self.lost_random + self.lost_queue + self.lost_down + self.lost_mtu

    def apply(self, now: float, **changes: Any) -> None:
        """Change fields of the conditions for packets sent from *now* (seconds) on.

        Those under way keep their times, those in the queue too: a new rate
        holds for what comes behind them. A new trace starts at *now*.

        Raises:
            ValueError: a value is impossible. Nothing is changed.
            TypeError: there is no such field. Nothing is changed.
        """
        self.adopt(now, replace(self._conditions, **changes))

    def adopt(self, now: float, conditions: LinkConditions) -> None:
        """From *now* (seconds) on *conditions* hold, the whole of them; otherwise as :meth:`apply`."""
        if conditions.trace is not None and conditions.trace != self._conditions.trace:
            self._trace = TraceQueue(conditions.trace, now)
        self._use(conditions)

    def _use(self, conditions: LinkConditions) -> None:
        """Put *conditions* into the units and shortcuts of :meth:`due`."""
        if conditions.burst != self._conditions.burst:
            self._start_bursts(conditions.burst)
        if conditions.trace is None:
            self._trace = None
        self._conditions = conditions
        self._delay = conditions.delay_ms / 1000
        self._jitter = conditions.jitter_ms / 1000 / P90_MINUS_MEDIAN  # mean of the exponential, seconds
        self._loss = conditions.loss
        self._seconds_per_byte = 8 / conditions.rate_bps if conditions.rate_bps else 0.0
        self._queue = conditions.queue_ms / 1000
        self._plain = (
            not (conditions.down or conditions.reorder or conditions.duplicate)
            and conditions.jitter_order == "keep"
            and conditions.burst is None
            and conditions.rate_bps is None
            and conditions.mtu_bytes is None
            and conditions.trace is None
        )

    def backlog(self, now: float) -> float:
        """Seconds a packet sent at *now* would wait for the rate."""
        return max(0.0, self._busy_until - now)

    def due(self, now: float, size: int) -> tuple[float, ...]:
        """When a packet of *size* bytes, sent at *now* (seconds), arrives; empty: never, two: twice.

        *now* must not go backwards by more than packets may be out of order.
        """
        if not self._plain:
            return self._due(now, size)
        # The same as below for most links, at half the price.
        if self._loss and self._random() < self._loss:
            self.lost_random += 1
            return ()
        at = now + self._delay
        if self._jitter:
            at -= log(1.0 - self._random()) * self._jitter
        if at < self._last_due:
            at = self._last_due
        else:
            self._last_due = at
        self.delivered += 1
        return (at,)

    def _due(self, now: float, size: int) -> tuple[float, ...]:
        conditions = self._conditions
        if conditions.down:
            self.lost_down += 1
            return ()
        if conditions.mtu_bytes is not None and size > conditions.mtu_bytes:
            self.lost_mtu += 1
            return ()
        sent = now
        if self._seconds_per_byte:
            start = self._busy_until if self._busy_until > now else now
            if start - now > self._queue:
                self.lost_queue += 1
                return ()
            sent = self._busy_until = start + size * self._seconds_per_byte
        elif conditions.trace is not None:
            left = self._leaves_by_trace(conditions.trace, now, size)
            if left is None:
                self.lost_queue += 1
                return ()
            sent = left
        if (self._loss and self._random() < self._loss) or (
            conditions.burst is not None and self._lost_in_burst(conditions.burst)
        ):
            self.lost_random += 1
            return ()
        self.delivered += 1
        at = self._arrival(sent, conditions)
        if conditions.duplicate and self._random() < conditions.duplicate:
            self.duplicated += 1
            return (at, self._arrival(sent, conditions))
        return (at,)

    def _arrival(self, sent: float, conditions: LinkConditions) -> float:
        """The other end of the wire for what left the sender at *sent*."""
        at = sent + self._delay
        if self._jitter:
            at -= log(1.0 - self._random()) * self._jitter
        if conditions.reorder and self._random() < conditions.reorder:
            return at + conditions.reorder_ms / 1000  # and nothing waits for it
        if conditions.jitter_order == "keep":
            self._last_due = at = max(at, self._last_due)
        return at

    def _leaves_by_trace(self, trace: DeliveryTrace, now: float, size: int) -> float | None:
        if self._trace is None:  # given with the first conditions: it starts with the first packet
            self._trace = TraceQueue(trace, now)
        return self._trace.leaves(now, size, self._queue)

    def _start_bursts(self, burst: GilbertElliott | None) -> None:
        """Enter *burst* in the state it is in on average."""
        if burst is None:
            return
        self._good_log = log(1 - burst.p) if burst.p < 1 else -inf
        self._bad_log = log(1 - burst.r) if burst.r < 1 else -inf
        self._bad = self._random() < burst.p / (burst.p + burst.r)
        self._left_in_state = self._stay()

    def _stay(self) -> float:
        """For how many packets the state just entered lasts: geometric, so one draw serves them all."""
        log_stay = self._bad_log if self._bad else self._good_log
        if log_stay == 0.0:
            return inf
        return 1 + log(1.0 - self._random()) // log_stay

    def _lost_in_burst(self, burst: GilbertElliott) -> bool:
        loss = burst.loss_bad if self._bad else burst.loss_good
        self._left_in_state -= 1
        if self._left_in_state <= 0:
            self._bad = not self._bad
            self._left_in_state = self._stay()
        return loss >= 1 or (loss > 0 and self._random() < loss)

    def debug_state(self) -> dict[str, object]:
        """The conditions that are not the default, and the counters, for people."""
        plain = LinkConditions()
        conditions = {
            field.name: getattr(self._conditions, field.name)
            for field in fields(LinkConditions)
            if field.name == "delay_ms" or getattr(self._conditions, field.name) != getattr(plain, field.name)
        }
        return {
            **conditions,
            "delivered": self.delivered,
            "duplicated": self.duplicated,
            "lost_random": self.lost_random,
            "lost_queue": self.lost_queue,
            "lost_down": self.lost_down,
            "lost_mtu": self.lost_mtu,
        }
