"""The emulated network itself: namespaces, their devices, and the process between them.

In: an :class:`~relaymesh.netsim.emulate.plan.EmulationPlan`. Out: namespaces to
start processes in, and a way to change links and to ask what passed. It is made
before any task runs, and closed after the last.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from relaymesh.netsim.emulate.cleanup import ProcessId, RunState
from relaymesh.netsim.emulate.emulator import Setup, WireSpec, receive, send
from relaymesh.netsim.emulate.namespaces import NetworkNamespace
from relaymesh.netsim.emulate.netem_world import NetemWorld
from relaymesh.netsim.emulate.plan import PREFIX_BITS, EmulationPlan, Host
from relaymesh.netsim.emulate.processes import last_words
from relaymesh.netsim.emulate.tun import open_tun
from relaymesh.netsim.link_model import LinkConditions

EMULATOR = "emulator"
# Not `-m`: the module would be called __main__, and so would be the classes of what it sends us.
PROGRAM = "from relaymesh.netsim.emulate.emulator import main; main()"
ANSWER_WITHIN_S = 10.0
END_WITHIN_S = 3.0


class EmulatorDied(Exception):
    """The emulator ended, or hangs; without it nothing passes."""


class Network(Protocol):
    """What a world is made from; an :class:`EmulationPlan` is one."""

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The namespaces, with their addresses."""
        ...

    def wires(self) -> list[WireSpec]:
        """Every direction between two addresses that may speak to each other."""
        ...


class World:
    """Namespaces by host name, and the emulator that joins them."""

    backend = "tun"

    def __init__(self, plan: Network, state: RunState) -> None:
        self.namespaces: dict[str, NetworkNamespace] = {}
        self.fifo = False  # whether the emulator runs before everything else
        self.state = state  # of the run, for others to read
        self._process: subprocess.Popen[bytes] | None = None
        self._control, theirs = socket.socketpair()
        devices: dict[int, list[str]] = {}
        try:
            for host in plan.hosts:
                namespace = self.namespaces[host.name] = NetworkNamespace.create(host.name)
                tun = open_tun(namespace, host.addresses, prefix_bits=PREFIX_BITS)
                devices[tun] = list(host.addresses)
            state.namespaces = {name: space.descriptor for name, space in self.namespaces.items()}
            state.save()
            self._start(Setup(devices, plan.wires()), theirs)
        except BaseException:
            self.close()
            raise
        finally:
            theirs.close()
            for descriptor in devices:
                os.close(descriptor)

    def _start(self, setup: Setup, theirs: socket.socket) -> None:
        log = self.state.folder / f"{EMULATOR}.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(theirs.fileno(), *setup.devices),
                start_new_session=True,
            )
        identity = ProcessId.of(self._process.pid)
        if identity is not None:
            self.state.children[EMULATOR] = identity
            self.state.save()
        theirs.close()
        self._control.settimeout(ANSWER_WITHIN_S)
        self.fifo = self._exchange(setup)["fifo"]

    def _exchange(self, message: Any) -> Any:
        """Ask the emulator. It answers within a millisecond, so nobody needs to await it."""
        try:
            send(self._control, message)
            answer = receive(self._control)
        except OSError as error:
            raise EmulatorDied(f"the emulator does not answer: {error}") from None
        if answer is None:
            raise EmulatorDied(f"the emulator ended:{last_words(self.state.folder / f'{EMULATOR}.log')}")
        return answer

    def stats(self) -> dict[str, Any]:
        """See :meth:`Emulator.stats <relaymesh.netsim.emulate.emulator.Emulator.stats>`."""
        answer: dict[str, Any] = self._exchange(("stats",))
        return answer

    def begin_measuring(self) -> None:
        """Lateness counts from now on."""
        self._exchange(("measure",))

    def set_link(self, source: str, target: str, conditions: LinkConditions) -> None:
        """From now on the link between two addresses is like this."""
        self._exchange(("set", source, target, conditions))

    def tell_children(self) -> None:
        """What the emulator is to end if this process is killed."""
        children = [process for name, process in self.state.children.items() if name != EMULATOR]
        self._exchange(("children", children))

    def close(self) -> None:
        """End the emulator and let go of the namespaces."""
        process, self._process = self._process, None
        if process is not None:
            try:
                send(self._control, ("stop",))
            except OSError:
                pass
            try:
                process.wait(END_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
        self._control.close()
        for namespace in self.namespaces.values():
            namespace.close()


@contextmanager
def open_world(plan: EmulationPlan, state: RunState, backend: str) -> Iterator[World | NetemWorld]:
    """A world of *backend* for as long as the block lasts.

    Raises:
        NotAllowed: the kernel does not let us.
        ToolFailed: ``ip`` or ``tc`` is missing or refused.
    """
    world = NetemWorld(plan, state) if backend == NetemWorld.backend else World(plan, state)
    try:
        yield world
    finally:
        world.close()
