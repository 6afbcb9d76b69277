"""The results of the packet benchmarks as one HTML page: bars of µs for each packet, row by row.

In: labelled values, a :class:`~relaymesh.bench.packet_report.Report`. Out: a page that needs nothing else, no
script among it. Measures nothing.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from relaymesh.bench.edge import EdgeResult
from relaymesh.bench.hop import HopResult
from relaymesh.bench.packet_report import Report

OURS, OTHER, PEER = "#117733", "#b3b3b3", "#b35900"
_WIDTH, _BAR, _GAP, _LEFT, _RIGHT = 680, 20, 12, 150, 130


@dataclass(frozen=True, slots=True)
class Bar:
    """One value of a group."""

    who: str
    value: float
    colour: str


Group = tuple[str, tuple[Bar, ...]]


def edge_groups(results: Sequence[EdgeResult]) -> list[Group]:
    """The node, the floor program and Janus where it was measured, row by row."""
    return [
        (
            r.row,
            (
                Bar("node", r.cost_us, OURS),
                Bar("floor program", r.floor_us, OTHER),
                *((Bar("Janus", r.janus_us, PEER),) if r.janus_us is not None else ()),
            ),
        )
        for r in results
    ]


def hop_groups(results: Sequence[HopResult]) -> list[Group]:
    """The transit node and SRT, row by row."""
    return [
        (
            r.row,
            (
                Bar("transit node", r.cost_us, OURS),
                *((Bar("srt-live-transmit", r.srt_us, PEER),) if r.srt_us is not None else ()),
            ),
        )
        for r in results
    ]


def bars(groups: Sequence[Group]) -> str:
    """An SVG of horizontal bars from zero, each with its value in µs."""
    most = max([bar.value for _, group in groups for bar in group] + [1e-9])
    scale = (_WIDTH - _LEFT - _RIGHT) / most
    marks, y = [], 0
    for label, group in groups:
        middle = y + len(group) * _BAR / 2 + 4
        marks.append(f'<text x="{_LEFT - 8}" y="{middle:.0f}" text-anchor="end">{html.escape(label)}</text>')
        for bar in group:
            length = max(1.0, bar.value * scale)
            marks.append(
                f'<rect x="{_LEFT}" y="{y + 2}" width="{length:.1f}" height="{_BAR - 4}" '
                f'fill="{bar.colour}"/><text x="{_LEFT + length + 6:.1f}" y="{y + 15}">'
                f"{bar.value:.2f} {html.escape(bar.who)}</text>"
            )
            y += _BAR
        y += _GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" font-size="12" '
        f'font-family="sans-serif" fill="#222">{"".join(marks)}</svg>'
    )


def page(report: Report, groups: Sequence[Group]) -> str:
    """A self-contained HTML page."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(report.title)}</title>'
        "<style>body{font:15px/1.5 sans-serif;margin:2em;max-width:1100px}"
        "pre{font-size:12px;overflow:auto}</style>"
        f"<h1>{html.escape(report.title)}</h1>"
        f"<p>{html.escape(report.machine)}; {html.escape(report.kernels)}. "
        f"µs of CPU for each packet, medians of interleaved rounds.</p>{bars(groups)}"
        f"<pre>{html.escape(report.command)}\n\n{html.escape(report.table.text())}</pre></html>\n"
    )
