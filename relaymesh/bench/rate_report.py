"""The results of the rate benchmark: checks against what is promised, text, JSON, one page with plots.

In: what :mod:`relaymesh.bench.rate` measured. Measures nothing.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from relaymesh.bench.link_checks import Check
from relaymesh.bench.rate import END, NARROW_AT, WIDE_AT, Brownout, Fairness

BASE_LOSS = 0.001
QUEUE_BACK_S = 2.0
RECOVERED_S = 5.0
FAIR = 0.95  # Jain's index


def checks(brownouts: Iterable[Brownout], shared: Iterable[Fairness]) -> list[Check]:
    """What is promised of a narrow path, for each run."""
    found: list[Check] = []
    for b in brownouts:
        cell = f"brown-out, {b.rtt_ms:g} ms, seed {b.seed}"
        found += [
            _at_most(f"{cell}: audio loss", b.audio_loss, 0.0),
            _at_most(f"{cell}: base layer loss", b.base_loss, BASE_LOSS),
            _at_most(f"{cell}: queue below 50 ms after, s", b.queue_back_s, QUEUE_BACK_S),
            _at_most(f"{cell}: 90 % of the freed rate after, s", b.recovered_s, RECOVERED_S),
        ]
    for f in shared:
        cell = f"shared bottleneck, {f.rtt_ms[0]:g} and {f.rtt_ms[1]:g} ms"
        found.append(_at_most(f"{cell}: unfairness (1 - Jain's index)", 1.0 - f.index, 1.0 - FAIR))
        found.append(_at_most(f"{cell}: base layer loss", f.base_loss, BASE_LOSS))
    return found


def _at_most(name: str, found: float, allowed: float) -> Check:
    return Check(name, found <= allowed, found, allowed)


def table(brownouts: Sequence[Brownout], shared: Sequence[Fairness]) -> str:
    """A line for each run."""
    lines = [
        "brown-out to half of the offer",
        "   RTT seed   audio    base  enhancement  queue back  recovered  queue p99  used",
        "    ms         loss    loss  unexplained           s          s         ms     %",
    ]
    for b in brownouts:
        lines.append(
            f"{b.rtt_ms:6.0f} {b.seed:4d} {b.audio_loss:7.1e} {b.base_loss:7.1e} {b.unexplained_loss:12.1e} "
            f"{b.queue_back_s:11.1f} {b.recovered_s:10.1f} {b.queue_p99_ms:10.0f} {b.used_narrow * 100:5.0f}"
        )
    lines += ["two links in one bottleneck", "         RTT     carried         shares   Jain  queue p95"]
    for f in shared:
        lines.append(
            f"{f.rtt_ms[0]:5.0f}, {f.rtt_ms[1]:3.0f} ms {f.carried_mbps:6.2f} Mbit/s "
            f"{f.shares[0]:6.2f} {f.shares[1]:6.2f} {f.index:7.4f} {f.queue_p95_ms:7.0f} ms"
        )
    return "\n".join(lines)


def to_json(brownouts: Sequence[Brownout], shared: Sequence[Fairness], found: Sequence[Check]) -> str:
    """{"passed", "checks", "metrics"}."""
    return json.dumps(
        {
            "passed": all(check.passed for check in found),
            "checks": [
                {"name": c.name, "value": c.found, "bound": f"≤ {c.allowed:g}", "passed": c.passed}
                for c in found
            ],
            "metrics": {
                "brownout": [asdict(b) for b in brownouts],
                "fairness": [asdict(f) for f in shared],
            },
        },
        indent=1,
    )


# --- the page ------------------------------------------------------------------------------------------

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 640, 200, 52, 30


def page(brownouts: Sequence[Brownout], shared: Sequence[Fairness], found: Sequence[Check]) -> str:
    """A self-contained page: of each brown-out what was offered and what arrived, and the path's queue."""
    plots = "".join(
        f"<h2>RTT {b.rtt_ms:g} ms, seed {b.seed}</h2>"
        + _plot(b, "Mbit/s", ((1, "#999", "offered"), (2, "#117733", "arrived")), b.offered_mbps * 1.4)
        + _plot(b, "queue of the path, ms", ((3, "#bb3322", "queue"),), 400.0, line=50.0)
        for b in brownouts
    )
    verdict = "\n".join(map(str, found))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>A narrow relay link</title>'
        "<style>body{font:14px sans-serif;margin:2em;max-width:60em}pre{font-size:12px}</style>"
        "<h1>A relay link whose path gets narrow</h1>"
        f"<p>From {NARROW_AT:g} to {WIDE_AT:g} s the path carries half of what is offered.</p>{plots}"
        f"<pre>{html.escape(table(brownouts, shared))}\n\n{html.escape(verdict)}</pre></html>\n"
    )


def _plot(
    b: Brownout, title: str, lines: tuple[tuple[int, str, str], ...], top: float, *, line: float | None = None
) -> str:
    def x(at: float) -> float:
        return _LEFT + at / END * (_WIDTH - _LEFT - 10)

    def y(value: float) -> float:
        return 20 + (1 - min(value, top) / top) * (_HEIGHT - _BOTTOM - 20)

    width, height = x(WIDE_AT) - x(NARROW_AT), _HEIGHT - _BOTTOM - 20
    marks = [f'<rect x="{x(NARROW_AT):.0f}" y="20" width="{width:.0f}" height="{height}" fill="#f3ead8"/>']
    for second in range(0, int(END) + 1, 5):
        marks.append(f'<text x="{x(second):.0f}" y="{_HEIGHT - 14}" text-anchor="middle">{second} s</text>')
    for step in range(5):
        value = top * step / 4
        marks.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#ddd"/>'
            f'<text x="{_LEFT - 4}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3g}</text>'
        )
    if line is not None:
        marks.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{y(line):.1f}" y2="{y(line):.1f}" '
            'stroke="#555" stroke-dasharray="4 3"/>'
        )
    for column, colour, _ in lines:
        drawn = " ".join(f"{x(row[0]):.1f},{y(row[column]):.1f}" for row in b.series)
        marks.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.6" points="{drawn}"/>')
    legend = " ".join(f'<tspan fill="{colour}">■ {name} </tspan>' for _, colour, name in lines)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" font-size="11">'
        f'<text x="{_LEFT}" y="13">{html.escape(title)} {legend}</text>{"".join(marks)}</svg>'
    )
