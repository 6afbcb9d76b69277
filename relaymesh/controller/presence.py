"""Presence: the time after which nodes that neither speak nor are heard are given up.

In: since when each is dead. Out: who is given up. One death is one death. Many at
once are more often a network or a store that failed than as many machines, and to end all
their streams would turn an outage into a disaster: then nobody is given up for a long while.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

AT_ONCE_S = 5.0  # deaths no further apart than this are one event
MASS_FRACTION = 0.3  # of all hosts; from here on it is taken for an outage
MASS_LEAST = 3  # in a mesh of two or three nodes every death is a large part


@dataclass(frozen=True, slots=True)
class Patience:
    """Time allowed to the dead for coming back, seconds."""

    alone_s: float
    in_a_mass_s: float

    def given_up(
        self,
        dead_since: Mapping[int, float | None],
        now: float,
        host_of: Callable[[int], Hashable] = lambda index: index,
    ) -> list[int]:
        """Members to give up, of all; *dead_since* None: alive. Those of one host die one death together."""
        hosts = len({host_of(index) for index in dead_since})
        dead = {index: since for index, since in dead_since.items() if since is not None}
        given_up = []
        for index, since in dead.items():
            if now - since < self.alone_s:
                continue
            together = {host_of(one) for one, other in dead.items() if abs(other - since) <= AT_ONCE_S}
            is_mass = len(together) >= MASS_LEAST and len(together) > MASS_FRACTION * hosts
            if now - since >= (self.in_a_mass_s if is_mass else self.alone_s):
                given_up.append(index)
        return given_up
