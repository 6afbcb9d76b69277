"""PROBE and ECHO, which two neighbours exchange all the time.

In: frame objects; out: bytes, and back. :mod:`relaymesh.protocol.probe` measures with them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.frames.kinds import ECHO, FRAME, PROBE

_PROBE = struct.Struct("!IQ")
_ECHO = struct.Struct("!IQII")


@dataclass(frozen=True, slots=True)
class Probe:
    """Asks the neighbour for an :class:`Echo`."""

    sequence: int  # u32, one more with each probe of this sender on this link
    sent_at_us: int  # u64, microseconds of the sender's clock; the peer only copies it
    deaf: bool = False  # the sender hears nothing from the peer any more


@dataclass(frozen=True, slots=True)
class Echo:
    """Answers one :class:`Probe`."""

    sequence: int  # of the probe
    sent_at_us: int  # of the probe
    probes_received: int  # u32, probes the echoing side had received by then, this one included
    probe_highest: int  # u32, the highest probe sequence it had received by then


def encode_probe(probe: Probe) -> bytes:
    """The whole frame, with type and length."""
    flags = b"\x01" if probe.deaf else b""
    body = _PROBE.pack(probe.sequence, probe.sent_at_us) + flags
    return FRAME.pack(PROBE, len(body)) + body


def decode_probe(body: bytes) -> Probe:
    """The probe in *body*; bytes after its flags are ignored. Raises :class:`ProtocolError` (truncated)."""
    size = _PROBE.size
    if len(body) < size:
        raise ProtocolError("truncated", "probe")
    sequence, sent_at_us = _PROBE.unpack_from(body)
    return Probe(sequence, sent_at_us, len(body) > size and body[size] & 1 == 1)


def encode_echo(echo: Echo) -> bytes:
    """The whole frame, with type and length."""
    return FRAME.pack(ECHO, _ECHO.size) + _ECHO.pack(
        echo.sequence, echo.sent_at_us, echo.probes_received, echo.probe_highest
    )


def decode_echo(body: bytes) -> Echo:
    """The echo in *body*; bytes after it are ignored. Raises :class:`ProtocolError` (truncated)."""
    if len(body) < _ECHO.size:
        raise ProtocolError("truncated", "echo")
    return Echo(*_ECHO.unpack_from(body))
