"""Counters that wrap on the wire, unwrapped.

A number of *n* bits is read as the one nearest to the highest number seen
(serial number arithmetic, RFC 1982). In: wire numbers. Out: ordinary integers
that keep counting. Knows nothing of what is counted.
"""

from __future__ import annotations


def distance(newer: int, older: int, bits: int = 16) -> int:
    """Distance by which *newer* is ahead of *older*, modulo 2^bits: −2^(bits−1) … 2^(bits−1) − 1.

    Exactly half a turn counts as behind.
    """
    half = 1 << (bits - 1)
    return ((newer - older + half) & ((1 << bits) - 1)) - half


class Extender:
    """Turns wire numbers of *bits* bits into integers that do not wrap.

    The first number is taken as it is; a number that belongs before it may
    come out negative (its low bits are still right: ``extended & mask``).
    """

    __slots__ = ("_half", "_mask", "highest")

    def __init__(self, bits: int = 16) -> None:
        self._mask = (1 << bits) - 1
        self._half = 1 << (bits - 1)
        self.highest: int | None = None  # extended; None before the first number

    def extend(self, seq: int) -> int:
        """The integer nearest to the highest seen so far whose low bits are *seq*."""
        highest = self.highest
        if highest is None:
            self.highest = seq
            return seq
        half = self._half
        extended = highest + ((seq - highest + half) & self._mask) - half
        if extended > highest:
            self.highest = extended
        return extended
