"""The results of the link benchmark, for people and for machines: text, JSON, one HTML page with plots.

In: :class:`~relaymesh.bench.link.Result` objects. Out: strings. Measures nothing.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict

from relaymesh.bench.link import POLICY_NAMES, Result

COLOURS = {"none": "#888888", "arq": "#1f77b4", "fec": "#d98c00", "adaptive": "#117733"}
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


def to_json(results: Sequence[Result]) -> str:
    """An array of objects; fields as in :class:`~relaymesh.bench.link.Result`."""
    return json.dumps([{**asdict(r), "bound_ms": r.bound_ms} for r in results], indent=1)


# --- the page ------------------------------------------------------------------------------------------

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 360, 220, 52, 34
_ROWS: tuple[tuple[str, Callable[[Result], float], bool], ...] = (
    ("residual loss", lambda r: r.residual, True),
    ("p99 added delay / (1.5 × RTT + 20 ms)", lambda r: r.p99_ms / r.bound_ms, False),
    ("overhead / (2 × loss + 2 %)", lambda r: r.overhead / (2 * r.loss + 0.02), False),
)


def page(results: Sequence[Result]) -> str:
    """A self-contained HTML page: plots over the loss for each burst length, a line per policy and RTT."""
    bursts = sorted({r.burst for r in results})
    legend = " ".join(f'<span style="color:{COLOURS[name]}">■ {name}</span>' for name in POLICY_NAMES)
    rows = []
    for title, value, logarithmic in _ROWS:
        cells = ""
        for burst in bursts:
            shown = [r for r in results if r.burst == burst or not r.loss]
            cells += f"<td>{_plot(shown, title, burst, value, logarithmic)}</td>"
        rows.append(f"<tr>{cells}</tr>")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Relay link under loss</title>'
        "<style>body{font:14px sans-serif;margin:2em}pre{font-size:12px}</style>"
        f"<h1>Relay link under loss</h1><p>{legend}: one line for each RTT, the longest is the thickest.</p>"
        f"<table>{''.join(rows)}</table><pre>{html.escape(table(results))}</pre></html>\n"
    )


def _plot(
    results: Sequence[Result], title: str, burst: int, value: Callable[[Result], float], logarithmic: bool
) -> str:
    losses = sorted({r.loss for r in results})
    rtts = sorted({r.rtt_ms for r in results})
    top = 0.0 if logarithmic else max(1.1, *(min(4.0, value(r)) for r in results))
    low = -6.0 if logarithmic else 0.0

    def x(loss: float) -> float:
        return _LEFT + (losses.index(loss) + 0.5) * (_WIDTH - _LEFT) / len(losses)

    def y(number: float) -> float:
        level = math.log10(max(number, 1e-6)) if logarithmic else min(number, 4.0)
        return 20 + (top - level) / (top - low) * (_HEIGHT - _BOTTOM - 20)

    marks = []
    for loss in losses:
        marks.append(
            f'<text x="{x(loss):.0f}" y="{_HEIGHT - 18}" text-anchor="middle">{loss * 100:g} %</text>'
        )
    ticks = [10.0**-n for n in range(7)] if logarithmic else [0.0, 1.0, 2.0, 3.0, 4.0]
    for tick in ticks:
        if logarithmic or tick <= top:
            marks.append(
                f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#ddd"/>'
                f'<text x="{_LEFT - 4}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
            )
    for name in POLICY_NAMES:
        for thickness, rtt in enumerate(rtts):
            points = sorted((r.loss, value(r)) for r in results if r.policy == name and r.rtt_ms == rtt)
            drawn = " ".join(f"{x(loss):.1f},{y(number):.1f}" for loss, number in points)
            marks.append(
                f'<polyline fill="none" stroke="{COLOURS[name]}" stroke-width="{0.6 + 0.5 * thickness:.1f}" '
                f'points="{drawn}"/>'
            )
    caption = f"{title}, {'random' if burst == 1 else f'bursts of {burst}'}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" font-size="10">'
        f'<text x="{_LEFT}" y="12">{html.escape(caption)}</text>{"".join(marks)}</svg>'
    )
