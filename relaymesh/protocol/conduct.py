"""The judge of a neighbour that holds the keys but may be faulty, by what its link has counted.

In: the link's counters of what an honest peer does never or seldom, ``now``. Out: the
name of the offence for which the link is to be begun anew, and for how long it should
stay down. Every single offence is refused and harmless where it is counted; this
ends them when they do not end by themselves, so that a faulty peer costs its own
link and no more of this node's time.

Honest peers do some of it: an ACK that was lost makes a retransmission useless, an echo comes
after its link was given up. Each kind has an allowance (a leaky bucket) far above that.
Knows no frames and no keys.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

HOLD_FIRST = 5.0  # seconds a link stays down after its first offence …
HOLD_MOST = 300.0  # … twice as long each time, up to this
FORGIVEN_AFTER = 600.0  # seconds of good conduct after which it counts as the first again


@dataclass(frozen=True, slots=True)
class Allowance:
    """The rate at which something may happen before it is an offence."""

    burst: int  # at once
    per_second: float
    per_packet: float = 0.0  # for each datagram accepted from the peer


# Named as the counters they are compared with.
ALLOWANCES: Mapping[str, Allowance] = {
    "acks_invalid": Allowance(8, 0.1),  # of packets that were never sent
    "blocks_invalid": Allowance(8, 0.1),  # repair packets that contradict each other
    "recovered_malformed": Allowance(8, 0.1),  # recovered packets that are no frames
    "fragments_invalid": Allowance(8, 0.1),  # two fragments that are no frame
    "retransmissions_useless": Allowance(512, 1.0, 0.5),  # of what was not missing
    # Media under numbers that are not known: at most a round trip of it, should one of us have forgotten.
    "contexts_unknown": Allowance(8192, 20.0),
    "outages": Allowance(64, 1.0),  # jumps in the packet numbers
    "echoes_unmatched": Allowance(1024, 20.0),  # of probes that do not wait
    # Probes faster than they can be answered. Who slept finds minutes of them in its socket.
    "echoes_dropped": Allowance(8192, 50.0),
}


class Conduct:
    """The conduct of one neighbour."""

    def __init__(self) -> None:
        self.offences = 0  # verdicts so far
        self.last_offence = ""  # its name
        self.held_until = -math.inf  # until when the link should stay down (seconds)
        self._counted: dict[str, int] = {}  # the counters when last looked at
        self._received = 0  # datagrams, likewise
        self._levels: dict[str, float] = {}  # of those above 0
        self._looked_at = -math.inf
        self._offended_at = -math.inf
        self._hold = 0.0  # seconds, of the last verdict

    def judge(self, counters: Mapping[str, int], received: int, now: float) -> str | None:
        """The offence for which the link is to be begun anew, or ``None``.

        *counters* only rise; unknown names are ignored. *received*: datagrams accepted so far. To be
        called now and then, as with each probe: what happens in between is judged together.
        """
        passed = max(0.0, now - self._looked_at) if self._looked_at > -math.inf else 0.0
        packets, self._received = max(0, received - self._received), received
        self._looked_at = now
        if not self._levels and counters == self._counted:
            return None  # nothing new, and nothing to forgive
        guilty = None
        for name, allowance in ALLOWANCES.items():
            count = counters.get(name, 0)
            new, self._counted[name] = max(0, count - self._counted.get(name, 0)), count
            forgiven = allowance.per_second * passed + allowance.per_packet * packets
            level = max(0.0, self._levels.get(name, 0.0) + new - forgiven)
            if level:
                self._levels[name] = level
            else:
                self._levels.pop(name, None)
            if level > allowance.burst and guilty is None:
                guilty = name
        if guilty is not None:
            self._convict(guilty, now)
        return guilty

    def _convict(self, name: str, now: float) -> None:
        again = now - self._offended_at < FORGIVEN_AFTER
        self._hold = min(HOLD_MOST, 2 * self._hold) if again else HOLD_FIRST
        self._offended_at = now
        self.held_until = now + self._hold
        self.offences += 1
        self.last_offence = name
        self._levels.clear()

    def debug_state(self) -> dict[str, object]:
        return {
            "offences": self.offences,
            "last_offence": self.last_offence,
            "held_until": None if self._offended_at == -math.inf else self.held_until,
            "levels": {name: round(level, 1) for name, level in self._levels.items()},
        }
