"""What a killed run leaves, and who removes it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from relaymesh.netsim.emulate.cleanup import (
    ENVIRONMENT,
    ProcessId,
    clean_up,
    new_run,
    running,
    runs,
    state_root,
)

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(SLEEP)
    yield process
    process.kill()
    process.wait()


def known(process: subprocess.Popen[bytes]) -> ProcessId:
    found = ProcessId.of(process.pid)
    assert found is not None
    return found


def test_a_run_that_is_on_is_left_alone(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    state = new_run(tmp_path)
    state.children["node"] = known(sleeper)
    state.save()
    assert clean_up(tmp_path) == []
    assert [run.children for run in running(tmp_path)] == [state.children]
    assert sleeper.poll() is None
    state.remove()
    assert list(runs(tmp_path)) == []


def test_what_a_killed_run_left_is_ended_and_removed(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    gone = subprocess.Popen(SLEEP)
    state = new_run(tmp_path)
    state.scenario, state.runner = "two-hops", known(gone)
    state.children = {"node": known(sleeper)}
    state.save()
    gone.kill()
    gone.wait()
    assert running(tmp_path) == []
    assert clean_up(tmp_path) == ["removed what a killed run of two-hops left, ended node"]
    assert sleeper.wait(10) == -9
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_was_given_to_somebody_else_is_not_hit(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    real = known(sleeper)
    state = new_run(tmp_path)
    state.runner = ProcessId(os.getpid(), 1)  # this process, but started at another time
    state.children = {"node": ProcessId(real.number, real.started - 1)}
    state.save()
    assert clean_up(tmp_path) == ["removed what a killed run of a scenario left"]
    assert sleeper.poll() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"runner": [1]}', '{"runner": 5, "scenario": ""}'])
def test_a_state_that_cannot_be_read_is_passed_over(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "run-x"
    folder.mkdir()
    (folder / "state.json").write_text(text)
    assert list(runs(tmp_path)) == []
    assert clean_up(tmp_path) == []


def test_the_folder_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "here"))
    assert state_root() == tmp_path / "here"
    assert (tmp_path / "here").stat().st_mode & 0o077 == 0


def test_the_next_run_of_a_process_finds_a_folder_though_the_last_took_it_away(tmp_path: Path) -> None:
    root = tmp_path / "relaymesh-emulate-1"
    for _ in range(2):
        new_run(root).remove()
        assert not root.exists()
