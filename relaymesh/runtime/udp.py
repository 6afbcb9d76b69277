"""One UDP port under trio, built for many small datagrams.

trio's own socket objects cost five to eight microseconds a call, mostly
checkpoints. Here one task, or a thread beside trio, waits until the raw socket is
readable and then drains a bounded batch without awaiting, so that a busy port neither
pays per packet nor starves the other tasks. Sending never waits: a full socket buffer
is a lost datagram, which UDP allows and the protocols above repair. The calls
themselves are :mod:`relaymesh.kernels.udp`'s.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Protocol

import trio

from relaymesh.kernels import udp
from relaymesh.kernels.fan_out import FanOut

Address = tuple[str, int]

BATCH = 64  # datagrams for one wake; more would delay timers and signalling
RECEIVE_BYTES = udp.RECEIVE_BYTES  # longer than any datagram we accept
BUFFER_BYTES = 4 << 20  # a keyframe burst to fifty subscribers is about 1 MB


class DatagramPort(Protocol):
    """Interface of a UDP port that a node needs; the emulated network offers the same."""

    address: Address

    async def receive(self) -> list[tuple[bytes, Address]]:
        """Wait for at least one datagram; return all that are there, at most a batch."""

    def send_batch(self, datagrams: Iterable[tuple[bytes, Address]]) -> None:
        """Send all now; what does not fit is dropped and counted."""

    def send_fan_out(self, fan_out: FanOut) -> None:
        """Send all that waits in it, as :meth:`send_batch` does."""

    def close(self) -> None:
        """Close the socket; :meth:`receive` then raises ``trio.ClosedResourceError``."""


class UdpPort:
    """A bound UDP socket with the face of :class:`DatagramPort`."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.address: Address = sock.getsockname()[:2]
        self.send_failures = 0

    @classmethod
    def open(cls, host: str, port: int) -> UdpPort:
        """Bind *host*:*port* (a literal address; port 0 picks a free one).

        Raises:
            OSError: the address cannot be bound.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            sock.setblocking(False)
            udp.enable_gro(sock.fileno())
            sock.bind((host, port))
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    def fileno(self) -> int:
        """The socket's descriptor, to wait for; it is not blocking."""
        return self._socket.fileno()

    def take(self, limit: int = BATCH) -> list[tuple[bytes, Address]]:
        """What is there now, at most *limit* and the rest of a train that was begun."""
        return udp.receive(self._socket.fileno(), limit)

    async def receive(self) -> list[tuple[bytes, Address]]:
        """Wait for datagrams; return what :meth:`take` does."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            if batch := self.take():
                return batch

    def send_batch(self, datagrams: Iterable[tuple[bytes, Address]]) -> None:
        batch = datagrams if isinstance(datagrams, list) else list(datagrams)
        self.send_failures += udp.send(self._socket.fileno(), batch)

    def send_fan_out(self, fan_out: FanOut) -> None:
        self.send_failures += fan_out.send(self._socket.fileno())

    def close(self) -> None:
        if trio.lowlevel.in_trio_run():  # else nobody can be waiting for it
            trio.lowlevel.notify_closing(self._socket)
        self._socket.close()
