"""Namespaces and devices of the real kernel."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys

import pytest

from relaymesh.netsim.emulate.namespaces import TUN_DEVICE, NetworkNamespace
from relaymesh.netsim.emulate.tun import DEVICE, open_tun
from tests.netsim.emulate.kernel import needs_kernel

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="in this process it takes root; see the next test")

# The same again for who is not root: a process of its own, because a user namespace cannot be left.
UNPRIVILEGED = """
import os, socket
os.environ.pop("HOME", None)
from relaymesh.netsim.emulate.namespaces import *
from relaymesh.netsim.emulate.tun import open_tun
assert enter_user_namespace()
here = NetworkNamespace.create("here")
tun = open_tun(here, ["10.77.0.1"], prefix_bits=16)
with here.inside():
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"hello", ("10.77.0.2", 9))
import select
select.select([tun], [], [], 5)
while b"hello" not in os.read(tun, 2048): pass
print("arrived")
"""
# PR_SET_DUMPABLE, as after an exec: without it, our own files in /proc are root's.
DROP = """
import ctypes, os
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
ctypes.CDLL(None).prctl(4, 1)
"""


def interfaces() -> list[str]:
    return [name for _, name in socket.if_nameindex()]


@needs_kernel
@needs_root
def test_a_namespace_sees_nothing_of_this_one_and_is_left_again() -> None:
    before = interfaces()
    space = NetworkNamespace.create("one")
    try:
        with space.inside():
            assert interfaces() == ["lo"]
        assert interfaces() == before
        with pytest.raises(ZeroDivisionError), space.inside():
            raise ZeroDivisionError
        assert interfaces() == before
    finally:
        space.close()


@needs_kernel
@needs_root
def test_packets_come_out_of_the_device_and_go_into_it() -> None:
    space = NetworkNamespace.create("one")
    tun = open_tun(space, ["10.77.0.1", "10.77.4.1"], prefix_bits=16)
    try:
        with space.inside():
            assert DEVICE in interfaces()
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sender, receiver:
            sender.bind(("10.77.4.1", 0))
            receiver.bind(("10.77.0.1", 0))
            receiver.settimeout(5)
            sender.sendto(b"payload", ("10.77.0.2", 9))
            packet = b""
            while not packet.endswith(b"payload"):  # the kernel speaks IPv6 there, too
                assert select.select([tun], [], [], 5)[0]
                packet = os.read(tun, 2048)
            assert packet[12:20] == socket.inet_aton("10.77.4.1") + socket.inet_aton("10.77.0.2")
            answer = bytearray(packet)
            answer[12:16], answer[16:20] = packet[16:20], socket.inet_aton("10.77.0.1")
            answer[22:24] = receiver.getsockname()[1].to_bytes(2, "big")
            answer[26:28] = b"\0\0"  # no UDP checksum
            answer[10:12] = b"\0\0"
            total = sum(int.from_bytes(answer[at : at + 2], "big") for at in range(0, 20, 2))
            total = (total & 0xFFFF) + (total >> 16)
            answer[10:12] = (~((total & 0xFFFF) + (total >> 16)) & 0xFFFF).to_bytes(2, "big")
            os.write(tun, answer)
            assert receiver.recvfrom(100)[0] == b"payload"
    finally:
        os.close(tun)
        space.close()


@needs_kernel
def test_it_works_without_rights_where_user_namespaces_are_allowed() -> None:
    command = [sys.executable, "-c", UNPRIVILEGED]
    if os.geteuid() == 0:
        # This interpreter may lie where nobody else can read it: the rights are dropped by itself.
        command[2] = f"import socket, select\nimport relaymesh.netsim.emulate.tun\n{DROP}{UNPRIVILEGED}"
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if "not allowed here" in done.stderr:
        pytest.skip("unprivileged user namespaces are not allowed here")
    if TUN_DEVICE.stat().st_mode & 0o006 != 0o006:
        # Most distributions let everybody open it: what a device gives is bound to its namespace.
        assert f"{TUN_DEVICE} cannot be opened" in done.stderr
        pytest.skip(f"this machine gives {TUN_DEVICE} to its owner only")
    assert done.stdout == "arrived\n", done.stderr
