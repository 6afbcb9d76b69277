"""The results of the link benchmark, for people and for machines: text and JSON.

In: :class:`~relaymesh.bench.link.Result` objects. Out: strings. Measures nothing. The page
with plots is :mod:`relaymesh.bench.link_page`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from relaymesh.bench.link import Result
from relaymesh.bench.link_checks import Check
from relaymesh.protocol.repair import DEFAULT_POLICY

_HEAD = "   RTT   loss burst policy    residual  in time     p50     p99   p99.9   bound overhead   acks  CPU"
_UNITS = "    ms      % mean                              ms      ms      ms      ms        %      %   µs"


def table(results: Sequence[Result]) -> str:
    """One line for each result. *In time* is the fraction lost or later than the bound."""
    return "\n".join([_HEAD, _UNITS, *map(line, results)])


def line(r: Result) -> str:
    """One result."""
    cell = f"{r.rtt_ms:6.0f} {r.loss * 100:6.1f} {r.burst:5d} {r.policy:9}"
    losses = f"{r.residual:8.1e} {r.residual_in_time:8.1e}"
    delays = f"{r.p50_ms:7.1f} {r.p99_ms:7.1f} {r.p999_ms:7.1f} {r.bound_ms:7.0f}"
    return f"{cell} {losses} {delays} {r.overhead * 100:8.2f} {r.ack_overhead * 100:6.2f} {r.cpu_us:4.0f}"


def verdict(found: Sequence[Check]) -> str:
    """How many checks held, and those that did not."""
    failed = [check for check in found if not check.passed]
    told = [f"{len(found) - len(failed)} of {len(found)} checks of {DEFAULT_POLICY} hold"] if found else []
    return "\n".join([*told, *map(str, failed)])


def to_json(results: Sequence[Result], found: Sequence[Check]) -> str:
    """``passed``, ``checks`` and ``metrics``, an array of objects with the fields of :class:`Result`."""
    return json.dumps(
        {
            "passed": all(check.passed for check in found),
            "checks": [asdict(check) for check in found],
            "metrics": [{**asdict(r), "bound_ms": r.bound_ms} for r in results],
        },
        indent=1,
    )
