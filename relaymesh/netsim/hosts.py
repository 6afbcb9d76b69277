"""Where a task stands on the emulated network, and what addresses mean there.

A host is a literal IP address. The context variable travels with every task
that is started, so whole programs stand where their first task was put.
"""

from __future__ import annotations

import errno
import os
from contextvars import ContextVar

HOST: ContextVar[str] = ContextVar("emulated_host")


def current_host() -> str:
    """The host the calling task stands on.

    Raises:
        RuntimeError: it stands on none.
    """
    host = HOST.get(None)
    if host is None:
        raise RuntimeError("this task stands on no emulated host; start it inside network.on_host(...)")
    return host


def own_address(host: str, given: str) -> str:
    """*given* as *host* means it: wildcards and loopback addresses are the host itself."""
    if given in ("", "0.0.0.0", "::", "::1") or given.startswith("127."):
        return host
    return given


def ip_header_bytes(host: str) -> int:
    """The IP header of a packet from or to *host*, in bytes."""
    return 40 if ":" in host else 20


def os_error(code: int) -> OSError:
    """The operating system's error ``errno.…``; Python picks the subclass."""
    assert code in errno.errorcode, "an errno"
    return OSError(code, os.strerror(code))
