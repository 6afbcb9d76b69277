"""TUN devices: the network card of a namespace, whose wire is a descriptor of ours.

In: a namespace and its addresses. Out: a descriptor that gives every IP packet
the namespace sends, and takes those it shall receive. The device and its
addresses are set up by system calls, so that no ``ip`` is needed. It goes away when the descriptor is closed.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Sequence
from ipaddress import IPv4Address

from relaymesh.netsim.emulate.namespaces import TUN_DEVICE, NetworkNamespace, NotAllowed

DEVICE = "rmtun0"
MTU = 1500
QUEUE_PACKETS = 5000  # a burst of half a second at 10,000 a second; the kernel's default drops it

# linux/if_tun.h, linux/sockios.h, linux/if.h
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_SIOCSIFADDR, _SIOCSIFNETMASK = 0x8916, 0x891C
_SIOCSIFMTU = 0x8922
_IFF_UP = 0x1
# linux/rtnetlink.h, linux/netlink.h, linux/if_link.h
_RTM_NEWLINK, _NLM_F_REQUEST, _NLM_F_ACK, _IFLA_TXQLEN = 16, 1, 4, 13
_ANSWER_WITHIN_S = 5.0
# struct ifreq: 16 bytes of name, then 24 bytes of whatever the call is about.
_FLAGS = struct.Struct("=16sh22x")
_NUMBER = struct.Struct("=16si20x")
_ADDRESS = struct.Struct("=16sH2x4s16x")  # a sockaddr_in


def open_tun(namespace: NetworkNamespace, addresses: Sequence[str], *, prefix_bits: int) -> int:
    """A device in *namespace* with *addresses* (IPv4), in a network of *prefix_bits*; its descriptor.

    The first address is the one its programs send from unless they choose. The
    loopback of the namespace is brought up as well. The descriptor does not block.

    Raises:
        NotAllowed: there are no TUN devices here, or not for us.
    """
    with namespace.inside():
        try:
            tun = os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise NotAllowed(f"{TUN_DEVICE} cannot be opened ({error.strerror})") from None
        try:
            fcntl.ioctl(tun, _TUNSETIFF, _FLAGS.pack(DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
            _set_up(addresses, prefix_bits)
        except OSError as error:
            os.close(tun)
            raise NotAllowed(f"a TUN device cannot be set up ({error.strerror})") from None
        except BaseException:
            os.close(tun)
            raise
    return tun


def _set_up(addresses: Sequence[str], prefix_bits: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as calls:
        _bring_up(calls, "lo")
        fcntl.ioctl(calls, _SIOCSIFMTU, _NUMBER.pack(DEVICE.encode(), MTU))
        for index, address in enumerate(addresses):
            # The first says by its mask that the whole network is this way, the others only add themselves.
            label = DEVICE if index == 0 else f"{DEVICE}:{index}"
            _set_address(calls, _SIOCSIFADDR, label, IPv4Address(address))
            mask = (0xFFFFFFFF << (32 - (prefix_bits if index == 0 else 32))) & 0xFFFFFFFF
            _set_address(calls, _SIOCSIFNETMASK, label, IPv4Address(mask))
        _set_queue(QUEUE_PACKETS)
        _bring_up(calls, DEVICE)


def _set_queue(packets: int) -> None:
    """By netlink: the ioctl for it asks for rights over the whole machine."""
    attribute = struct.pack("=HHI", 8, _IFLA_TXQLEN, packets)
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, socket.if_nametoindex(DEVICE), 0, 0) + attribute
    head = struct.pack("=IHHII", 16 + len(body), _RTM_NEWLINK, _NLM_F_REQUEST | _NLM_F_ACK, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC) as route:
        route.settimeout(_ANSWER_WITHIN_S)
        route.send(head + body)
        (error,) = struct.unpack_from("=i", route.recv(4096), 16)
    if error:
        raise OSError(-error, os.strerror(-error))


def _bring_up(calls: socket.socket, device: str) -> None:
    _, flags = _FLAGS.unpack(fcntl.ioctl(calls, _SIOCGIFFLAGS, _FLAGS.pack(device.encode(), 0)))
    fcntl.ioctl(calls, _SIOCSIFFLAGS, _FLAGS.pack(device.encode(), flags | _IFF_UP))


def _set_address(calls: socket.socket, call: int, label: str, address: IPv4Address) -> None:
    fcntl.ioctl(calls, call, _ADDRESS.pack(label.encode(), socket.AF_INET, address.packed))
