"""A process that hangs ends, and says where it hung."""

from __future__ import annotations

import subprocess
import sys

import pytest

TRIOS_THREAD = """
async def hang():
    await trio.sleep(0.3)
    while True: pass

async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watchdog.keep_watch, lambda: 0.0)
        nursery.start_soon(hang)
"""
ANOTHER = """
began = time.monotonic()

async def main():
    await watchdog.keep_watch(lambda: time.monotonic() - began)
"""
NONE = """
async def main():
    with trio.move_on_after(1.2):
        await watchdog.keep_watch(lambda: 0.0)
    time.sleep(0.7)  # nobody watches any more
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    text = f"""
import time
import trio
from relaymesh.runtime import watchdog
watchdog.LIMIT_S, watchdog.SIGN_S = 0.5, 0.05
{program}
trio.run(main)
"""
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize(("program", "place"), [(TRIOS_THREAD, "in hang"), (ANOTHER, "Thread")])
def test_a_process_that_hangs_is_ended_and_tells_where(program: str, place: str) -> None:
    result = run(program)
    assert result.returncode == 1
    assert "Timeout" in result.stderr and place in result.stderr


def test_one_that_lives_goes_on_and_the_watch_ends_with_its_task() -> None:
    result = run(NONE)
    assert result.returncode == 0, result.stderr
