"""Ports of this machine's loopback that nobody uses: found by asking the kernel."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

LOOPBACK = "127.0.0.1"


def free_ports(count: int) -> Iterator[int]:
    """*count* different ports, each free for both TCP and UDP just now.

    Nothing keeps another program from taking one before it is used; the kernel hands
    out fresh ports in turn, so that this is unlikely.
    """
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            tcp = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            udp = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            tcp.bind((LOOPBACK, 0))
            port = tcp.getsockname()[1]
            try:
                udp.bind((LOOPBACK, port))
            except OSError:
                continue
            found.append(port)
    return iter(found)
