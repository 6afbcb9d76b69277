from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.skips import SkipBudget

ROOT = Path(__file__).parents[1]
BUSY_TEST = """
import pytest
from tests.skips import too_busy

@pytest.mark.parametrize("k", range(3))
def test_busy(k):
    if k:
        too_busy("its queue was late")

def test_other():
    pytest.skip("no such program here")
"""


@pytest.mark.parametrize(
    ("environment", "code", "said"),
    [
        ({}, 1, "2 tests were skipped as the machine is too busy, at most 1 may be"),
        ({"CI": "true", "RELAYMESH_BUSY_SKIPS": "2"}, 0, ""),
        ({"CI": "true"}, 1, "at most 0 may be"),
        ({"RELAYMESH_BUSY_SKIPS": "2", "RELAYMESH_SKIPS": "3"}, 0, ""),
        ({"RELAYMESH_BUSY_SKIPS": "2", "RELAYMESH_SKIPS": "2"}, 1, "3 tests were skipped, at most 2 may be"),
    ],
)
def test_a_run_that_skips_too_much_fails(
    tmp_path: Path, environment: dict[str, str], code: int, said: str
) -> None:
    file = tmp_path / "test_some.py"
    file.write_text(BUSY_TEST)
    plain = {key: value for key, value in os.environ.items() if key != "CI" and "SKIPS" not in key}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.conftest",
        "-p",
        "no:cacheprovider",
        str(file),
    ]
    done = subprocess.run(
        command,
        env={**plain, "PYTHONPATH": str(ROOT), **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stdout


def test_the_bounds_come_from_the_environment() -> None:
    assert SkipBudget.of({}) == SkipBudget(1, None)
    assert SkipBudget.of({"CI": "1"}) == SkipBudget(0, None)
    assert SkipBudget.of({"CI": "1", "RELAYMESH_BUSY_SKIPS": "4", "RELAYMESH_SKIPS": "9"}) == SkipBudget(4, 9)


def test_no_test_skips_for_a_busy_machine_past_the_count() -> None:
    for file in (ROOT / "tests").rglob("test_*.py"):
        skips = [line for line in file.read_text().splitlines() if "pytest.skip(" in line]
        assert file.name == "test_skips.py" or not any("busy to" in line for line in skips), file
