"""Trio's sockets and names on the emulated network: what unmodified programs open and look up.

In: a host (the factory's own, or that of the task that asks) and a name. Out: stream sockets and addresses.
"""

from __future__ import annotations

import errno
import socket as names
from collections.abc import Mapping
from typing import Any

import trio

from relaymesh.netsim.hosts import current_host, os_error
from relaymesh.netsim.streams import StreamSocket, Wire


class SimSocketFactory(trio.abc.SocketFactory):
    """Makes trio's sockets on the emulated network."""

    def __init__(self, network: Wire, host: str | None) -> None:
        self._network = network
        self._host = host

    def socket(self, family: int = names.AF_INET, type: int = names.SOCK_STREAM, proto: int = 0) -> Any:  # noqa: A002
        """A new socket on the factory's host, or else the task's.

        Raises:
            RuntimeError: the task stands on no host.
            OSError: a family the host has no address of, or not a stream.
        """
        host = self._host or current_host()
        if family != (names.AF_INET6 if ":" in host else names.AF_INET):
            raise os_error(errno.EAFNOSUPPORT)
        if type != names.SOCK_STREAM:
            raise os_error(errno.EPROTONOSUPPORT)  # datagrams have udp_port()
        return StreamSocket(self._network, host)


class Resolver(trio.abc.HostnameResolver):
    """The names of the emulated network. Literal addresses never come here."""

    def __init__(self, known: Mapping[str, str]) -> None:
        self._known = known

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        await trio.lowlevel.checkpoint()
        name = host.decode() if isinstance(host, bytes) else host or ""
        address = current_host() if name == "localhost" else self._known.get(name)
        if address is None:
            raise names.gaierror(names.EAI_NONAME, f"no such name in the emulated network: {name}")
        return names.getaddrinfo(address, port, family, type, proto, names.AI_NUMERICHOST)

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        await trio.lowlevel.checkpoint()
        return str(sockaddr[0]), str(sockaddr[1])
