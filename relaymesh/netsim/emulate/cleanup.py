"""What a run leaves behind if it is killed, written down so that the next start removes it.

In: a folder for the state of all runs of this user. Out: a :class:`RunState`, the
folder of one run, with the processes it started and where its namespaces are.
A run that ends removes its folder. One that was killed cannot: the next start
finds it (:func:`clean_up`), ends the processes that still run, and removes it.

A process is known by its number and the time it was started, so that a number
the system has given to somebody else since is never hit. Namespaces and devices
need no removal: they are gone with the last process that holds them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PREFIX = "relaymesh-emulate-"
STATE_FILE = "state.json"
ENVIRONMENT = "RELAYMESH_EMULATE_STATE"
_START_TIME_FIELD = 22  # proc(5), /proc/pid/stat, counted from 1


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process that cannot be mistaken for a later one with the same number."""

    number: int
    started: int  # clock ticks after the boot

    @classmethod
    def of(cls, number: int) -> ProcessId | None:
        """The process that has this number now; ``None`` when there is none."""
        try:
            stat = Path(f"/proc/{number}/stat").read_text()
        except OSError:
            return None
        # The second field is the program's name in brackets and may hold anything.
        fields = stat.rpartition(")")[2].split()
        state, started = fields[0], int(fields[_START_TIME_FIELD - 3])
        return None if state == "Z" else cls(number, started)

    def alive(self) -> bool:
        """Whether it still runs."""
        return ProcessId.of(self.number) == self

    def kill(self) -> bool:
        """End it by SIGKILL if it still runs; whether it did."""
        try:
            handle = os.pidfd_open(self.number)
        except OSError:
            return False
        try:
            # From here on a reuse of the number is noticed: the handle stays with the process.
            if not self.alive():
                return False
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True


@dataclass(slots=True)
class RunState:
    """One run, as others see it in its folder."""

    folder: Path
    runner: ProcessId
    scenario: str = ""
    own_user_namespace: bool = False
    namespaces: dict[str, int] = field(default_factory=dict)  # name → descriptor in the runner
    urls: dict[str, str] = field(default_factory=dict)  # node → its HTTP, as seen inside
    children: dict[str, ProcessId] = field(default_factory=dict)  # name → process

    def save(self) -> None:
        """Write it down; a reader sees the old or the new, never half of it."""
        data = {
            "runner": [self.runner.number, self.runner.started],
            "scenario": self.scenario,
            "own_user_namespace": self.own_user_namespace,
            "namespaces": self.namespaces,
            "urls": self.urls,
            "children": {name: [p.number, p.started] for name, p in self.children.items()},
        }
        fresh = self.folder / f"{STATE_FILE}.new"
        fresh.write_text(json.dumps(data))
        fresh.replace(self.folder / STATE_FILE)

    @classmethod
    def load(cls, folder: Path) -> RunState:
        """The run of *folder*. Raises ``ValueError`` or ``OSError``: nothing that can be read."""
        data: dict[str, Any] = json.loads((folder / STATE_FILE).read_text())
        try:
            return cls(
                folder=folder,
                runner=ProcessId(*data["runner"]),
                scenario=data["scenario"],
                own_user_namespace=data["own_user_namespace"],
                namespaces=data["namespaces"],
                urls=data["urls"],
                children={name: ProcessId(*values) for name, values in data["children"].items()},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{folder}: not the state of a run: {error!r}") from None

    def remove(self) -> None:
        """The run is over."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.parent.name.startswith(PREFIX):
            with suppress(OSError):  # other runs are in it
                self.folder.parent.rmdir()


def state_root() -> Path:
    """Where the runs of this user keep their state; made if need be, closed to others.

    Raises:
        OSError: it cannot be made, or somebody else made it.
    """
    given = os.environ.get(ENVIRONMENT)
    user = os.getuid()
    root = Path(given) if given else Path(tempfile.gettempdir()) / f"{PREFIX}{user}"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if root.stat().st_uid != user:
        raise PermissionError(f"{root} belongs to somebody else; set {ENVIRONMENT} to another folder")
    return root


def new_run(root: Path) -> RunState:
    """A fresh folder under *root* for this process."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)  # the run before this one may have taken it away
    runner = ProcessId.of(os.getpid())
    assert runner is not None, "this process runs"
    state = RunState(Path(tempfile.mkdtemp(prefix="run-", dir=root)), runner)
    state.save()
    return state


def runs(root: Path) -> Iterator[RunState]:
    """All runs under *root*, those that were killed among them; the latest last."""
    folders = [folder for folder in root.glob("run-*") if (folder / STATE_FILE).is_file()]
    for folder in sorted(folders, key=lambda folder: folder.stat().st_mtime):
        with suppress(ValueError, OSError):
            yield RunState.load(folder)


def running(root: Path) -> list[RunState]:
    """The runs that are on; the latest last."""
    return [run for run in runs(root) if run.runner.alive()]


def clean_up(root: Path) -> list[str]:
    """End and remove what killed runs left under *root*; what was done, in words."""
    done = []
    for run in list(runs(root)):
        if run.runner.alive():
            continue
        killed = [name for name, process in run.children.items() if process.kill()]
        run.remove()
        ended = f", ended {', '.join(killed)}" if killed else ""
        done.append(f"removed what a killed run of {run.scenario or 'a scenario'} left{ended}")
    return done
