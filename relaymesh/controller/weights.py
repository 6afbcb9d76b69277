"""The weights: what the planner counts for every directed link that is up, kept up link by link.

In: links about which something changed. Out: the weights of all links, and
which of them changed since they were last asked for. A mesh of a thousand nodes
has sixteen thousand directed links; a plan that follows a single change must not
look at all of them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from relaymesh.controller.lsdb import Direction

Receivers = dict[int, float]  # of one sender's links: receiver → milliseconds


class Weights:
    """One number for each link, of those that all stages say."""

    def __init__(
        self,
        unpriced_ms: Callable[[Direction, float], float | None],
        price: Callable[[int, Mapping[int, float]], Receivers],
    ) -> None:
        """*unpriced_ms*: of a link, now; None when it is not to be planned with.

        *price*: of all links of a sender, receiver → cost: the same with the weight of money.
        """
        self._unpriced_ms = unpriced_ms
        self._price = price
        self._unpriced: dict[int, Receivers] = {}  # by sender
        self._priced: dict[int, Receivers] = {}
        self._all: dict[Direction, float] = {}  # as priced
        self._changed: set[Direction] = set()

    def update(self, links: Iterable[Direction], now: float) -> None:
        """Something that these *links*' weights are made of changed, or may have."""
        senders: set[int] = set()
        for sender, receiver in links:
            cost = self._unpriced_ms((sender, receiver), now)
            own = self._unpriced.get(sender, {})
            if own.get(receiver) == cost:
                continue
            self._unpriced[sender] = own
            if cost is None:
                del own[receiver]
            else:
                own[receiver] = cost
            senders.add(sender)
        for sender in senders:
            self._reprice(sender)

    def reprice(self, senders: Iterable[int] | None = None) -> None:
        """Prices of what these *senders* (None: all) send may have changed."""
        for sender in list(self._unpriced) if senders is None else senders:
            if sender in self._unpriced:
                self._reprice(sender)

    def poll_changed(self) -> frozenset[Direction]:
        """The links that were added, dropped or weigh something else since the last call."""
        changed = frozenset(self._changed)
        self._changed.clear()
        return changed

    @property
    def costs_ms(self) -> dict[Direction, float]:
        """The weights, milliseconds; a copy."""
        return dict(self._all)

    def unpriced_ms(self) -> dict[Direction, float]:
        """The same without the weight of money."""
        return {(s, r): cost for s, own in self._unpriced.items() for r, cost in own.items()}

    def _reprice(self, sender: int) -> None:
        unpriced = self._unpriced[sender]
        before, now = self._priced.get(sender, {}), self._price(sender, unpriced)
        for receiver in before.keys() - now.keys():
            del self._all[sender, receiver]
            self._changed.add((sender, receiver))
        for receiver, cost in now.items():
            if before.get(receiver) != cost:
                self._all[sender, receiver] = cost
                self._changed.add((sender, receiver))
        if unpriced:
            self._priced[sender] = now
        else:
            self._priced.pop(sender, None)
            del self._unpriced[sender]
