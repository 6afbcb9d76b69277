"""Reads and sends UDP datagrams in batches, by the kernel that serves: see :mod:`.udp_reference`."""

from typing import TYPE_CHECKING

from .choice import NATIVE
from .udp_reference import RECEIVE_BYTES

if TYPE_CHECKING or NATIVE is None:
    from .udp_reference import enable_gro, receive, send
else:
    enable_gro, receive, send = NATIVE.udp.enable_gro, NATIVE.udp.receive, NATIVE.udp.send

__all__ = ["RECEIVE_BYTES", "enable_gro", "receive", "send"]
