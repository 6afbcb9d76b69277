"""What the default repair policy is to hold on every link of the grid, and how a run shows that it does.

In: :class:`~relaymesh.bench.link.Result` objects. Out: named checks with what was found and what is
allowed. Measures nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from relaymesh.bench.link import Result
from relaymesh.protocol.repair import DEFAULT_POLICY

LOSS = 0.05  # what is promised is promised up to here; beyond, the figures are shown and not judged
RESIDUAL = {1: 1e-4, 8: 1e-3}  # at that loss: mean burst → fraction
CLOCK_MS = 0.001  # what percentiles are rounded to


@dataclass(frozen=True, slots=True)
class Check:
    """One bound of one cell."""

    name: str
    passed: bool
    found: float
    allowed: float

    def __str__(self) -> str:
        said = "holds" if self.passed else "DOES NOT HOLD"
        return f"{said:13} {self.name}: {self.found:.4g}, at most {self.allowed:.4g}"


def checks(results: Iterable[Result]) -> list[Check]:
    """The checks of all cells of the default policy, in order."""
    return [check for result in results if result.policy == DEFAULT_POLICY for check in _of(result)]


def _of(r: Result) -> Iterator[Check]:
    losses = "random" if r.burst == 1 else f"bursts of {r.burst}"
    cell = f"{r.rtt_ms:g} ms, {r.loss * 100:g} % {losses}"
    yield _at_most(f"{cell}: packets handed up twice", r.duplicates, 0)
    if not r.loss:
        yield _at_most(f"{cell}: overhead", r.overhead, 0)
        yield _at_most(f"{cell}: p99.9 added delay, ms", r.p999_ms, CLOCK_MS)
        yield _at_most(f"{cell}: residual loss", r.residual, 0)
        return
    if r.loss > LOSS + 1e-9:
        return
    if r.loss > LOSS - 1e-9 and r.burst in RESIDUAL:
        yield _at_most(f"{cell}: residual loss", r.residual, RESIDUAL[r.burst])
    yield _at_most(f"{cell}: p99 added delay, ms", r.p99_ms, r.bound_ms)
    yield _at_most(f"{cell}: overhead", r.overhead, 2 * r.loss + 0.02)


def _at_most(name: str, found: float, allowed: float) -> Check:
    return Check(name, found <= allowed, found, allowed)
