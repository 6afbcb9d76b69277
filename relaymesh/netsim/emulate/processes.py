"""The processes of an emulation: started inside a namespace, watched, crashed, ended.

In: what to run and in which namespace. Out: a :class:`Child`. Its output goes to a
file, never to a pipe: a process must not wait for a runner that is busy.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import trio

from relaymesh.netsim.emulate.cleanup import ProcessId, RunState
from relaymesh.netsim.emulate.namespaces import NetworkNamespace

RELAYMESH = (sys.executable, "-m", "relaymesh")
GRACE_S = 3.0  # from SIGTERM to SIGKILL
LAST_LINES = 12
PRIORITY = 10  # of real-time scheduling; the emulator has a higher one


class ChildDied(Exception):
    """A process ended that nobody had told to; the text says which, how, and its last words."""


@dataclass(frozen=True, slots=True)
class Command:
    """One process to run. Secrets stand in the environment, which other users cannot read."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    program: tuple[str, ...] = RELAYMESH


def go_first(process: int = 0) -> None:
    """Let *process* (0: this one) go before what else this machine does, as far as that is allowed.

    Among themselves the processes of an emulation stay equal, and all come after the emulator. What they
    start in turn does not inherit it. (The kernel keeps a twentieth of each second for everybody else.)
    """
    try:
        os.sched_setscheduler(process, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(PRIORITY))
    except OSError:
        pass


def go_along() -> None:
    """Take this process back to where all are."""
    try:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    except OSError:
        pass


class Child:
    """One process, which may be crashed and started again."""

    def __init__(self, command: Command, namespace: NetworkNamespace, state: RunState) -> None:
        self.command = command
        self.log = state.folder / f"{command.name}.log"
        self.wanted = False  # whether it shall run now
        self._namespace = namespace
        self._state = state
        self._process: subprocess.Popen[bytes] | None = None
        self._first = False  # whether it goes before others

    @property
    def name(self) -> str:
        return self.command.name

    def start(self) -> None:
        """Start it. Raises ``OSError``."""
        with self.log.open("ab") as log, self._namespace.inside():
            # Not trio's way: that starts it from another thread, which is in another namespace.
            self._process = subprocess.Popen(
                [*self.command.program, *self.command.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | self.command.environment,
                start_new_session=True,  # Ctrl-C in the terminal is the runner's to pass on
            )
        self.wanted = True
        self._first = False
        identity = ProcessId.of(self._process.pid)
        if identity is not None:
            self._state.children[self.name] = identity
            self._state.save()

    def go_first(self) -> None:
        """Go before what else this machine does, from now until it ends.

        Not from the start: starting is a second of pure work, which would keep the others waiting.
        """
        if not self._first and self._process is not None and self._process.poll() is None:
            self._first = True
            go_first(self._process.pid)

    def crash(self) -> None:
        """SIGKILL: it dies without a word."""
        self.wanted = False
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()  # a killed process is gone at once

    def check(self) -> None:
        """Raises :class:`ChildDied` when it has ended by itself."""
        if self.wanted and self._process is not None and self._process.poll() is not None:
            raise ChildDied(self.epitaph())

    def terminate(self) -> None:
        """SIGTERM; :func:`end_all` waits for it."""
        self.wanted = False
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._process is not None and self._process.poll() is None

    def epitaph(self) -> str:
        """How it ended, and what it said last."""
        code = self._process.returncode if self._process is not None else None
        how = (
            f"was killed by {signal.Signals(-code).name}"
            if code and code < 0
            else f"ended with exit code {code}"
        )
        return f"{self.name} {how}. Its last words:{last_words(self.log)}"


def last_words(log: Path) -> str:
    """The last lines of *log*, each on a line of its own."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
    return "".join(f"\n  {line}" for line in lines) or "\n  (it said nothing)"


async def end_all(children: list[Child]) -> None:
    """SIGTERM to all, SIGKILL to those that do not obey; returns when none is left."""
    for child in children:
        child.terminate()
    with trio.move_on_after(GRACE_S):
        while any(child.running for child in children):
            await trio.sleep(0.02)
    for child in children:
        child.crash()
