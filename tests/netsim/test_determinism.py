"""The same scenario and seed are the same run in any process; another seed is another run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from relaymesh.kernels import VARIABLE
from tests.kernels.both import native
from tests.netsim.hashes import SCENARIOS

ROOT = Path(__file__).parent.parent.parent


def start(seed: int, hash_seed: int, kernels: str = "auto") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.netsim.hashes", str(seed)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed), VARIABLE: kernels},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_three_processes_see_the_same_runs_and_another_seed_sees_others() -> None:
    processes = [start(5, 1), start(5, 2), start(5, 3), start(6, 1)]
    found = [json.loads(process.communicate(timeout=300)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    assert set(found[0]) == set(SCENARIOS)
    assert all(len(text) == 64 for text in found[0].values())
    assert found[0] == found[1] == found[2]
    assert all(found[3][name] != found[0][name] for name in SCENARIOS)


def test_native_kernels_see_the_same_runs_as_the_references() -> None:
    native("srtp")  # else there is nothing to compare
    processes = [start(5, 1, kernels) for kernels in ("reference", "native")]
    found = [json.loads(process.communicate(timeout=300)[0]) for process in processes]
    assert found[0] == found[1]
    assert set(found[0]) == set(SCENARIOS)
