"""The demo's processes: start them, keep their last words, notice the first that ends, stop them all.

In: a :class:`Command`. Out: a running child whose lines can be read. All children are ended when the block
ends, however it ends: SIGTERM, and SIGKILL for those that do not obey. Knows nothing of what they do.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from relaymesh.demo.plan import RELAYMESH, Command

LAST_WORDS = 25  # lines
GRACE_S = 3.0  # from SIGTERM to SIGKILL
MAX_LINE_BYTES = 1 << 16

Listener = Callable[[str], None]


class ChildDied(Exception):
    """A child ended before it was stopped. The text says which, how, and its last words."""


class Child:
    """One running process."""

    def __init__(self, command: Command, process: trio.Process, log: Path) -> None:
        self.command = command
        self.process = process
        self.log = log
        self.last_words: deque[str] = deque(maxlen=LAST_WORDS)
        self.stopping = False

    @property
    def name(self) -> str:
        return self.command.name

    def epitaph(self) -> str:
        """Exit code or signal, and the last lines of output."""
        code = self.process.returncode
        how = (
            f"was killed by {signal.Signals(-code).name}"
            if code and code < 0
            else f"ended with exit code {code}"
        )
        words = "".join(f"\n  {line}" for line in self.last_words) or "\n  (it said nothing)"
        return f"{self.name} {how}. Its last words:{words}"


class Family:
    """All children of the demo, in the order of their start."""

    def __init__(self, nursery: trio.Nursery, folder: Path, program: tuple[str, ...]) -> None:
        self._nursery = nursery
        self._folder = folder
        self._program = program
        self.children: list[Child] = []

    async def start(self, command: Command, listener: Listener | None = None) -> Child:
        """Start *command*. Its standard output goes to *listener*, line by line, everything else to its log.

        Raises:
            OSError: it cannot be started.
        """
        log = self._folder / f"{command.name}.log"
        process = await trio.lowlevel.open_process(
            [*self._program, *command.arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | command.environment,
            start_new_session=True,  # Ctrl-C in the terminal is ours to pass on, in order
        )
        child = Child(command, process, log)
        self.children.append(child)
        assert process.stdout is not None, "it is a pipe"
        assert process.stderr is not None, "it is a pipe"
        self._nursery.start_soon(self._read, child, process.stdout, listener)
        self._nursery.start_soon(self._read, child, process.stderr, None)
        self._nursery.start_soon(self._watch, child)
        return child

    async def _read(self, child: Child, stream: trio.abc.ReceiveStream, listener: Listener | None) -> None:
        with child.log.open("a", encoding="utf-8") as log:
            async for line in _lines(stream):
                log.write(line + "\n")
                log.flush()
                if listener is not None:
                    listener(line)
                else:
                    child.last_words.append(line)

    async def _watch(self, child: Child) -> None:
        await child.process.wait()
        if not child.stopping:
            await trio.sleep(0.2)  # its last words are still in the pipe
            raise ChildDied(child.epitaph())

    async def stop(self) -> None:
        """End all children, stage by stage, so that participants can still take their leave of a node."""
        for child in self.children:
            child.stopping = True
        for stage in sorted({child.command.stage for child in self.children}, reverse=True):
            await _stop([child.process for child in self.children if child.command.stage == stage])


async def _stop(processes: list[trio.Process]) -> None:
    """SIGTERM to all, and SIGKILL to those that do not obey; returns when none is left."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    with trio.move_on_after(GRACE_S):
        for process in processes:
            await process.wait()
    for process in processes:
        if process.poll() is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def family(folder: Path, program: tuple[str, ...] = RELAYMESH) -> AsyncIterator[Family]:
    """Children that end with the block; *program* understands the commands, their logs go to *folder*.

    Raises:
        ChildDied: one ended by itself; the block is cancelled. (Inside an exception group of one.)
    """
    async with trio.open_nursery() as nursery:
        children = Family(nursery, folder, program)
        try:
            yield children
        finally:
            with trio.CancelScope(shield=True):
                await children.stop()
            nursery.cancel_scope.cancel()


async def _lines(stream: trio.abc.ReceiveStream) -> AsyncIterator[str]:
    rest = b""
    while True:
        chunk = await stream.receive_some(1 << 14)
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
        if not chunk or len(rest) > MAX_LINE_BYTES:
            if rest:
                yield rest.decode(errors="replace")
            rest = b""
        if not chunk:
            return
