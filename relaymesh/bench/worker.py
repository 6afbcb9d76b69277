"""A helper process of a benchmark that does as it is asked: calls in, results out, one at a time.

In: the class of a servant, of a module, so that another process finds it, and its arguments. Out: a
:class:`Worker`, whose :meth:`~Worker.ask` calls the servant's methods there. The servant has a turn between
calls, for sockets that must not wait. The worker ends with its block, and with this process.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, Protocol

from relaymesh.bench.packet_mesh import BenchFailed

STOPPING_WITHIN_S = 3.0
LOOK_UP_S = 0.1  # how often a servant that failed looks whether it is still wanted


class Servant(Protocol):
    """What lives in the other process."""

    def turn(self) -> None:
        """Do what is due, wait at most some tens of milliseconds, return."""

    def close(self) -> None:
        """Let go of everything."""


class Worker:
    """The other process, from here."""

    def __init__(self, name: str, make: type[Servant], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would share sockets and locks
        self.name = name
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, make, arguments, os.getpid()), name=name, daemon=True
        )
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self._process.pid is not None, "it was started"
        return self._process.pid

    def ask(self, method: str, *arguments: Any, within: float = 60.0) -> Any:
        """Call *method* of the servant; its result, within so many seconds.

        Raises:
            BenchFailed: it failed there, or takes too long, or the process is gone.
        """
        self.tell(method, *arguments)
        return self.answer(within)

    def tell(self, method: str, *arguments: Any) -> None:
        """Call *method* without waiting; :meth:`answer` has the result. Raises :class:`BenchFailed`."""
        try:
            self._connection.send((method, arguments))
        except OSError:
            raise BenchFailed(f"{self.name} is gone") from None

    def answer(self, within: float = 60.0) -> Any:
        """The result of the call told before. Raises as :meth:`ask`."""
        try:
            if not self._connection.poll(within):
                raise BenchFailed(f"{self.name} did not answer within {within:g} s")
            done, value = self._connection.recv()
        except (EOFError, OSError):
            raise BenchFailed(f"{self.name} is gone") from None
        if not done:
            raise BenchFailed(f"{self.name}: {value}")
        return value

    def stop(self) -> None:
        """End it."""
        self._connection.close()  # it reads the end of it, and closes its own
        self._process.join(STOPPING_WITHIN_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@contextmanager
def working(name: str, make: type[Servant], *arguments: Any) -> Iterator[Worker]:
    """A worker that ends with the block."""
    worker = Worker(name, make, *arguments)
    try:
        yield worker
    finally:
        worker.stop()


def _serve(connection: Connection, make: type[Servant], arguments: tuple[Any, ...], parent: int) -> None:
    servant = make(*arguments)
    failed = ""  # in a turn: told to whoever asks next
    try:
        while os.getppid() == parent:
            if not connection.poll(LOOK_UP_S if failed else 0):
                if not failed:
                    failed = _take_turn(servant)
                continue
            method, given = connection.recv()
            try:
                answer = (False, failed) if failed else (True, getattr(servant, method)(*given))
            except BenchFailed as error:
                answer = False, str(error)
            except Exception:
                answer = False, traceback.format_exc()
            connection.send(answer)
    except (EOFError, OSError, KeyboardInterrupt):
        pass  # nobody is there any more, or Ctrl-C, which the parent handles
    finally:
        servant.close()


def _take_turn(servant: Servant) -> str:
    """What went wrong; empty: nothing."""
    try:
        servant.turn()
    except BenchFailed as error:
        return str(error)
    except Exception:
        return traceback.format_exc()
    return ""
