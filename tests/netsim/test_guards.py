"""What virtual time cannot have is refused, loudly, and only while a run is on."""

import datetime
import socket
import subprocess
import sys
import threading
import time
from types import ModuleType

import pytest
import trio

from relaymesh.netsim.clock import run_virtual
from relaymesh.netsim.guards import (
    GuardError,
    ProcessUsed,
    RealSocketUsed,
    ThreadUsed,
    WallClockRead,
    guarded,
)
from relaymesh.netsim.net import Network

SOURCE = """
import datetime as dt
import time
from datetime import datetime
from time import monotonic

def through_module(): return time.time()
def imported(): return monotonic()
def now(): return datetime.now()
def now_through_module(): return dt.datetime.now(dt.UTC)
def sleep(): time.sleep(0)
def default(clock=time.time): return clock()
def named_default(*, clock=time.perf_counter): return clock()
def cpu(): return time.process_time()
def is_datetime(value): return isinstance(value, datetime)
def fixed(): return datetime.fromtimestamp(0, dt.UTC), dt.timedelta(days=1)
"""
CLOCKS = ["through_module", "imported", "now", "now_through_module", "sleep", "default", "named_default"]


@pytest.fixture
def ours():
    """A module of this package, made for the test."""
    module = ModuleType("relaymesh.made_for_a_test")
    sys.modules[module.__name__] = module
    exec(SOURCE, vars(module))
    yield module
    del sys.modules[module.__name__]


def run(main, **more):
    return run_virtual(main, seed=1, network=Network(1, lambda source, target: None), **more)


async def use_trio_thread():
    await trio.to_thread.run_sync(time.sleep, 0)


async def use_thread():
    threading.Thread(target=print).start()


async def use_socket():
    socket.socket()


async def use_process():
    subprocess.run(["true"])


FORBIDDEN = [
    (use_trio_thread, ThreadUsed),
    (use_thread, ThreadUsed),
    (use_socket, RealSocketUsed),
    (use_process, ProcessUsed),
]


@pytest.mark.parametrize(("use", "kind"), FORBIDDEN)
def test_it_is_refused(use, kind):
    async def main(network):
        await use()

    with pytest.raises(kind, match="during a virtual run"):
        run(main)


@pytest.mark.parametrize(("use", "kind"), FORBIDDEN)
def test_it_ends_the_run_even_when_caught(use, kind):
    async def main(network):
        try:
            await use()
        except Exception:
            pass
        await trio.sleep(1)
        raise AssertionError("the run goes on")

    with pytest.raises(kind):
        run(main)


def test_a_violation_counts_even_if_nothing_comes_after_it():
    async def main(network):
        try:
            await use_socket()
        except GuardError:
            return "fine"

    with pytest.raises(RealSocketUsed):
        run(main)


def test_an_idle_thread_of_trio_is_not_used_either():
    trio.run(use_trio_thread)

    async def main(network):
        await use_trio_thread()

    with pytest.raises(ThreadUsed):
        run(main)
    trio.run(use_trio_thread)


@pytest.mark.parametrize("name", CLOCKS)
def test_our_code_may_not_read_the_wall_clock(ours, name):
    async def main(network):
        getattr(ours, name)()

    with pytest.raises(WallClockRead, match=r"relaymesh\.made_for_a_test called \w+\.\w+\(\)"):
        run(main)
    getattr(ours, name)()


@pytest.mark.parametrize("name", CLOCKS)
def test_who_is_allowed_may(ours, name):
    async def main(network):
        return getattr(ours, name)()

    run(main, wall_clock_allowed=["relaymesh.made_for_a_test"])
    with pytest.raises(WallClockRead):
        run(main, wall_clock_allowed=["relaymesh.made"])


def test_libraries_and_cpu_time_are_free(ours):
    async def main(network):
        assert ours.is_datetime(datetime.datetime.now())
        assert ours.fixed()[0].year == 1970
        return time.time(), time.monotonic(), ours.cpu()

    assert all(value > 0 for value in run(main))


def test_everything_is_put_back_after_an_error(ours):
    def state():
        return (
            {name: vars(ours)[name] for name in ("time", "dt", "datetime", "monotonic")},
            ours.default.__defaults__,
            ours.named_default.__kwdefaults__,
            [vars(time)[name] for name in ("time", "monotonic", "perf_counter", "sleep", "time_ns")],
            vars(socket.socket)["__init__"],
            vars(subprocess.Popen)["__init__"],
            vars(threading.Thread)["start"],
            trio.lowlevel.start_thread_soon,
        )

    def fail():
        with guarded(told.append):
            assert state() != before
            raise ZeroDivisionError

    before, told = state(), []
    with pytest.raises(ZeroDivisionError):
        fail()
    assert state() == before
    assert told == []
