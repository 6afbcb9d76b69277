"""``relaymesh simulate``: scenarios in virtual time."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from relaymesh.cli.scenario_runs import (
    is_good,
    numbers_of,
    print_json,
    save_report,
    save_summary,
    scenario_files,
    tell,
    what_is_told,
    which_runs,
)
from relaymesh.netsim.batch import Done, Job, make_jobs, run_jobs
from relaymesh.netsim.scenario.loader import ScenarioError, load_scenario


@click.command("simulate")
@which_runs
@click.option(
    "--jobs", type=click.IntRange(1), help="Runs at a time, each in a process. Default: one for each CPU."
)
@what_is_told
def command(
    scenarios: tuple[Path, ...],
    seed: int | None,
    seeds: list[int] | None,
    overrides: dict[str, str],
    compare: tuple[str, list[str]] | None,
    as_json: bool,
    report: Path | None,
    summary: Path | None,
    jobs: int | None,
    strict: bool,
) -> None:
    """Run scenarios in virtual time: the real node and controller over an emulated network.

    SCENARIOS are files, or folders of *.yaml files. The same scenario and seed
    give the same run, to the last packet, on any machine. A run that fails is
    printed with the one command that repeats it.

    Exit code: 0 all held, 1 something did not, 2 a scenario is wrong.

    \b
      relaymesh simulate simulations/atlantic-cut.yaml
      relaymesh simulate simulations --seeds 1..20 --summary summary.md
      relaymesh simulate simulations/two-hops.yaml --compare settings.dead_after_ms=300,600
    """
    todo = make_jobs(scenario_files(scenarios), overrides, numbers_of(seed, seeds), compare)
    total = _check_all(todo)
    processes = jobs or os.cpu_count() or 1
    done: list[Done] = []
    at_once = (
        not as_json and not sys.stderr.isatty()
    )  # where there is a progress bar, what is told comes after it
    with _progress(total, len(todo), single=processes == 1 or len(todo) == 1) as (on_time, on_done):
        for one in run_jobs(todo, processes, on_time):
            done.append(one)
            on_done()
            if at_once:
                tell(one)
    if not as_json and not at_once:
        for one in done:
            tell(one)
    done.sort(key=lambda one: todo.index(one.job))
    results = [one.result for one in done if one.result is not None]
    if as_json:
        print_json(results, several=len(todo) > 1)
    if report is not None:
        save_report(results, report)
    if summary is not None:
        save_summary(results, summary)
    failed = [one for one in done if not is_good(one, strict)]
    for one in failed:
        click.echo(f"failed; to repeat it: {one.replay}", err=True)
    sys.exit(1 if failed else 0)


def _check_all(todo: list[Job]) -> float:
    """Read every scenario before the first runs; the virtual seconds of all runs together."""
    seconds, wrong = 0.0, []
    durations: dict[object, float] = {}
    for job in todo:
        key = job.path, job.overrides
        if key not in durations:
            try:
                durations[key] = load_scenario(job.path, dict(job.overrides)).duration_s
            except ScenarioError as error:
                wrong.append(str(error))
                durations[key] = 0.0
        seconds += durations[key]
    if wrong:
        click.echo("\n".join(wrong), err=True)
        sys.exit(2)
    return seconds


@contextmanager
def _progress(
    seconds: float, runs: int, *, single: bool
) -> Iterator[tuple[Callable[[float], None] | None, Callable[[], None]]]:
    """(told the virtual time within a run, told of a finished run). Only where people look."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None, lambda: None
        return
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    # No refreshing thread: virtual time refuses threads, and needs none.
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as progress:
        task = progress.add_task(
            "simulated s" if single else "runs", total=round(seconds) if single else runs
        )
        before = 0.0

        def on_time(now: float) -> None:
            progress.update(task, completed=round(before + now), refresh=True)

        def on_done() -> None:
            nonlocal before
            if single:
                before = float(progress.tasks[0].completed)
            else:
                progress.update(task, advance=1, refresh=True)

        yield on_time if single else None, on_done
