"""The results of the packet benchmarks, for people and for machines: tables, Markdown, JSON.

In: result objects. Out: strings. Measures nothing. The page with bars is :mod:`relaymesh.bench.packet_page`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from relaymesh.bench.edge import EdgeResult
from relaymesh.bench.hop import HopResult
from relaymesh.bench.idle import IdleResult, JoinResult
from relaymesh.bench.saturation import Saturation
from relaymesh.bench.simulation import ScenarioCost, StackRate
from relaymesh.bench.virtual_network import NetworkRate


@dataclass(frozen=True, slots=True)
class Table:
    """Figures with their heads; a cell is text."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """Columns of equal width: the first to the left, figures to the right."""
        widths = [max(map(len, column)) for column in zip(self.head, *self.rows, strict=True)]
        lines = []
        for row in (self.head, *self.rows):
            first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  ".join([first.strip().ljust(widths[0]), *others]).rstrip())
        return "\n".join([*lines, *self.notes])

    def markdown(self) -> str:
        """A table of Markdown."""
        lines = [self.head, ("---",) * len(self.head), *self.rows]
        notes = [f"\n{note}" for note in self.notes]
        return "\n".join([*("| " + " | ".join(cells) + " |" for cells in lines), *notes])


@dataclass(frozen=True, slots=True)
class Report:
    """One benchmark's outcome."""

    title: str
    command: str  # that repeats it
    machine: str
    kernels: str
    table: Table
    metrics: dict[str, Any]
    passed: bool = True  # nothing speaks against a figure

    def markdown(self) -> str:
        """A section for a results page."""
        about = f"{self.machine}; {self.kernels}."
        return f"## {self.title}\n\n    {self.command}\n\n{about}\n\n{self.table.markdown()}\n"

    def text(self) -> str:
        """For a terminal."""
        return f"{self.machine}; {self.kernels}\n\n{self.table.text()}"

    def to_json(self) -> str:
        """``passed``, ``machine``, ``kernels`` and ``metrics``."""
        whole = {
            "passed": self.passed,
            "machine": self.machine,
            "kernels": self.kernels,
            "metrics": self.metrics,
        }
        return json.dumps(whole, indent=1, ensure_ascii=False)


def per_cent(fraction: float) -> str:
    """Of 1, rounded down, so that 100.00 % is all."""
    return f"{int(fraction * 10_000) / 100:.2f} %"


def _noted(results: Iterable[EdgeResult | HopResult]) -> tuple[str, ...]:
    return tuple(f"{r.row}: {r.note}" for r in results if r.note)


def edge_table(results: Sequence[EdgeResult]) -> Table:
    """CPU for each packet sent to a player, and its ratio to that of what ran beside the node."""
    with_janus = any(r.janus_us is not None for r in results)
    costs = ("node µs", "floor µs", "ratio", *(("Janus µs", "ratio") if with_janus else ()))
    head = ("row", "players", "profile", "feedback", *costs, "idle ms/s", "arrived", "p99")
    rows = []
    for r in results:
        told = [f"{r.cost_us:.2f}", f"{r.floor_us:.2f}", f"{r.ratio:.2f}"]
        if with_janus:
            told += [_optional(r.janus_us), _optional(r.janus_ratio)]
        also = (f"{r.idle_ms:.1f}", per_cent(r.arrived), f"{r.p99_ms:.1f} ms")
        rows.append((r.row, str(r.players), r.profile, r.feedback, *told, *also))
    return Table(head, tuple(rows), _noted(results))


def _optional(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def saturation_table(found: Saturation) -> Table:
    """The highest rate that was carried."""
    head = ("players", "profile", "feedback", "feed", "sent", "CPU", "sent per core", "p99")
    row = (
        str(found.players), found.profile, found.feedback, f"{found.rate:.0f}/s", f"{found.sent_per_s:.0f}/s",
        f"{found.cpu * 100:.0f} %", f"{found.per_core_s:.0f}/s", f"{found.p99_ms:.1f} ms",
    )  # fmt: skip
    return Table(head, (row,), (f"it ended at {found.ended_by}",))


def hop_table(results: Sequence[HopResult]) -> Table:
    """CPU of the transit node for each packet, and its ratio to SRT's."""
    head = ("row", "transit µs", "srt-live-transmit µs", "ratio", "idle ms/s", "arrived", "p99")
    rows = tuple(
        (
            r.row, f"{r.cost_us:.1f}", _optional(r.srt_us, 1),
            _optional(r.ratio), f"{r.idle_ms:.1f}", per_cent(r.arrived),
            f"{r.p99_ms:.1f} ms",
        )
        for r in results
    )  # fmt: skip
    return Table(head, rows, _noted(results))


def idle_table(r: IdleResult) -> Table:
    """What costs how much when nothing is sent."""
    return Table(
        ("what", "CPU ms/s", "memory"),
        (
            (f"a node with {r.links} idle links", f"{r.node_ms:.2f}", f"{r.node_mb:.1f} MB"),
            ("a silent publisher besides", f"{r.publisher_ms:.2f}", "–"),
            (f"each idle session of {r.sessions}", f"{r.session_ms:.3f}", f"{r.session_kb:.0f} kB"),
            (f"still connected after {r.held_s:.0f} s: {r.still}", "–", "–"),
        ),
    )


def join_table(r: JoinResult) -> Table:
    """What a join costs."""
    return Table(
        ("joins", "CPU of each", "time of each", "memory of each", "kept after it left"),
        (
            (
                str(r.joins), f"{r.join_ms:.2f} ms", f"{r.took_ms:.1f} ms", f"{r.session_kb:.0f} kB",
                f"{r.kept_kb:.0f} kB",
            ),
        ),
    )  # fmt: skip


def simulate_table(
    stack: StackRate | None, network: NetworkRate | None, scenarios: Sequence[ScenarioCost]
) -> Table:
    """Emulated packets for each CPU second."""
    rows: list[tuple[str, ...]] = []
    if stack is not None:
        cost = f"{stack.packet_us:.1f} µs a packet, {stack.ratio:.1f} × AES-GCM seal and open"
        rows.append(("the whole stack", f"{stack.packets_per_cpu_s:.0f}", cost))
    if network is not None:
        ways = {
            "the network alone, a task for each port": network.tasks,
            "… delivering 0.1 ms at once": network.tasks_coarse,
            "… a handler for each port": network.handlers,
        }
        for name, rate in ways.items():
            rows.append((name, f"{rate:.0f}", f"{network.bare_heap / rate:.1f} operations of a bare heap"))
    for one in scenarios:
        cost = f"{one.cpu_s:.1f} s of CPU, {one.outcome}, trace {one.trace_hash[:12]}"
        rows.append((f"{one.scenario}, seed {one.seed}", f"{one.packets_per_cpu_s:.0f}", cost))
    return Table(("what", "packets per CPU s", "cost"), tuple(rows))


def as_metrics(name: str, results: Sequence[Any]) -> dict[str, Any]:
    """``{name: [fields and properties of each]}``; each is a dataclass."""
    told = []
    for result in results:
        computed = [key for key, value in vars(type(result)).items() if isinstance(value, property)]
        told.append(asdict(result) | {key: getattr(result, key) for key in computed})
    return {name: told}
