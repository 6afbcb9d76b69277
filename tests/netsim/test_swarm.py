"""Fifty seeds of a small, rough scenario: none may fail. One that does is named with its replay command."""

from __future__ import annotations

from pathlib import Path

from relaymesh.netsim.batch import make_jobs, run_jobs

SCENARIO = Path(__file__).parent / "scenarios" / "swarm.yaml"
SEEDS = 50
PROCESSES = 2


def test_fifty_seeds_hold() -> None:
    wrong = []
    for done in run_jobs(make_jobs([SCENARIO], {}, list(range(1, SEEDS + 1))), PROCESSES):
        if done.result is None:
            wrong.append(f"{done.replay}: {done.error}")
        elif not done.result.passed:
            broken = [f"{c.name} {c.value} ({c.bound})" for c in done.result.checks if not c.passed]
            wrong.append(f"{done.replay}: {done.result.invalid_reason or ', '.join(broken)}")
    assert not wrong, "\n".join(["seeds that fail, and how to replay them:", *wrong])
