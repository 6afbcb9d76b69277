"""Batches of runs: the jobs they are made of, runs that break, runs in other processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from relaymesh.netsim import batch
from relaymesh.netsim.batch import Job, make_jobs, run_jobs
from relaymesh.netsim.scenario.resolved import Scenario

SWARM = Path(__file__).parent / "scenarios" / "swarm.yaml"
LEAVE = "traffic.rooms[0].participants[2].leave_s"
SHORT = (("duration_s", "4"), ("warmup_s", "1"), ("faults", "[]"), (LEAVE, "4"))


def test_jobs_are_all_combinations_in_order() -> None:
    one, two = Path("one.yaml"), Path("two.yaml")
    jobs = make_jobs([one, two], {"a": "1"}, [5, 6], ("b", ["x", "y"]))
    assert len(jobs) == 8
    assert jobs[0] == Job(one, (("a", "1"), ("b", "x")), 5)
    assert jobs[3] == Job(one, (("a", "1"), ("b", "y")), 6)
    assert make_jobs([one], {}, [None]) == [Job(one, (), None)]


def test_a_run_that_breaks_is_told_with_its_seed_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = batch.simulate

    def sometimes(scenario: Scenario, *, seed: int, **rest: object) -> object:
        if seed == 1:
            raise RuntimeError("nobody thought of this")
        return real(scenario, seed=seed)

    monkeypatch.setattr(batch, "simulate", sometimes)
    first, second = run_jobs([Job(SWARM, SHORT, 1), Job(SWARM, SHORT, 2)], 1)
    assert first.result is None
    assert first.error == "RuntimeError: nobody thought of this"
    assert first.replay.startswith(f"relaymesh simulate {SWARM} --seed 1 --set duration_s=4")
    assert second.result is not None


def test_other_processes_give_the_same_results() -> None:
    jobs = [Job(SWARM, SHORT, 1), Job(SWARM, SHORT, 2)]
    here = {done.job.seed: done.result for done in run_jobs(jobs, 1)}
    there = {done.job.seed: done.result for done in run_jobs(jobs, 2)}
    for seed, result in here.items():
        other = there[seed]
        assert result is not None
        assert other is not None
        assert other.metrics["trace_sha256"] == result.metrics["trace_sha256"]
        assert other.checks == result.checks
