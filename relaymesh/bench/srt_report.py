"""The comparison with SRT, for people and for machines: text, JSON, one HTML page with bars.

In: :class:`~relaymesh.bench.srt_measure.SrtResult` objects. Out: strings. Measures nothing.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict

from relaymesh.bench.srt_cells import SYSTEMS, Cell
from relaymesh.bench.srt_measure import SrtResult, checks

CAPTION = """\
SRT (srt-live-transmit, live mode, its defaults, so without a limit on retransmission) hands every packet
over at one constant latency, which is its added delay. srt: the latency that its makers recommend for the
loss (SRT Deployment Guide: 3, 4, 5 or 6 × RTT for losses up to 1, 3, 7 or 10 %). srt-short: the bound of our
link, 1.5 × RTT + 20 ms. Delays are beyond the one-way delay of the link. late: lost, or later than the
recommended latency; over: lost, or later than 1.5 × RTT + 20 ms; both with 20 ms of grace. wire: bytes forth
and back, IP headers included, per payload byte, less 1; repair: the same without each packet's own headers
(ours are longer, and sealed; SRT ran without encryption). CPU: of the processes on both sides, per packet
(SRT is C++, ours Python)."""
_HEAD = (
    "   RTT   loss burst system    latency residual    late    over     p50     p99   p99.9  wire repair  CPU"
)
_UNITS = (
    "    ms      % mean                 ms                               ms      ms      ms     %      %   µs"
)


def table(results: Sequence[SrtResult]) -> str:
    """One line for each result, with its heads."""
    return "\n".join([_HEAD, _UNITS, *map(line, results)])


def line(r: SrtResult) -> str:
    """One result."""
    latency = "–" if r.latency_ms is None else str(r.latency_ms)
    cell = f"{r.rtt_ms:6.0f} {r.loss * 100:6.1f} {r.burst:5.0f} {r.system:9} {latency:>7}"
    losses = f"{r.residual:8.1e} {r.late:7.1e} {r.late_bound:7.1e}"
    delays = f"{r.p50_ms:7.1f} {r.p99_ms:7.1f} {r.p999_ms:7.1f}"
    invalid = f"  invalid: {r.invalid}" if r.invalid else ""
    costs = f"{r.overhead * 100:5.1f} {r.overhead_repair * 100:6.2f} {r.cpu_us:4.0f}"
    return f"{cell} {losses} {delays} {costs}{invalid}"


def verdict(results: Sequence[SrtResult]) -> str:
    """What holds and what does not, a line each."""
    return "\n".join(
        f"{'holds' if held else 'DOES NOT HOLD':13} {what}" for what, held in checks(results).items()
    )


def passed(results: Sequence[SrtResult]) -> bool:
    """Whether every run is valid and everything held."""
    return not any(r.invalid for r in results) and all(checks(results).values())


def to_json(results: Sequence[SrtResult], *, seconds: float, seed: int) -> str:
    """``passed``, ``checks`` and ``metrics``, whose results have the fields of :class:`SrtResult`."""
    return json.dumps(
        {
            "passed": passed(results),
            "checks": [{"name": name, "passed": held} for name, held in checks(results).items()]
            + [
                {
                    "name": f"{_cell(r)}: {r.system}: the run is valid",
                    "passed": not r.invalid,
                    "why": r.invalid,
                }
                for r in results
            ],
            "metrics": {"seconds": seconds, "seed": seed, "results": [asdict(r) for r in results]},
        },
        indent=1,
        ensure_ascii=False,
    )


def _cell(r: SrtResult) -> Cell:
    return Cell(r.rtt_ms, r.loss, r.burst)


# --- the page ------------------------------------------------------------------------------------------

COLOURS = {"srt": "#b35900", "srt-short": "#d9a066", "relaymesh": "#117733"}
_WIDTH, _BAR, _GAP, _LEFT, _RIGHT = 620, 20, 14, 190, 90
# Title, value, how it is written, logarithmic from here on (None: linear from 0).
_PLOTS: tuple[tuple[str, Callable[[SrtResult], float], Callable[[float], str], float | None], ...] = (
    ("p99 of the added delay, ms", lambda r: r.p99_ms, lambda v: f"{v:.0f} ms", None),
    ("median of the added delay, ms", lambda r: r.p50_ms, lambda v: f"{v:.1f} ms", None),
    ("packets that never came", lambda r: r.residual, lambda v: f"{v:.1e}" if v else "none", 1e-5),
    (
        "lost, or later than 1.5 × RTT + 20 ms (and 20 ms of grace)",
        lambda r: r.late_bound,
        lambda v: f"{v:.1e}" if v else "none",
        1e-5,
    ),
    (
        "repair and acknowledgements, % of the payload",
        lambda r: r.overhead_repair,
        lambda v: f"{v * 100:.1f} %",
        None,
    ),
)


def page(results: Sequence[SrtResult]) -> str:
    """A self-contained HTML page."""
    legend = " ".join(
        f'<span style="color:{COLOURS[name]}">■</span> <b>{name}</b>: {html.escape(system.says)}<br>'
        for name, system in SYSTEMS.items()
    )
    plots = "".join(_plot(results, *plot) for plot in _PLOTS)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Relay link and SRT</title>'
        "<style>body{font:15px/1.5 sans-serif;margin:2em;max-width:1300px}pre{font-size:12px;overflow:auto}"
        "figure{display:inline-block;margin:0 1.5em 1.5em 0}figcaption{font-weight:bold}</style>"
        f"<h1>The relay link beside SRT</h1><p>{html.escape(CAPTION)}</p><p>{legend}</p>{plots}"
        f"<pre>{html.escape(table(results))}</pre><pre>{html.escape(verdict(results))}</pre></html>\n"
    )


def _plot(
    results: Sequence[SrtResult],
    title: str,
    value: Callable[[SrtResult], float],
    say: Callable[[float], str],
    least: float | None,
) -> str:
    most = max([value(r) for r in results] + ([least * 10] if least else [1e-9]))

    def width(number: float) -> float:
        if least is None:
            share = max(0.0, number) / most
        else:
            share = math.log10(max(number, least) / least) / math.log10(most / least)
        return max(1.0, share * (_WIDTH - _LEFT - _RIGHT))

    marks, y, last = [], 0, None
    for r in results:
        cell = _cell(r)
        if cell != last:
            y += _GAP if last else 0
            losses = "at random" if r.burst == 1 else f"in bursts of {r.burst:g}"
            label = f"{r.rtt_ms:g} ms, {r.loss * 100:g} % {losses}"
            marks.append(f'<text x="{_LEFT - 8}" y="{y + 15}" text-anchor="end">{label}</text>')
            last = cell
        bar = width(value(r))
        marks.append(
            f'<rect x="{_LEFT}" y="{y + 2}" width="{bar:.1f}" height="{_BAR - 4}" fill="{COLOURS[r.system]}">'
            f"<title>{html.escape(r.system)}</title></rect>"
            f'<text x="{_LEFT + bar + 6:.1f}" y="{y + 15}">{say(value(r))}</text>'
        )
        y += _BAR
    note = " (logarithmic)" if least else ""
    return (
        f"<figure><figcaption>{html.escape(title)}{note}</figcaption>"
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" font-size="12">'
        f"{''.join(marks)}</svg></figure>"
    )
