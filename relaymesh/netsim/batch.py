"""Many simulated runs: one after the other here, or several at once in processes of their own.

In: jobs (scenario file, overrides, seed). Out: for each its result, or why it
ended without one; in the order in which they end.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from relaymesh.netsim.result import Result, result_from_json
from relaymesh.netsim.scenario.loader import load_scenario
from relaymesh.netsim.simulate import replay_command, simulate


@dataclass(frozen=True, slots=True)
class Job:
    """One run to be made."""

    path: Path
    overrides: tuple[tuple[str, str], ...] = ()
    seed: int | None = None  # None: the scenario's own


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a job: a result, or an error (a bug of the run, not of the mesh)."""

    job: Job
    result: Result | None
    error: str = ""
    replay: str = ""


def make_jobs(
    paths: list[Path],
    overrides: dict[str, str],
    seeds: list[int | None],
    compare: tuple[str, list[str]] | None = None,
) -> list[Job]:
    """All combinations of scenario, compared value and seed, in this order."""
    variants = [{}] if compare is None else [{compare[0]: value} for value in compare[1]]
    return [
        Job(path, tuple({**overrides, **variant}.items()), seed)
        for path, variant, seed in product(paths, variants, seeds)
    ]


def run_job(job: Job, on_progress: Callable[[float], None] | None = None) -> Done:
    """Make one run in this process.

    Raises:
        ScenarioError: the file or the overrides are wrong.
    """
    scenario = load_scenario(job.path, dict(job.overrides))
    seed = scenario.seed if job.seed is None else job.seed
    replay = replay_command(scenario, seed)
    try:
        return Done(job, simulate(scenario, seed=seed, on_progress=on_progress), replay=replay)
    except Exception as error:  # whatever it is, the other runs go on and the seed is told
        return Done(job, None, f"{type(error).__name__}: {error}", replay)


def _run_elsewhere(job: Job) -> tuple[str | None, str, str]:
    done = run_job(job)
    return None if done.result is None else done.result.to_json(), done.error, done.replay


def run_jobs(
    jobs: list[Job], processes: int, on_progress: Callable[[float], None] | None = None
) -> Iterator[Done]:
    """Make all runs, *processes* at a time; *on_progress* is told virtual time of runs in this process."""
    if processes <= 1 or len(jobs) <= 1:
        for job in jobs:
            yield run_job(job, on_progress)
        return
    pool = ProcessPoolExecutor(min(processes, len(jobs)), mp_context=multiprocessing.get_context("spawn"))
    try:
        running = {pool.submit(_run_elsewhere, job): job for job in jobs}
        for future in as_completed(running):
            text, error, replay = future.result()
            yield Done(running[future], None if text is None else result_from_json(text), error, replay)
    finally:
        pool.shutdown(cancel_futures=True)  # whoever stops early does not wait for what has not begun
