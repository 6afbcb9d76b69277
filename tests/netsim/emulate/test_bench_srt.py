"""The comparison with SRT for real, in short: both systems carry the offer, and the counters make sense."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from relaymesh.bench.srt import why_no_srt
from relaymesh.netsim.emulate.cleanup import ENVIRONMENT
from tests.netsim.emulate.kernel import needs_kernel

NO_SRT = why_no_srt()
BENCH = [sys.executable, "-m", "relaymesh", "bench", "srt"]

pytestmark = pytest.mark.processes


@needs_kernel
@pytest.mark.skipif(NO_SRT is not None, reason=str(NO_SRT))
def test_both_carry_the_same_offer_over_the_same_link(tmp_path: Path) -> None:
    done = subprocess.run(
        [*BENCH, "--cell", "20:2:1", "--seconds", "2", "--system", "srt", "--system", "relaymesh", "--json"],
        env=os.environ | {ENVIRONMENT: str(tmp_path / "state")},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr  # 1: on a busy machine
    theirs, ours = json.loads(done.stdout)["metrics"]["results"]
    assert (theirs["system"], ours["system"]) == ("srt", "relaymesh")
    for result in (theirs, ours):
        assert result["packets"] == 2000
        assert result["residual"] < 0.01  # nothing was repaired: about 0.02
        assert result["lost_on_wire"] == pytest.approx(0.02, abs=0.015)
        assert 0 < result["overhead_repair"] < 0.2
        assert result["duplicates"] == 0
        assert result["cpu_us"] > 0
    assert theirs["p50_ms"] > theirs["latency_ms"] * 0.9
    assert ours["p50_ms"] < theirs["p50_ms"]


def test_without_srt_it_says_what_to_install(tmp_path: Path) -> None:
    done = subprocess.run(
        [*BENCH, "--seconds", "1"],
        env=os.environ | {"PATH": str(tmp_path), ENVIRONMENT: str(tmp_path / "state")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "apt-get install srt-tools" in done.stderr
