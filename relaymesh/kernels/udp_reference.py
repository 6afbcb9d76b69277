"""Batches of datagrams on a non-blocking UDP socket: the reference kernel, one call for each datagram.

In: a socket by its file descriptor, which stays the caller's; out: datagrams with
their addresses. The one kernel that touches a socket. It never waits: what the
socket does not take at once is a failure, which UDP allows.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

RECEIVE_BYTES = 2048  # of a datagram; a longer one is cut, so that it shows as oversized, not as valid


def receive(fileno: int, limit: int) -> list[tuple[bytes, tuple[str, int]]]:
    """What the socket holds: (data, (host, port)) of at most *limit* datagrams, or none.

    Where trains of datagrams are joined (:func:`enable_gro`), the last train that is read comes whole,
    up to 63 datagrams beyond *limit*.

    Raises:
        OSError: *fileno* is no socket.
    """
    batch = []
    sock = socket.socket(fileno=fileno)
    try:
        for _ in range(limit):
            try:
                data, address = sock.recvfrom(RECEIVE_BYTES)
            except BlockingIOError:
                break
            except OSError:
                continue  # an ICMP error of an earlier send; it concerns no datagram here
            batch.append((data, address[:2]))
    finally:
        sock.detach()  # the caller's: it would be closed with this object
    return batch


def send(fileno: int, datagrams: Sequence[tuple[bytes, tuple[str, int]]]) -> int:
    """Send *datagrams* in order, each (data, (host, port)); return how many could not be sent."""
    try:
        sock = socket.socket(fileno=fileno)
    except (OSError, ValueError):  # a socket that is closed takes nothing
        return len(datagrams)
    failures = 0
    try:
        sendto = sock.sendto
        for data, address in datagrams:
            try:
                sendto(data, address)
            except (OSError, TypeError, ValueError, OverflowError):  # beside OSError: no address at all
                failures += 1
    finally:
        sock.detach()
    return failures


def enable_gro(fileno: int) -> bool:
    """Let the socket join trains of datagrams where the kernel can; return whether it does. Not here."""
    return False
