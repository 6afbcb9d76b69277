"""How long a neighbour may be silent before its link is dead: the threshold follows the traffic.

In: when something was heard, and how much is lost. Out: a threshold in seconds. Where datagrams come
every few milliseconds, a tenth of a second without any is a death; where they
come with pauses (few of them, lost ones, a busy host) those pauses raise it,
up to what the operator allows. Nothing here knows what was heard, or from whom.
"""

from __future__ import annotations

LEAST = 0.05  # seconds; below that no link is dead, however busy
PROBES_MISSED = 2  # intervals: each has a probe of the peer, and its echo of ours
PROBES_LOST = 30  # more intervals for each unit of loss: 5 % of loss asks for one and a half
USUAL_PAUSES = 4  # × the mean pause between datagrams
LONGEST_PAUSES = 1.5  # × the longest pause of late: what happened once can happen again, a bit longer
_SMOOTHING = 1 / 16
_MEMORY = 20.0  # seconds in which the longest pause is forgotten to a third


class Silence:
    """One neighbour's silences; all times in seconds."""

    __slots__ = ("_interval", "_least", "_longest", "_mean", "_most")

    def __init__(self, probe_interval: float, dead_after: float) -> None:
        self._most = dead_after
        self._interval = probe_interval
        self._least = LEAST
        self.handle_loss(0.0)
        self._mean = probe_interval / 2
        self._longest = 0.0

    def handle_pause(self, pause: float) -> None:
        """A datagram came, *pause* after the one before."""
        pause = min(pause, self._most)  # of a real outage nothing is to be learned
        self._mean += (pause - self._mean) * _SMOOTHING
        if pause >= self._longest:
            self._longest = pause
        else:
            self._longest -= self._longest * min(1.0, pause / _MEMORY)

    def handle_loss(self, loss: float) -> None:
        """The fraction *loss* of the neighbour's probes does not arrive."""
        self._least = max(LEAST, (PROBES_MISSED + PROBES_LOST * loss) * self._interval)

    @property
    def threshold(self) -> float:
        """Silence that lasts this long is death."""
        usual = max(self._least, USUAL_PAUSES * self._mean, LONGEST_PAUSES * self._longest)
        return min(usual, self._most)

    def debug_state(self) -> dict[str, object]:
        return {
            "mean_pause_ms": self._mean * 1e3,
            "longest_pause_ms": self._longest * 1e3,
            "threshold_ms": self.threshold * 1e3,
        }
