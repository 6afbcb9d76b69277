"""The loss of one direction of a link, as a rate that moves in steps.

In: how many datagrams were sent, how many of them were lost, in how many bursts,
as acknowledgements or probes tell. Out: loss and mean burst, and that they made a step. Loss comes
in bursts, and a window of a few seconds says something else each time: so what
is known is kept, and refined ever more slowly, until the recent bursts are
nothing that it explains. Two sums of log-likelihoods (Page's CUSUM) watch for
that: one for much more, one for much less. A burst counts once, however long it is. Nothing here
knows time, or who counted.
"""

from __future__ import annotations

import math

CLEAN = 0.0005  # bursts a datagram that a clean link may have
LOSSY = 0.03  # what a clean link is suspected of; of one that loses already: MORE times as much
MORE = 3.0
LESS = 0.25
PROOF = 9.5  # e^9.5 ≈ 13,000 to one: three losses within ninety datagrams of a clean link
STRONGER_PROOF = 12.5  # where losses are usual
PRIOR = 200.0  # datagrams without loss are taken for granted at first
MEMORY = 3000.0  # datagrams


class Lossiness:
    """One direction. Counts may be fractions, and negative to take back what was only late."""

    __slots__ = ("_bursts", "_less", "_lost", "_more", "_prior", "_since", "_total", "_usual", "steps")

    def __init__(self) -> None:
        self.steps = 0  # ever
        self.forget()

    def forget(self) -> None:
        """The link went down: the path may be another when it is back."""
        self._total = self._lost = self._bursts = 0.0
        self._prior = PRIOR
        self._more = self._less = 0.0  # log-likelihoods
        self._since = (0.0, 0.0, 0.0)  # datagrams, lost, bursts: since more was first suspected
        self._usual = CLEAN  # bursts a datagram, before that

    @property
    def loss(self) -> float:
        """Fraction of the datagrams lost."""
        return min(1.0, max(0.0, self._lost / self._total)) if self._total else 0.0

    @property
    def burst(self) -> float:
        """Mean length of a run of lost datagrams; 1 while nothing was lost."""
        return max(1.0, self._lost / self._bursts) if self._bursts > 0.5 else 1.0

    def note(self, total: float, lost: float, bursts: float) -> bool:
        """Of *total* datagrams *lost* were lost in so many *bursts*; whether that is a step."""
        rate = max(CLEAN, self._bursts / (self._total + self._prior) if self._total else 0.0)
        if total <= 0:  # nothing new, or what was late after all
            self._lost += lost
            self._bursts += bursts
            if self._more and bursts < 0:
                self._suspect_more(rate, 0.0, lost, bursts)
            return False
        if self._suspect_more(rate, total, lost, bursts):
            total, lost, bursts = self._since
            # What made us suspicious is no evidence of how often: the first burst is left out.
            self._restart(total, lost * (bursts - 1) / bursts, bursts - 1)
            return True
        less = LESS * rate
        self._less += total * (rate - less) + bursts * math.log(LESS)
        self._less = max(0.0, self._less) if rate > 4 * CLEAN else 0.0
        keep = math.exp(-total / MEMORY)
        self._total = self._total * keep + total
        self._lost = self._lost * keep + lost
        self._bursts = self._bursts * keep + bursts
        if self._less >= STRONGER_PROOF:
            self._restart(STRONGER_PROOF / (rate - less), 0.0, 0.0)
            return True
        return False

    def _suspect_more(self, rate: float, total: float, lost: float, bursts: float) -> bool:
        if not self._more:
            if bursts <= 0:
                return False
            # How long it was clean before does not matter: about so much comes after the first of the bursts.
            total *= bursts / (bursts + 1.0)
            self._since = (0.0, 0.0, 0.0)
            self._usual = rate
        if self._usual <= CLEAN:
            # What is suspect must not become what is usual. Where losses are usual already it may.
            rate = CLEAN
        more = min(0.5, max(LOSSY, MORE * rate))
        if more <= rate:
            return False
        since = self._since
        self._since = (since[0] + max(total, lost), since[1] + lost, since[2] + bursts)
        self._more = max(0.0, self._more + bursts * math.log(more / rate) - total * (more - rate))
        proof = PROOF if rate <= 2 * CLEAN else STRONGER_PROOF
        return self._more >= proof and self._since[2] >= 2

    def _restart(self, total: float, lost: float, bursts: float) -> None:
        self._total, self._lost, self._bursts = total, max(0.0, lost), max(0.0, bursts)
        self._prior = 0.0
        self._more = self._less = 0.0
        self.steps += 1

    def debug_state(self) -> dict[str, object]:
        return {"loss": round(self.loss, 5), "burst": round(self.burst, 2), "steps": self.steps}
