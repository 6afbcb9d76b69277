"""Network namespaces without names: made by this process, held by a descriptor, gone with it.

In: the wish for a namespace, or a process that holds one. Out: a
:class:`NetworkNamespace` in which sockets can be opened and processes started.
Nothing is mounted and nothing has a name in the system: when the last process
and descriptor are gone, so is the namespace, however they ended.

Who is not root enters a user namespace first (:func:`enter_user_namespace`), in
which it is root over the network namespaces made from then on, and over nothing
else. Some systems forbid that; :func:`why_not` says so in one line.

It goes through the C library by ctypes, because Python has ``os.unshare`` and
``os.setns`` only from 3.12 on. A network namespace belongs to a thread: whoever
enters one does not await until it is left.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# linux/sched.h
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWNET = 0x4000_0000

TUN_DEVICE = Path("/dev/net/tun")
_TRY_SECONDS = 20.0


class NotAllowed(Exception):
    """The kernel, or who set it up, does not let us; the text is one line for people."""


def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(function: str, *arguments: int) -> None:
    """Call *function* of the C library. Raises ``OSError``."""
    if getattr(_c_library(), function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def enter_user_namespace() -> bool:
    """Become root over the network namespaces made from now on; whether that took a user namespace.

    Who is root already needs none.

    The process must have one thread only. It loses sight of the networks it was in.

    Raises:
        NotAllowed: user namespaces are not allowed here.
    """
    if os.geteuid() == 0:
        return False
    user, group = os.geteuid(), os.getegid()
    try:
        # The network namespace we are in belongs to the outer user namespace: once inside, we could leave
        # it, but never come back. So we get another one to come back to.
        _call("unshare", CLONE_NEWUSER | CLONE_NEWNET)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    except OSError as error:
        raise NotAllowed(f"unprivileged user namespaces are not allowed here ({error.strerror})") from None
    return True


class NetworkNamespace:
    """One network namespace; ``close`` lets go of it."""

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self.descriptor = descriptor

    @classmethod
    def create(cls, name: str) -> NetworkNamespace:
        """A fresh one; *name* is for people only.

        Raises:
            NotAllowed: this process may not make one.
        """
        with _coming_back():
            try:
                _call("unshare", CLONE_NEWNET)
            except OSError as error:
                raise NotAllowed(f"network namespaces are not allowed here ({error.strerror})") from None
            return cls(name, _current())

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets opened and processes started in the block are in this namespace. Do not await in it."""
        with _coming_back():
            _call("setns", self.descriptor, CLONE_NEWNET)
            yield

    def close(self) -> None:
        """Let go of it; it is gone when no process is in it any more."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _current() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def _coming_back() -> Iterator[None]:
    home = _current()
    try:
        yield
    finally:
        try:
            _call("setns", home, CLONE_NEWNET)
        finally:
            os.close(home)


def enter_for_good(process: int, descriptor: int, *, user_namespace: bool) -> None:
    """Move this process into a network namespace that *process* holds as *descriptor*; there is no way back.

    *user_namespace*: enter that of *process* first, because it is another one. This process must have one
    thread then.

    Raises:
        OSError: it is gone, or is not ours.
    """
    wanted = [(f"/proc/{process}/fd/{descriptor}", CLONE_NEWNET)]
    if user_namespace:
        wanted.insert(0, (f"/proc/{process}/ns/user", CLONE_NEWUSER))
    opened = [(os.open(path, os.O_RDONLY | os.O_CLOEXEC), flag) for path, flag in wanted]
    for held, flag in opened:
        _call("setns", held, flag)
        os.close(held)


_TRY = """
from relaymesh.netsim.emulate.namespaces import NetworkNamespace, NotAllowed, enter_user_namespace
from relaymesh.netsim.emulate.tun import open_tun
try:
    enter_user_namespace()
    open_tun(NetworkNamespace.create("try"), ["192.0.2.1"], prefix_bits=24)
except NotAllowed as error:
    print(error)
"""


def why_not() -> str | None:
    """Why emulation cannot run here, in one line; ``None`` when it can. Found by trying, in a child."""
    if sys.platform != "linux":
        return "network namespaces are a thing of Linux"
    try:
        tried = subprocess.run(
            [sys.executable, "-c", _TRY], capture_output=True, text=True, timeout=_TRY_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"making a network namespace took more than {_TRY_SECONDS:.0f} s"
    if tried.returncode != 0:
        last = tried.stderr.strip().splitlines()[-1:] or [f"exit code {tried.returncode}"]
        return f"making a network namespace failed: {last[0]}"
    return tried.stdout.strip() or None
