"""The results of the access benchmark: checks against what is promised, text, JSON.

In: what :mod:`relaymesh.bench.access` measured. Measures nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from statistics import median

from relaymesh.bench.access import OURS, Cut, Result
from relaymesh.bench.link_checks import Check

# What is promised of a path of 2 Mbit/s and more that nobody else uses; the rest is shown and not judged.
PROMISED_MBPS = 2.0
USED = 0.85
QUEUE_P95_MS = 60.0
FAIR, FAIR_RTT_MS = 0.9, 50.0  # Jain's index, up to this round trip
DOWN_S = 1.0  # after a cut, up to …
DOWN_RTT_MS = 100.0

_HEAD = "  rate   RTT loss  others estimator   used  queue ms  settled     two flows    Jain   used queue"
_UNITS = "Mbit/s    ms    %                        %  p50  p95        s        Mbit/s              %   p95"


def table(results: Sequence[Result]) -> str:
    """One line for each result."""
    return "\n".join([_HEAD, _UNITS, *map(line, results)])


def line(r: Result) -> str:
    """One result."""
    cell = r.cell
    path = (
        f"{cell.rate_mbps:6.1f} {cell.rtt_ms:5.0f} {cell.loss * 100:4.0f} {cell.cross:>7} {cell.estimator:9}"
    )
    alone = f"{r.used * 100:6.0f} {r.queue_p50_ms:4.0f} {r.queue_p95_ms:4.0f} {_seconds(r.settled_s):>8}"
    one, other = r.shares_mbps
    shared = f"{one:6.2f} {other:6.2f} {r.jain:7.3f} {r.shared_used * 100:6.0f} {r.shared_queue_p95_ms:5.0f}"
    return f"{path} {alone} {shared}"


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f}"


def cut_table(cuts: Sequence[Cut]) -> str:
    """One line for each round trip and estimator: the median over seeds, and the worst."""
    lines = [
        "2 Mbit/s, cut to 0.3 for 15 s: median, worst",
        "   RTT estimator runs  within the cut, s   used, %  1.5 Mbit/s again, s",
    ]
    for rtt_ms, estimator in dict.fromkeys((c.rtt_ms, c.estimator) for c in cuts):
        of = [c for c in cuts if (c.rtt_ms, c.estimator) == (rtt_ms, estimator)]
        used = [c.used_narrow for c in of]
        lines.append(
            f"{rtt_ms:6.0f} {estimator:9} {len(of):4d} {_spread([c.down_s for c in of]):>18} "
            f"{median(used) * 100:4.0f} {min(used) * 100:4.0f} {_spread([c.back_s for c in of]):>20}"
        )
    return "\n".join(lines)


def _spread(values: Sequence[float | None]) -> str:
    ordered = sorted(float("inf") if v is None else v for v in values)
    middle, worst = (None if v == float("inf") else v for v in (median(ordered), ordered[-1]))
    return f"{_seconds(middle)}, {_seconds(worst)}"


def checks(results: Iterable[Result], cuts: Iterable[Cut]) -> list[Check]:
    """What is promised of our own estimator."""
    found: list[Check] = []
    for r in results:
        cell = r.cell
        if cell.estimator != OURS or cell.cross != "none" or cell.rate_mbps < PROMISED_MBPS:
            continue
        name = f"{cell.rate_mbps:g} Mbit/s, {cell.rtt_ms:g} ms, {cell.loss * 100:g} %"
        found.append(_at_most(f"{name}: left unused", 1.0 - r.used, 1.0 - USED))
        found.append(_at_most(f"{name}: queue p95, ms", r.queue_p95_ms, QUEUE_P95_MS))
        if cell.rtt_ms <= FAIR_RTT_MS:
            found.append(_at_most(f"{name}: two flows, 1 - Jain's index", 1.0 - r.jain, 1.0 - FAIR))
            found.append(_at_most(f"{name}: two flows, queue p95, ms", r.shared_queue_p95_ms, QUEUE_P95_MS))
    for c in cuts:
        if c.estimator == OURS and c.rtt_ms <= DOWN_RTT_MS:
            down = float("inf") if c.down_s is None else c.down_s
            found.append(_at_most(f"cut, {c.rtt_ms:g} ms, seed {c.seed}: down after, s", down, DOWN_S))
    return found


def _at_most(name: str, found: float, allowed: float) -> Check:
    return Check(name, found <= allowed + 1e-9, found, allowed)


def verdict(found: Sequence[Check]) -> str:
    """How many checks held, and those that did not."""
    failed = [str(check) for check in found if not check.passed]
    return "\n".join([f"{len(found) - len(failed)} of {len(found)} checks of ours hold", *failed])


def to_json(results: Sequence[Result], cuts: Sequence[Cut], found: Sequence[Check]) -> str:
    """{"passed", "checks", "metrics"}."""
    return json.dumps(
        {
            "passed": all(check.passed for check in found),
            "checks": [
                {"name": c.name, "value": c.found, "bound": f"≤ {c.allowed:g}", "passed": c.passed}
                for c in found
            ],
            "metrics": {"grid": [asdict(r) for r in results], "cuts": [asdict(c) for c in cuts]},
        },
        indent=1,
    )
