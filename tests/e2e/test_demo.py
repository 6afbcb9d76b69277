"""``relaymesh demo`` ends by itself and says whether media really arrived two hops away."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.processes


def test_the_demo_passes_its_own_checks():
    result = subprocess.run(
        [sys.executable, "-m", "relaymesh", "demo", "--for", "15", "--json", "--port", "0"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.stdout, result.stderr
    verdict = json.loads(result.stdout)
    assert set(verdict) >= {"passed", "checks", "metrics"}
    assert {"name", "value", "bound", "passed"} <= set(verdict["checks"][0])
    assert verdict["passed"], result.stdout + result.stderr
    assert result.returncode == 0
