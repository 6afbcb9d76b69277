"""Conditions as scenario files write them, as the link model takes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relaymesh.netsim.link_model import GilbertElliott, LinkConditions
from relaymesh.netsim.mahimahi import load_trace
from relaymesh.netsim.scenario.conditions import BurstByMean, BurstByStates


def condition_changes(given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """*given*, as a scenario tells it, as keywords of :class:`LinkConditions`; traces lie in *folder*.

    Raises:
        OSError, TraceError: a trace cannot be read.
        ValueError: there is no such burst.
    """
    changes = dict(given)
    burst = changes.get("burst")
    if isinstance(burst, BurstByMean):
        changes["burst"] = GilbertElliott.from_mean(burst.loss, burst.mean_burst)
    elif isinstance(burst, BurstByStates):
        changes["burst"] = GilbertElliott(burst.p, burst.r, burst.loss_bad, burst.loss_good)
    if changes.get("trace") is not None:
        changes["trace"] = load_trace(folder / changes["trace"])
        changes["rate_bps"] = None  # a trace stands instead of a rate
    return changes


def link_conditions(given: Mapping[str, Any], folder: Path) -> LinkConditions:
    """All of a link's conditions; see :func:`condition_changes`."""
    return LinkConditions(**condition_changes(given, folder))
