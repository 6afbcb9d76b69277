"""Ports of this machine that nobody uses: found by asking the kernel."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

from relaymesh.demo.plan import HOST


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
            tcp.bind((HOST, 0))
            port = tcp.getsockname()[1]
            try:
                udp.bind((HOST, port))
            except OSError:
                continue
            found.append(port)
    return iter(found)
