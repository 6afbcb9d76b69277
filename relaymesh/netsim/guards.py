"""What would make virtual time silently wrong, made an error while a run is on.

A thread, a real socket or a process takes real time, which virtual time runs
away from; a wall clock stands still in it. Whoever tries gets an exception on
the spot, and the run ends with the same one, even if it was caught: nodes
catch what one datagram does to them, and a guard must not drown in that.

Everything is put back when the block ends, however it ends.
"""

from __future__ import annotations

import datetime
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from types import FunctionType, ModuleType
from typing import Any

import trio
import trio._threads

PACKAGE = __name__.partition(".")[0]
# Libraries may read the time (for log lines, say); what this project computes must not depend on it.
CLOCKS = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep")

OnViolation = Callable[[BaseException], None]


class GuardError(Exception):
    """Something that cannot be simulated was tried during a virtual run."""


class ThreadUsed(GuardError):
    """A thread was about to start."""


class RealSocketUsed(GuardError):
    """A socket of the operating system was about to be made."""


class ProcessUsed(GuardError):
    """A process was about to start."""


class WallClockRead(GuardError):
    """Code of this package asked for the real time."""


@contextmanager
def guarded(on_violation: OnViolation, wall_clock_allowed: Collection[str] = ()) -> Iterator[None]:
    """Forbid threads, sockets, processes and the wall clock until the block ends.

    *on_violation* is told of every violation before it is raised.
    *wall_clock_allowed* names modules, with all below them, that may read the time.
    """
    with ExitStack() as undo:

        def forbid(owner: Any, name: str, kind: type[GuardError], what: str) -> None:
            def refuse(*_: object, **__: object) -> None:
                error = kind(f"{what} during a virtual run")
                on_violation(error)
                raise error

            _replace(undo, owner, name, refuse)

        forbid(threading.Thread, "start", ThreadUsed, "a thread was started")
        # trio keeps idle threads and reuses them without starting one.
        for module in (trio.lowlevel, trio._threads):
            forbid(module, "start_thread_soon", ThreadUsed, "trio.to_thread was used")
        forbid(socket.socket, "__init__", RealSocketUsed, "a real socket was made")
        forbid(subprocess.Popen, "__init__", ProcessUsed, "a process was started")
        _guard_clocks(undo, on_violation, tuple(wall_clock_allowed))
        yield


def _replace(undo: ExitStack, owner: Any, name: str, new: object) -> None:
    old = owner.__dict__[name]
    setattr(owner, name, new)
    undo.callback(setattr, owner, name, old)


def _guard_clocks(undo: ExitStack, on_violation: OnViolation, allowed: tuple[str, ...]) -> None:
    def check(what: str, depth: int) -> None:
        module = str(sys._getframe(depth + 1).f_globals.get("__name__", ""))
        if not _is_below(module, (PACKAGE,)) or _is_below(module, allowed):
            return
        error = WallClockRead(f"{module} called {what} during a virtual run; ask trio.current_time()")
        on_violation(error)
        raise error

    replaced: dict[int, object] = {}  # id of the original: its guard

    def guard(name: str, original: Callable[..., Any]) -> None:
        def ask(*arguments: Any) -> Any:
            check(f"time.{name}()", 1)
            return original(*arguments)

        replaced[id(original)] = ask

    for name in CLOCKS:
        guard(name, getattr(time, name))
        _replace(undo, time, name, replaced[id(getattr(time, name))])
    guarded_datetime = _datetime_class(check)
    replaced[id(datetime.datetime)] = guarded_datetime
    replaced[id(datetime)] = _datetime_module(guarded_datetime)
    for module in _modules():
        for name, value in list(vars(module).items()):
            if id(value) in replaced:  # "from time import monotonic", "import datetime"
                _replace(undo, module, name, replaced[id(value)])
            elif isinstance(value, FunctionType) and value.__module__ == module.__name__:
                _guard_defaults(undo, value, replaced)


def _modules() -> list[ModuleType]:
    return [
        module
        for name, module in list(sys.modules.items())
        if _is_below(name, (PACKAGE,)) and name != __name__ and isinstance(module, ModuleType)
    ]


def _is_below(module: str, roots: tuple[str, ...]) -> bool:
    return any(module == root or module.startswith(f"{root}.") for root in roots)


def _guard_defaults(undo: ExitStack, function: FunctionType, replaced: dict[int, object]) -> None:
    """A clock may hide in a default: ``def run(now=time.time)``. Using that default is the violation."""
    if function.__defaults__ and any(id(value) in replaced for value in function.__defaults__):
        undo.callback(setattr, function, "__defaults__", function.__defaults__)
        function.__defaults__ = tuple(replaced.get(id(value), value) for value in function.__defaults__)
    if function.__kwdefaults__ and any(id(value) in replaced for value in function.__kwdefaults__.values()):
        undo.callback(setattr, function, "__kwdefaults__", function.__kwdefaults__)
        function.__kwdefaults__ = {
            name: replaced.get(id(value), value) for name, value in function.__kwdefaults__.items()
        }


class _LooksReal(type):
    """Makes every real datetime an instance of the guarded class."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, datetime.datetime)


def _datetime_class(check: Callable[[str, int], None]) -> type:
    """``datetime.datetime`` as modules of this package see it. The class itself cannot be changed."""

    def ask(name: str) -> classmethod:  # type: ignore[type-arg]
        def method(cls: type, *arguments: Any, **named: Any) -> Any:
            check(f"datetime.{name}()", 1)
            return getattr(datetime.datetime, name)(*arguments, **named)

        return classmethod(method)

    members = {name: ask(name) for name in ("now", "utcnow", "today")}
    return _LooksReal("datetime", (datetime.datetime,), members)


def _datetime_module(guarded_datetime: type) -> ModuleType:
    module = ModuleType("datetime")
    vars(module).update(vars(datetime))
    vars(module)["datetime"] = guarded_datetime
    return module
