"""Protects and opens SRTP and SRTCP, by the kernel that serves: see :mod:`.srtp_reference`."""

from typing import TYPE_CHECKING

from .choice import NATIVE

if TYPE_CHECKING or NATIVE is None:
    from .srtp_reference import SrtpFailure, SrtpReceiver, SrtpSender
else:
    SrtpFailure = NATIVE.srtp.SrtpFailure
    SrtpReceiver, SrtpSender = NATIVE.srtp.SrtpReceiver, NATIVE.srtp.SrtpSender

__all__ = ["SrtpFailure", "SrtpReceiver", "SrtpSender"]
