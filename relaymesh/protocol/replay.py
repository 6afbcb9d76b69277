"""Which packet numbers of one key were seen: a sliding window (as RFC 4303 § 3.4.3).

In: packet numbers; out: whether a number is new. A number is checked before the
seal is opened, to save the work, and marked only after it opened and its
content was accepted: nothing unauthenticated moves the window.
"""

from __future__ import annotations

WINDOW = 1024  # packets: 100 ms of reordering at 10,000 packets/s
_MASK = (1 << WINDOW) - 1


class ReplayWindow:
    """The highest number seen and a bit for each of the :data:`WINDOW` numbers up to it."""

    __slots__ = ("_seen", "highest")

    def __init__(self) -> None:
        self.highest = 0  # numbers start at 1, so 0 counts as seen
        self._seen = 1  # bit i: highest − i was seen

    def is_new(self, number: int) -> bool:
        """Tell whether *number* was not seen and is not older than the window."""
        behind = self.highest - number
        return behind < 0 or (behind < WINDOW and not self._seen >> behind & 1)

    def mark(self, number: int) -> bool:
        """*number* was received; ``False``, and nothing is changed, when it is not new."""
        ahead = number - self.highest
        if ahead > 0:
            self._seen = (self._seen << ahead | 1) & _MASK if ahead < WINDOW else 1
            self.highest = number
            return True
        bit = 1 << -ahead
        if ahead <= -WINDOW or self._seen & bit:
            return False
        self._seen |= bit
        return True

    def debug_state(self) -> dict[str, object]:
        """The highest number and how many of the window were seen, with a digest of which."""
        return {"highest": self.highest, "seen": self._seen.bit_count(), "bits": f"{self._seen:x}"}
