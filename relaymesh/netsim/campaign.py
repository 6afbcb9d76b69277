"""Many runs in one table: each scenario's bounds, and what its seeds made of them.

In: results of runs, several seeds of each scenario. Out: Markdown for people, or for a page of the docs.
The worst value is that of the seed that is furthest from holding; a quantile of a run (p99) is taken
within each run, so that the worst of it over the seeds says more than the quantile over all.
Runs that this machine could not carry are counted, and nothing else is taken from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from relaymesh.netsim.metrics import METRICS, quantiles
from relaymesh.netsim.result import Check, Result

_HEAD = "| scenario | seeds | must hold | bound | median | worst | held |\n|---|---|---|---|---|---|---|\n"


def summary(results: Iterable[Result]) -> str:
    """The table of *results*, in the order of the scenarios' names; runs with overrides stand apart."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        variant = " ".join(f"{key}={value}" for key, value in sorted(result.overrides.items()))
        groups.setdefault(f"{result.scenario} {variant}".rstrip(), []).append(result)
    return _HEAD + "".join(_rows(name, runs) for name, runs in sorted(groups.items()))


def _rows(name: str, runs: Sequence[Result]) -> str:
    invalid = [run for run in runs if not run.valid]
    runs = [run for run in runs if run.valid]
    if not runs:
        return f"| {name} | {_seeds(invalid)} | all runs invalid | | | | |\n"
    seeds = f"{_seeds(runs)}; invalid: {_seeds(invalid)}" if invalid else _seeds(runs)
    rows = []
    for number, first in enumerate(runs[0].checks):
        checks = [run.checks[number] for run in runs]
        held = sum(check.passed for check in checks)
        unit = METRICS[first.name.partition(" ")[0].partition(".")[0]].unit
        values = [check.value for check in checks if check.value is not None]
        median = quantiles(values, ("p50",))["p50"]
        cells = [
            name if number == 0 else "",
            seeds if number == 0 else "",
            first.name,
            f"{first.bound} {unit}" if unit == "ms" else first.bound,
            _number(median),
            _number(_worst(first, values)),
            f"{held}/{len(checks)}" + (" (known)" if first.may_fail and held < len(checks) else ""),
        ]
        rows.append("| " + " | ".join(cells) + " |\n")
    return "".join(rows)


def _seeds(runs: Sequence[Result]) -> str:
    seeds = sorted(run.seed for run in runs)
    consecutive = seeds == list(range(seeds[0], seeds[0] + len(seeds)))
    return f"{seeds[0]}–{seeds[-1]}" if consecutive and len(seeds) > 1 else ", ".join(map(str, seeds))


def _worst(check: Check, values: Sequence[float]) -> float | None:
    if not values:
        return None
    return (
        min(values) if check.bound.startswith("≥") or check.name.startswith("streams_played") else max(values)
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
