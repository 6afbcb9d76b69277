"""The supervisor with programs that behave as no node would. Real nodes are in tests/e2e/test_site.py."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import trio

from relaymesh.site import supervisor
from relaymesh.site.channel import Report, encode
from relaymesh.site.roster import Roster
from relaymesh.site.supervisor import SiteFailed, run_site
from tests.site.test_plan import settings

UP = encode(Report(0, True, "127.0.0.1:1", "127.0.0.1:2")).decode().strip()
OBEDIENT = f"""
import sys
order = sys.stdin.readline()
assert "the-token" in order and "the-token" not in " ".join(sys.argv)
print("no report", flush=True)
print('{UP}', flush=True)
sys.stdin.read()
"""
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + OBEDIENT


def program(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


async def until_up(roster: Roster) -> None:
    with trio.fail_after(30):
        while not roster.all_up():
            await trio.sleep(0.01)


def is_running(pid: object) -> bool:
    return Path(f"/proc/{pid}").exists()


def pids(roster: Roster) -> list[object]:
    return [worker["pid"] for worker in roster.debug_state()]


async def run_until_stopped(
    text: str, monkeypatch: pytest.MonkeyPatch, *, stop_within: float
) -> list[object]:
    """Start a site of two such workers and stop it when both are up; their processes."""
    monkeypatch.setattr(supervisor, "STOP_WITHIN", stop_within)
    found: list[object] = []

    async def run(task_status: trio.TaskStatus[Roster]) -> None:
        await run_site(settings(http="127.0.0.1:0"), 2, program=program(text), task_status=task_status)

    async with trio.open_nursery() as nursery:
        roster = await nursery.start(run)
        await until_up(roster)
        found += pids(roster)
        assert all(is_running(pid) for pid in found)
        os.kill(os.getpid(), signal.SIGTERM)
    return found


async def test_a_stop_ends_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await run_until_stopped(OBEDIENT, monkeypatch, stop_within=30.0)
    assert len(found) == 2 and not any(is_running(pid) for pid in found)


async def test_workers_that_do_not_stop_are_killed_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        await run_until_stopped(STUBBORN, monkeypatch, stop_within=0.2)
    assert caught.group_contains(SiteFailed, match=r"had to be killed: .*fra-1\.")


async def test_a_worker_that_ends_before_it_runs_fails_the_site() -> None:
    with pytest.raises(SiteFailed, match=r"fra-1\.\d could not start \(exit code 3\)"):
        await run_site(settings(http="127.0.0.1:0"), 2, program=program("raise SystemExit(3)"))


async def test_a_program_that_is_not_there_fails_the_site(tmp_path: Path) -> None:
    with pytest.raises(SiteFailed, match="could not start"):
        await run_site(settings(http="127.0.0.1:0"), 2, program=(str(tmp_path / "missing"),))


async def test_settings_that_do_not_fit_leave_nothing_behind() -> None:
    with pytest.raises(ValueError, match="worker 2 would have port"):
        await run_site(settings(http="127.0.0.1:0", media="127.0.0.1:65535"), 2)
