"""What the scenarios of failure promise, on two seeds and short; `make scenarios` runs everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from relaymesh.netsim.batch import Job, run_job

SIMULATIONS = Path(__file__).parents[2] / "simulations"


@pytest.mark.parametrize("seed", [21, 22])
@pytest.mark.parametrize("name", ["link-death", "node-death", "lossy-step", "slow-step"])
def test_it_holds(name: str, seed: int) -> None:
    changes = (("duration_s", "16"), ("faults[0].at_s", "9"))
    done = run_job(Job(SIMULATIONS / f"{name}.yaml", changes, seed))
    assert done.result is not None, done.error
    broken = [f"{c.name} {c.value} ({c.bound})" for c in done.result.checks if not c.passed]
    assert not broken, f"{done.replay}: {broken}"
