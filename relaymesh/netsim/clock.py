"""Virtual time for unmodified trio programs: when every task waits, the clock jumps.

In: an async function and the network it runs on. Out: its result, after as
little real time as its own computing takes. The clock jumps to the next packet
or to trio's next deadline, whichever is earlier, and is set to exactly that
number: there is one unit, float seconds, and no sum is computed twice, so that
what is due is never "almost" due. Packets are delivered from inside the jump;
there is no task that pumps them.

The same seed gives the same order of everything. trio draws the order of its
tasks from a generator of its own; that one is seeded here, and restored after.

trio has no public way to do this. What is used of its inside, here and by
the guards, is listed in :func:`check_trio`, which says clearly what a release of
trio moved.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from heapq import heappop, heappush
from math import inf
from typing import Any, NoReturn, Protocol, TypeVar

import trio
import trio._core._run as trio_run
import trio._threads
import trio.testing

from relaymesh.netsim.guards import guarded

T = TypeVar("T")
N = TypeVar("N", bound="VirtualNetwork")

SILENT_STEPS = 10_000  # events in one jump that wake no task, before trio gets a turn (for Ctrl-C)
SPIN_LIMIT = 200_000  # turns of trio's loop at one instant; a thousand tasks need a few at most
NEVER = 999_999_999.0  # seconds to sleep until a jump ends it


class VirtualStall(Exception):
    """Every task waits and nothing is scheduled: time cannot go on. Names the tasks and where they wait."""


class VirtualSpin(Exception):
    """Tasks keep running at one instant: time does not go on. Names the tasks."""


class TrioMoved(Exception):
    """This release of trio lacks an inner part the virtual clock is built on."""


class Timeline:
    """What is going to happen, in order: the one place that knows the virtual time.

    Events of the same time happen in the order they were put in.
    """

    __slots__ = ("_heap", "_order", "now")

    def __init__(self, start: float = 0.0) -> None:
        self.now = start  # seconds
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._order = 0

    def at(self, when: float, act: Callable[..., object], *arguments: Any) -> None:
        """Call *act* at *when* (seconds; a time already past: as soon as every task waits).

        It is called between the steps of tasks, outside of any; it must not block.
        """
        self._order += 1
        heappush(self._heap, (when, self._order, act, arguments))

    def next_time(self) -> float:
        """When the next event is due; infinity: there is none."""
        return self._heap[0][0] if self._heap else inf

    def step(self, deadline: float) -> bool:
        """Go to the next event, or to *deadline* where that is earlier, and do what is due by then.

        False: there is neither, and nothing was done.
        """
        heap = self._heap
        when = heap[0][0] if heap and heap[0][0] < deadline else deadline
        if when == inf:
            return False
        if when > self.now:
            self.now = when
        else:
            when = self.now
        while heap and heap[0][0] <= when:
            _, _, act, arguments = heappop(heap)
            act(*arguments)
        return True

    def __len__(self) -> int:
        return len(self._heap)


class VirtualNetwork(Protocol):
    """The network of a virtual run, as far as the clock knows it."""

    @property
    def timeline(self) -> Timeline:
        """What is going to happen on it."""

    def install(self) -> None:
        """Make it the network of the trio run it is called in."""


class VirtualRun(trio.abc.Instrument):
    """One run on a timeline: trio's clock, and what ends the run early."""

    def __init__(self, timeline: Timeline) -> None:
        self.failure: BaseException | None = None
        self.jumps = 0
        self._timeline = timeline
        self._scope = trio.CancelScope()
        self._main: trio.lowlevel.Task | None = None
        self._forced = False
        self._turns = 0  # of trio's loop since the last jump

    def clock(self) -> trio.testing.MockClock:
        """A clock for ``trio.run``.

        trio's loop asks for exactly this class, which is final: the methods
        are replaced on the instance.
        """
        timeline = self._timeline
        clock: Any = trio.testing.MockClock(autojump_threshold=0)
        clock.current_time = lambda: timeline.now
        clock.deadline_to_sleep_time = lambda deadline: 0.0 if deadline <= timeline.now else NEVER
        clock._autojump = self._jump
        return clock  # type: ignore[no-any-return]

    def abort(self, error: BaseException) -> None:
        """End the run with *error*: tasks are cancelled and clean up, then it is raised. The first counts."""
        if self.failure is None:
            self.failure = error
            self._scope.cancel()

    async def run(self, main: Callable[[N], Awaitable[T]], network: N) -> list[T]:
        """What *main* returned, or nothing if it was ended."""
        self._main = trio.lowlevel.current_task()
        network.install()
        with self._scope:
            return [await main(network)]
        return []

    def before_io_wait(self, timeout: float) -> None:
        """Trio's loop comes round (the run is one of trio's instruments)."""
        self._turns += 1
        if self._turns > SPIN_LIMIT:
            self._turns = 0
            self._end(VirtualSpin, "tasks run and run, but time stands still")

    def _jump(self) -> None:
        """Called by trio's loop when nothing can run."""
        timeline = self._timeline
        runner = trio_run.GLOBAL_RUN_CONTEXT.runner
        self.jumps += 1
        self._turns = 0
        try:
            for _ in range(SILENT_STEPS):
                deadline = runner.deadlines.next_deadline()
                if not timeline.step(deadline):
                    self._end(VirtualStall, "every task waits, and nothing is scheduled that could wake one")
                    return
                # A deadline that has come is trio's to expire; a task that was woken runs first.
                if runner.runq or deadline <= timeline.now:
                    return
        except BaseException as error:
            if self.failure is not None:
                raise
            self.abort(error)

    def _end(self, kind: type[Exception], what: str) -> None:
        if self.failure is None:
            tasks = "\n".join(sorted(f"  {task.name}: {_where(task)}" for task in tasks_below(self._main)))
            self.abort(kind(f"at {self._timeline.now:.6f} s {what}:\n{tasks}"))
        elif not self._forced:
            self._forced = True
            self._throw(self.failure)
        else:
            raise self.failure  # trio gives the run up; tasks do not come to their end

    def _throw(self, error: BaseException) -> None:
        """Cancelled already, but shielded from it: raise *error* where tasks wait, as trio does Ctrl-C."""

        def raise_it() -> NoReturn:
            raise error

        for task in tasks_below(self._main):
            if (
                not any(nursery.child_tasks for nursery in task.child_nurseries)
                and task._abort_func is not None
            ):
                task._attempt_abort(raise_it)


