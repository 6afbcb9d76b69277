"""The results of the link benchmark as one HTML page: a small plot for each RTT and kind of loss.

In: :class:`~relaymesh.bench.link.Result` objects and their checks. Out: a page that
needs nothing else, no script among it. Measures nothing.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relaymesh.bench.link import POLICY_NAMES, Result
from relaymesh.bench.link_checks import LOSS, RESIDUAL, Check
from relaymesh.bench.report import table, verdict

# Told apart without colour as well: by dashes, and by the mark at each point.
COLOURS = {"none": "#777777", "arq": "#1f6fb4", "fec": "#c47f00", "adaptive": "#0b7a3b"}
DASHES = {"none": "2 3", "arq": "6 3", "fec": "9 3 2 3", "adaptive": ""}
SIZES = {"none": 2.0, "arq": 2.5, "fec": 2.5, "adaptive": 3.5}
_WIDTH, _HEIGHT = 250, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 8, 26
_LEAST = 1e-5  # of a fraction on a logarithmic scale; what is less is drawn there


@dataclass(frozen=True, slots=True)
class _Metric:
    title: str
    note: str
    value: Callable[[Result], float]
    say: Callable[[float], str]
    top: float
    logarithmic: bool = False

    @property
    def ticks(self) -> tuple[float, ...]:
        if self.logarithmic:
            return tuple(10.0**-n for n in range(6))
        return tuple(i * self.top / 4 for i in range(5))


_METRICS = (
    _Metric(
        "Packets that never came",
        f"Fraction, logarithmic; the lowest line is none. Red: the bound at {LOSS * 100:g} % loss.",
        lambda r: r.residual,
        lambda v: f"{v:.1e}" if v else "none",
        1.0,
        logarithmic=True,
    ),
    _Metric(
        "99th percentile of the added delay, as a share of its bound",
        "Of 1.5 × RTT + 20 ms; red: the bound. What never came has no delay.",
        lambda r: r.p99_ms / r.bound_ms,
        lambda v: f"{v * 100:.0f} %",
        2.0,
    ),
    _Metric(
        "Overhead, as a share of its bound",
        "Repair bytes per media byte, of 2 × loss + 2 %; red: the bound.",
        lambda r: r.overhead / (2 * r.loss + 0.02),
        lambda v: f"{v * 100:.0f} %",
        4.0,
    ),
)


def page(results: Sequence[Result], found: Sequence[Check]) -> str:
    """A self-contained HTML page."""
    names = [name for name in POLICY_NAMES if any(r.policy == name for r in results)]
    sections = "".join(_section(results, metric) for metric in _METRICS)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Relay link under loss</title>'
        "<style>body{font:15px/1.5 sans-serif;margin:2em;color:#222}h2{margin:1.6em 0 0}p{margin:.3em 0}"
        "pre{font-size:12px;overflow:auto}th{font-weight:normal;text-align:center;padding:0 .5em}"
        "tbody th{writing-mode:vertical-rl;transform:rotate(180deg)}table{border-spacing:0}"
        ".legend span{margin-right:1.5em;white-space:nowrap}</style>"
        "<h1>Relay link under loss</h1><p>Each plot: one RTT and one kind of loss; to the right more of "
        f'it, in per cent each way.</p><p class="legend">{"".join(map(_legend, names))}</p>'
        f"{sections}<h2>Checks</h2><pre>{html.escape(verdict(found))}</pre>"
        f"<h2>Figures</h2><pre>{html.escape(table(results))}</pre></html>\n"
    )


def _legend(name: str) -> str:
    return (
        f'<span><svg xmlns="http://www.w3.org/2000/svg" width="46" height="12">{_line(name, "2,6 44,6")}'
        f"{_mark(name, 23, 6, '')}</svg> {name}</span>"
    )


def _line(name: str, points: str) -> str:
    width = 2.2 if name == "adaptive" else 1.6
    return (
        f'<polyline fill="none" stroke="{COLOURS[name]}" stroke-width="{width}" '
        f'stroke-dasharray="{DASHES[name]}" points="{points}"/>'
    )


def _mark(name: str, x: float, y: float, told: str) -> str:
    title = f"<title>{html.escape(told)}</title>" if told else ""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{SIZES[name]}" fill="{COLOURS[name]}">{title}</circle>'


def _section(results: Sequence[Result], metric: _Metric) -> str:
    rtts = sorted({r.rtt_ms for r in results})
    bursts = sorted({r.burst for r in results if r.loss}) or [1]
    heads = "".join(f"<th>RTT {rtt:g} ms</th>" for rtt in rtts)
    rows = ""
    for burst in bursts:
        alike = [r for r in results if r.burst == burst or not r.loss]
        plots = "".join(
            f"<td>{_plot([r for r in alike if r.rtt_ms == rtt], burst, metric)}</td>" for rtt in rtts
        )
        rows += f"<tr><th>{'random' if burst == 1 else f'bursts of {burst}'}</th>{plots}</tr>"
    return (
        f"<h2>{html.escape(metric.title)}</h2><p>{html.escape(metric.note)}</p>"
        f"<table><thead><tr><th></th>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    )


class _Axes:
    """Where a loss and a value are in a plot."""

    def __init__(self, losses: list[float], metric: _Metric) -> None:
        self._losses = losses
        self._metric = metric

    def x(self, loss: float) -> float:
        step = (_WIDTH - _LEFT - _RIGHT) / len(self._losses)
        return _LEFT + (self._losses.index(loss) + 0.5) * step

    def y(self, value: float) -> float:
        if self._metric.logarithmic:
            share = math.log10(max(value, _LEAST) / _LEAST) / math.log10(1 / _LEAST)
        else:
            share = min(value, self._metric.top) / self._metric.top
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP)

    def frame(self) -> str:
        """Lines and numbers behind the curves."""
        marks = []
        for tick in self._metric.ticks:
            y = self.y(tick)
            label = (
                ("none" if tick == _LEAST else f"{tick:g}")
                if self._metric.logarithmic
                else self._metric.say(tick)
            )
            marks.append(
                f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e2e2e2"/>'
                f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
            )
        for loss in self._losses:
            marks.append(
                f'<text x="{self.x(loss):.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{loss * 100:g}</text>'
            )
        return "".join(marks)


def _plot(results: Sequence[Result], burst: int, metric: _Metric) -> str:
    losses = sorted({r.loss for r in results})
    axes = _Axes(losses, metric)
    marks = [axes.frame(), _bound(axes, losses, burst, metric)]
    for name in POLICY_NAMES:
        mine = sorted((r for r in results if r.policy == name), key=lambda r: r.loss)
        places = [(axes.x(r.loss), axes.y(metric.value(r))) for r in mine]
        marks.append(_line(name, " ".join(f"{x:.1f},{y:.1f}" for x, y in places)))
        marks += [
            _mark(name, x, y, f"{name}, {r.loss * 100:g} %: {metric.say(metric.value(r))}")
            for r, (x, y) in zip(mine, places, strict=True)
        ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" font-size="11" '
        f'fill="#444">{"".join(marks)}</svg>'
    )


def _bound(axes: _Axes, losses: list[float], burst: int, metric: _Metric) -> str:
    left, right, y = float(_LEFT), float(_WIDTH - _RIGHT), axes.y(1.0)
    if metric.logarithmic:
        at = next((loss for loss in losses if abs(loss - LOSS) < 1e-9), None)
        if at is None or burst not in RESIDUAL:
            return ""
        left, right, y = axes.x(at) - 14, axes.x(at) + 14, axes.y(RESIDUAL[burst])
    place = f'x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"'
    return f'<line {place} stroke="#c00000" stroke-width="1.5"/>'
