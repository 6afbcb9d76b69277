"""Thresholds of silence, the neighbour's and our own, as the traffic asks for them.

In: when something was heard or sent, and how much is lost. Out: a threshold in
seconds, and when a pause of ours must end. Where datagrams come every few
milliseconds, the twentieth part of a second without any is a death; where they
come with pauses (few of them, lost ones, a busy host) those pauses raise it, up
to what the operator allows. So that it may be short on a busy link, and media
that stops is no death, the sender of media lets no pause begin abruptly: it fills
them with probes, ever fewer. Nothing here knows what was heard, or from whom.
"""

from __future__ import annotations

import math

LEAST = 0.06  # seconds; below that no link is dead, however busy: twice what the peer lets pass
PROBES_MISSED = 2  # intervals: each has a probe of the peer, and its echo of ours
BUSY_PAUSE = 0.4  # probe intervals: where the mean pause is shorter, more than probes and echoes come
PROBES_LOST = 30  # more intervals for each unit of loss: 5 % of loss asks for one and a half
USUAL_PAUSES = 4  # × the mean pause between datagrams
JITTERS = 3.0  # × p90 − median of the round trips: a burst of late ones is no death
LONGEST_PAUSES = 1.5  # × the longest recent pause: what happened once can happen again, a bit longer
_SMOOTHING = 1 / 16
_MEMORY = 20.0  # seconds in which the longest pause is forgotten to a third

FILLED = 0.03  # seconds that a busy link may be silent: more than the packets of one audio track leave
BUSY_PACKETS = 2  # of media in two probe intervals, sent or received, make a link busy
FILLED_FOR = 0.5  # seconds after the last media that pauses stay so short; then each is longer …
FILLED_GROWTH = 1.2  # … by this factor, which LONGEST_PAUSES bears, until probes alone are as often


class Silence:
    """One neighbour's silences; all times in seconds."""

    __slots__ = ("_interval", "_late", "_longest", "_lost", "_mean", "_most")

    def __init__(self, probe_interval: float, dead_after: float) -> None:
        self._most = dead_after
        self._interval = probe_interval
        self._lost = self._late = 0.0
        self._mean = probe_interval / 2
        self._longest = 0.0

    def handle_pause(self, pause: float) -> None:
        """A datagram came, *pause* after the one before."""
        if not pause:  # in the same batch
            self._mean -= self._mean * _SMOOTHING
            return
        pause = min(pause, self._most)  # of a real outage nothing is to be learned
        self._mean += (pause - self._mean) * _SMOOTHING
        if pause >= self._longest:
            self._longest = pause
        else:
            self._longest -= self._longest * min(1.0, pause / _MEMORY)

    def handle_loss(self, loss: float) -> None:
        """The fraction *loss* of the neighbour's probes does not arrive."""
        self._lost = PROBES_LOST * loss * self._interval

    def handle_jitter(self, jitter: float) -> None:
        """Datagrams of the neighbour are late by *jitter* seconds now and then."""
        self._late = JITTERS * jitter

    @property
    def least(self) -> float:
        """No threshold is shorter."""
        return min(LEAST, self._most)

    @property
    def threshold(self) -> float:
        """Silence that lasts this long is death."""
        least = LEAST if self._mean < BUSY_PAUSE * self._interval else PROBES_MISSED * self._interval
        usual = max(LEAST, least, USUAL_PAUSES * self._mean) + self._lost + self._late
        return min(max(usual, LONGEST_PAUSES * self._longest), self._most)

    def debug_state(self) -> dict[str, object]:
        return {
            "mean_pause_ms": self._mean * 1e3,
            "longest_pause_ms": self._longest * 1e3,
            "threshold_ms": self.threshold * 1e3,
        }


class Filling:
    """Our own pauses on one link; all times in seconds."""

    __slots__ = ("_before", "_counted", "_interval", "_until", "longest")

    def __init__(self, probe_interval: float) -> None:
        self._interval = probe_interval
        self._before = self._counted = 0  # media packets: at the last two calls
        self._until = -math.inf
        self.longest = math.inf  # the pause after which something must be sent; inf: probes alone will do

    def handle_interval(self, media_packets: int, now: float) -> None:
        """A probe interval is over, and *media_packets* were ever sent or received."""
        if media_packets - self._before >= BUSY_PACKETS and self._interval > FILLED:
            self.longest = FILLED
            self._until = now + FILLED_FOR
        self._before, self._counted = self._counted, media_packets

    def handle_filled(self, now: float) -> None:
        """A pause was filled."""
        if now >= self._until:
            longer = self.longest * FILLED_GROWTH
            self.longest = longer if longer < self._interval else math.inf

    def debug_state(self) -> dict[str, object]:
        return {"filled_ms": None if self.longest == math.inf else self.longest * 1e3}
