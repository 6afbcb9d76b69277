"""``relaymesh bench``: measurements that anybody can repeat.

`link`, `rate` and `access` run in virtual time, the same on every machine; `srt` in real time, beside
another program, and `routing` as CPU time, so that only a quiet machine tells the truth. Those of what
packets and sessions cost are in :mod:`relaymesh.cli.bench_packets`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relaymesh.cli import bench_packets

if TYPE_CHECKING:
    from relaymesh.bench.srt_cells import Cell


@click.group()
def command() -> None:
    """Measure the parts of RelayMesh."""


for further in bench_packets.COMMANDS:
    command.add_command(further)


def _numbers(_: click.Context, __: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise click.BadParameter("give numbers with commas between them") from None


@command.command("link")
@click.option("--quick", is_flag=True, help="A small grid, a few seconds.")
@click.option("--seconds", default=20.0, show_default=True, type=click.FloatRange(1, 3600), help="Per cell.")
@click.option("--seed", default=1, show_default=True)
@click.option("--rtt", "rtts", callback=_numbers, metavar="MS,…", help="Only these RTTs, ms.")
@click.option("--loss", "losses", callback=_numbers, metavar="%,…", help="Only these losses, per cent.")
@click.option(
    "--burst", "bursts", callback=_numbers, metavar="N,…", help="Only these mean bursts; 1: random."
)
@click.option("--policy", "policies", multiple=True, help="Only this policy; may be repeated.")
@click.option(
    "--processes",
    type=click.IntRange(1),
    help="Cells at a time, each in a process. Default: one for each CPU.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of the table.")
@click.option(
    "--html", "page_path", type=click.Path(dir_okay=False, path_type=Path), help="Write plots here."
)
def link(
    quick: bool,
    seconds: float,
    seed: int,
    rtts: tuple[float, ...] | None,
    losses: tuple[float, ...] | None,
    bursts: tuple[float, ...] | None,
    policies: tuple[str, ...],
    processes: int | None,
    as_json: bool,
    page_path: Path | None,
) -> None:
    """Measure how the relay link repairs loss: RTT × loss × bursts × policy.

    Residual loss, added delay, overhead and CPU of each cell. The whole grid takes
    about ten minutes of CPU. What the adaptive policy is to hold is checked.

    Exit code: 0 all held, 1 something did not.
    """
    from relaymesh.bench import link as bench
    from relaymesh.bench import link_page, report
    from relaymesh.bench.link_checks import checks
    from relaymesh.bench.pool import run_cells

    cells = [
        cell
        for cell in bench.grid(quick=quick, seconds=seconds, seed=seed)
        if (rtts is None or cell.rtt_ms in rtts)
        and (losses is None or round(cell.loss * 100, 6) in losses)
        and (bursts is None or cell.burst in bursts or not cell.loss)
        and (not policies or cell.policy in policies)
    ]
    if not cells:
        raise click.UsageError(
            f"no cell is left of RTT {bench.RTTS_MS}, loss {bench.LOSSES}, burst {bench.BURSTS}, "
            f"policy {bench.POLICY_NAMES}"
        )
    results = []
    if not as_json:
        click.echo(report.table([]))
    for result in run_cells(bench.run, cells, processes or os.cpu_count() or 1):
        results.append(result)
        if not as_json:
            click.echo(report.line(result))
    found = checks(results)
    click.echo(report.to_json(results, found) if as_json else report.verdict(found))
    if page_path is not None:
        page_path.write_text(link_page.page(results, found), encoding="utf-8")
    sys.exit(0 if all(check.passed for check in found) else 1)


@command.command("rate")
@click.option(
    "--seeds", default=3, show_default=True, type=click.IntRange(1, 1000), help="Runs for each RTT."
)
@click.option("--rtt", "rtts", callback=_numbers, metavar="MS,…", help="Only these RTTs, ms.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of the table.")
@click.option(
    "--html", "page_path", type=click.Path(dir_okay=False, path_type=Path), help="Write plots here."
)
def rate(seeds: int, rtts: tuple[float, ...] | None, as_json: bool, page_path: Path | None) -> None:
    """A relay link whose path gets narrow, and two that share one.

    The path falls to half of what is offered, and recovers: what was lost, what was left
    out, how long packets waited. In virtual time; about a minute of CPU.

    Exit code: 0 all held, 1 something did not.
    """
    from functools import partial

    from relaymesh.bench import rate as bench
    from relaymesh.bench import rate_report as report

    runs = [
        partial(bench.brownout, rtt, seed=seed)
        for rtt in rtts or bench.RTTS_MS
        for seed in range(1, seeds + 1)
    ]
    with click.progressbar(runs, label="brown-outs", file=sys.stderr) as shown:
        brownouts = [run() for run in shown]
    shared = [bench.fairness(pair) for pair in bench.SHARED_RTTS_MS]
    found = report.checks(brownouts, shared)
    if as_json:
        click.echo(report.to_json(brownouts, shared, found))
    else:
        click.echo(report.table(brownouts, shared))
        for check in found:
            if not check.passed:
                click.echo(str(check))
        click.echo(f"{sum(check.passed for check in found)} of {len(found)} bounds hold")
    if page_path is not None:
        page_path.write_text(report.page(brownouts, shared, found), encoding="utf-8")
    sys.exit(0 if all(check.passed for check in found) else 1)


@command.command("access")
@click.option("--quick", is_flag=True, help="A few cells, some seconds.")
@click.option("--rate", "rates", callback=_numbers, metavar="MBIT/S,…", help="Only these rates.")
@click.option("--rtt", "rtts", callback=_numbers, metavar="MS,…", help="Only these RTTs, ms.")
@click.option("--loss", "losses", callback=_numbers, metavar="%,…", help="Only these losses, per cent.")
@click.option(
    "--cross", "crosses", multiple=True, type=click.Choice(["none", "steady", "bursts"]),
    help="Only this traffic of others; may be repeated.",
)  # fmt: skip
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Of the grid.")
@click.option(
    "--cuts", "cut_seeds", default=5, show_default=True, type=click.IntRange(0, 1000),
    help="Runs with a cut, for each RTT.",
)  # fmt: skip
@click.option(
    "--processes", type=click.IntRange(1), help="Cells at a time, each in a process. Default: one per CPU."
)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of the tables.")
def access(
    quick: bool,
    rates: tuple[float, ...] | None,
    rtts: tuple[float, ...] | None,
    losses: tuple[float, ...] | None,
    crosses: tuple[str, ...],
    seed: int,
    cut_seeds: int,
    processes: int | None,
    as_json: bool,
) -> None:
    """The estimate of a subscriber's bandwidth: rate × RTT × loss × others' traffic.

    How much of an access path one flow uses, the queue it makes, when it is there, how two
    share, and how a cut is followed; ours beside aiortc's receiver-side estimator (REMB), where
    aiortc is installed. In virtual time; the whole takes about five minutes of CPU.

    Exit code: 0 what is promised of ours holds, 1 something does not.
    """
    from relaymesh.bench import access as bench
    from relaymesh.bench import access_report as report
    from relaymesh.bench.access_remb import aiortc_version
    from relaymesh.bench.pool import run_cells

    other = aiortc_version()
    click.echo(f"beside aiortc {other}" if other else "aiortc is not installed: ours alone", err=True)
    estimators = (bench.OURS, bench.AIORTC) if other else (bench.OURS,)
    cells = [
        cell
        for cell in bench.grid(quick=quick, estimators=estimators, seed=seed)
        if (rates is None or cell.rate_mbps in rates)
        and (rtts is None or cell.rtt_ms in rtts)
        and (losses is None or round(cell.loss * 100, 6) in losses)
        and (not crosses or cell.cross in crosses)
    ]
    if not cells:
        raise click.UsageError(
            f"no cell is left of rate {bench.RATES_MBPS}, RTT {bench.RTTS_MS}, loss {bench.LOSSES}"
        )
    count = processes or os.cpu_count() or 1
    results = []
    if not as_json:
        click.echo(report.table([]))
    for result in run_cells(bench.run, cells, count):
        results.append(result)
        if not as_json:
            click.echo(report.line(result))
    runs = bench.cuts(quick=quick, estimators=estimators, seeds=cut_seeds)
    cuts = list(run_cells(bench.cut, runs, count))
    found = report.checks(results, cuts)
    if as_json:
        click.echo(report.to_json(results, cuts, found))
    else:
        if cuts:
            click.echo(f"\n{report.cut_table(cuts)}\n")
        click.echo(report.verdict(found))
    sys.exit(0 if all(check.passed for check in found) else 1)


def _cells(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> list[Cell]:
    from relaymesh.bench.srt_cells import DEFAULT_CELLS, BadCell, parse_cell

    try:
        return [parse_cell(text) for text in texts] or list(DEFAULT_CELLS)
    except BadCell as error:
        raise click.BadParameter(str(error)) from None


@command.command("srt")
@click.option(
    "--cell", "cells", multiple=True, callback=_cells, metavar="RTT:LOSS:BURST",
    help="A link: ms, per cent each way, mean burst. Repeatable. Default: 40:1:1, 80:5:1, 160:3:3, 40:5:8.",
)  # fmt: skip
@click.option(
    "--system", "names", multiple=True, type=click.Choice(["srt", "srt-short", "relaymesh"]),
    help="Only this one; may be repeated.",
)  # fmt: skip
@click.option("--seconds", default=30.0, show_default=True, type=click.FloatRange(1, 3600), help="Per run.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0))
@click.option("--json", "as_json", is_flag=True, help="JSON instead of the table.")
@click.option(
    "--html",
    "page_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a page with plots here.",
)
@click.option(
    "--logs",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the processes' logs in this folder.",
)
def srt(
    cells: list[Cell],
    names: tuple[str, ...],
    seconds: float,
    seed: int,
    as_json: bool,
    page_path: Path | None,
    logs: Path | None,
) -> None:
    """Our relay link beside the real srt-live-transmit, over the same emulated links.

    Real time and real processes, in two network namespaces; SRT runs at the latency
    its makers recommend for the loss, and once more at our own bound. It takes the
    seconds, and about ten more, for every system and cell. A run in which the
    emulator was late (more than 1 ms at p99) is invalid.

    Exit code: 0 all held, 1 something did not (or a run is invalid), 2 this machine
    has no srt-live-transmit or does not allow emulation.
    """
    from relaymesh.bench import srt as bench
    from relaymesh.bench import srt_report as report
    from relaymesh.bench.srt_cells import RELAYMESH, SYSTEMS
    from relaymesh.netsim.emulate.runner import EmulationFailed, prepare

    systems = [SYSTEMS[name] for name in names] or list(SYSTEMS.values())
    if any(system is not RELAYMESH for system in systems) and (reason := bench.why_no_srt()):
        click.echo(reason, err=True)
        sys.exit(2)
    results = []
    try:
        place = prepare()
        if not as_json:
            click.echo(report.table([]))
        for result in bench.run_all(cells, systems, place, seconds=seconds, seed=seed, logs=logs):
            results.append(result)
            if not as_json:
                click.echo(report.line(result))
    except EmulationFailed as error:
        click.echo(str(error), err=True)
        sys.exit(2 if not results else 1)
    if as_json:
        click.echo(report.to_json(results, seconds=seconds, seed=seed))
    else:
        click.echo(f"\n{report.verdict(results)}\n\n{report.CAPTION}")
    if page_path is not None:
        page_path.write_text(report.page(results), encoding="utf-8")
    sys.exit(0 if report.passed(results) else 1)


@command.command("routing")
@click.option("--nodes", default=1000, show_default=True, type=click.IntRange(4, 2039))
@click.option("--links", default=8000, show_default=True, type=click.IntRange(4, 200_000))
@click.option("--seed", default=1, show_default=True)
@click.option("--quick", is_flag=True, help="100 nodes, 800 links and a small directory.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of the table.")
def routing(nodes: int, links: int, seed: int, quick: bool, as_json: bool) -> None:
    """Measure how fast the controller plans for a big mesh, and for how long its loop is held up.

    CPU time of a real controller without its sockets: a full plan, links that die one
    after the other, and joins to rooms among many. Measure on a quiet machine. And how much longer paths
    planned from noisy reports are than the best, in virtual time.
    """
    from relaymesh.bench import routing as bench

    if nodes * (nodes - 1) // 2 < links:
        raise click.UsageError(f"{nodes} nodes have fewer than {links} links")
    size = bench.Size(nodes, links, seed=seed)
    if quick:
        small = {"rooms": 100, "tracks": 1000, "joins": 500}
        size = bench.Size(100, 800, changes=5, quality_nodes=(20,), seed=seed, **small)

    def say(text: str) -> None:
        click.echo(text, err=True)

    findings = bench.measure(size, say)
    click.echo(bench.to_json(findings) if as_json else bench.table(findings))
    if not findings.passed:
        sys.exit(1)