def run_virtual(
    main: Callable[[N], Awaitable[T]],
    *,
    seed: int,
    network: N,
    wall_clock_allowed: Collection[str] = (),
) -> T:
    """Run ``await main(network)`` in virtual time and return its result.

    *wall_clock_allowed* names modules of this package (with all below them)
    that may read the real time while it runs, for a progress display.

    Raises:
        VirtualStall: every task waits and nothing is scheduled.
        VirtualSpin: tasks keep running without time going on.
        GuardError: code used a thread, a real socket, a process or the wall clock.
        TrioMoved: this trio is not one the clock knows.
        BaseException: whatever *main* raises.
    """
    check_trio()
    run = VirtualRun(network.timeline)

    async def top() -> list[T]:
        # Not earlier: trio needs a real socket to wake itself.
        guards.enter_context(guarded(run.abort, wall_clock_allowed))
        return await run.run(main, network)

    result: list[T] = []
    # Not left inside the run: when trio has to give up a run, its tasks never come to their end.
    with _seeded(seed), ExitStack() as guards:
        try:
            result = trio.run(top, clock=run.clock(), instruments=[run])
        except BaseException as error:
            if run.failure is None or error is run.failure:
                raise
            raise run.failure from error
    if run.failure is not None:
        raise run.failure
    return result[0]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed trio's order of tasks and Python's global generator; both are as before afterwards."""
    inner: Any = trio_run
    before = inner._ALLOW_DETERMINISTIC_SCHEDULING, inner._r.getstate(), random.getstate()
    inner._ALLOW_DETERMINISTIC_SCHEDULING = True  # each batch is sorted by age before it is shuffled
    inner._r.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        inner._ALLOW_DETERMINISTIC_SCHEDULING = before[0]
        inner._r.setstate(before[1])
        random.setstate(before[2])


def check_trio() -> None:
    """See whether trio has the inner parts that are used here.

    Raises:
        TrioMoved: it has not; the message names them all.
    """
    fields = {field.name for field in getattr(trio_run.Runner, "__attrs_attrs__", ())}
    parts = {
        "trio._core._run.GLOBAL_RUN_CONTEXT": hasattr(trio_run, "GLOBAL_RUN_CONTEXT"),
        "trio._core._run._r (random.Random)": isinstance(getattr(trio_run, "_r", None), random.Random),
        "trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING": hasattr(
            trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING"
        ),
        "trio._core._run.Runner.runq": "runq" in fields,
        "trio._core._run.Runner.deadlines": "deadlines" in fields,
        "trio._core._run.Runner.clock_autojump_threshold": "clock_autojump_threshold" in fields,
        "trio._core._run.Deadlines.next_deadline": hasattr(
            getattr(trio_run, "Deadlines", None), "next_deadline"
        ),
        "trio.lowlevel.Task._attempt_abort": hasattr(trio.lowlevel.Task, "_attempt_abort"),
        "trio.lowlevel.Task._abort_func": hasattr(trio.lowlevel.Task, "_abort_func"),
        "trio._threads.start_thread_soon": hasattr(trio._threads, "start_thread_soon"),
        "trio.testing.MockClock._autojump": hasattr(trio.testing.MockClock, "_autojump"),
        "trio.testing.MockClock with instance attributes": hasattr(trio.testing.MockClock(), "__dict__"),
    }
    missing = [name for name, there in parts.items() if not there]
    if missing:
        raise TrioMoved(f"virtual time does not know trio {trio.__version__}: no {', no '.join(missing)}")


def tasks_below(root: trio.lowlevel.Task | None) -> list[trio.lowlevel.Task]:
    """*root* and the tasks it started, and theirs, in no order."""
    found = [] if root is None else [root]
    for task in found:  # it grows
        found += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


def _where(task: trio.lowlevel.Task) -> str:
    """The innermost frame that is not trio's own, and what of trio it called."""
    ours, inside = "is about to start", ""
    for frame, line in task.iter_await_frames():
        code, module = frame.f_code, str(frame.f_globals.get("__name__", "?"))
        if module.partition(".")[0] == "trio":
            inside = inside or code.co_qualname
        else:
            ours, inside = f"{module}:{line} in {code.co_qualname}", ""
    return f"{ours}, waits in trio's {inside}" if inside else ours
