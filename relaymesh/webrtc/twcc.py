"""Transport-wide congestion control feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3).

The receiving half: the transport-wide sequence numbers of arriving packets go
in with their times, feedback packets for the sender come out. And a decoder of
what a peer feeds back to us. Nothing here estimates a bitrate.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from relaymesh.webrtc.errors import RtpError
from relaymesh.webrtc.rtcp import build_transport_feedback

MAX_STATUSES = 400  # packets per feedback built here: at most 952 bytes of body
REORDER_WINDOW = 256  # packets; older ones are forgotten, or ignored when they come
MAX_PARSED = 8192  # packets per feedback taken: one run-length chunk's worth and one

TICKS_PER_SECOND = 4000  # arrival times are counted in 250 µs
REFERENCE_TICKS = 256  # the reference time counts in 64 ms

_ABSENT, _SMALL, _LARGE = 0, 1, 2  # packet status symbols (§3.1.1): not received, delta of 8 bits, of 16 bits

# base sequence number, packet status count, reference time (24) and feedback packet count (8)
_HEADER = Struct("!HHI")
_U16 = Struct("!H")
_S16 = Struct("!h")


class TwccReceiver:
    """Remembers arrivals, and reports each range of sequence numbers once.

    A packet that comes after its range was reported makes the next feedback
    begin with it, so that the sender learns that it was not lost.
    """

    __slots__ = ("_arrivals", "_base", "_count", "_highest")

    def __init__(self) -> None:
        self._arrivals: dict[int, int] = {}  # extended sequence number → ticks; not below the window
        self._base = 0  # the first number of the next feedback
        self._highest: int | None = None
        self._count = 0  # feedback packets, 8 bits

    def record(self, sequence: int, now: float) -> None:
        """The packet with this number (modulo 2¹⁶) arrived at *now*, in seconds; a duplicate is ignored."""
        highest = self._highest
        if highest is None:
            self._highest = self._base = extended = sequence & 0xFFFF
        else:
            extended = highest + ((sequence - highest + 0x8000) & 0xFFFF) - 0x8000
            if extended > highest:
                self._highest = extended
            elif extended <= highest - REORDER_WINDOW or extended in self._arrivals:
                return
            if extended < self._base:
                self._base = extended
        self._arrivals[extended] = int(now * TICKS_PER_SECOND)
        if len(self._arrivals) > 2 * (REORDER_WINDOW + MAX_STATUSES):
            self._forget()

    def _forget(self) -> None:
        """Keep what may still be reported; without feedback being asked for, that is the window."""
        assert self._highest is not None
        oldest = self._highest - REORDER_WINDOW + 1
        self._arrivals = {n: at for n, at in self._arrivals.items() if n >= oldest}
        self._base = max(self._base, oldest)

    def feedback(self, sender_ssrc: int, media_ssrc: int) -> bytes | None:
        """The RTCP packet about what came since the last one; ``None`` when nothing did.

        It covers at most ``MAX_STATUSES`` packets; what is left over goes into the next.
        """
        pending = sorted(n for n in self._arrivals if n >= self._base)
        if not pending:
            return None
        base = self._base
        if pending[0] - base >= MAX_STATUSES:
            base = pending[0]  # a jump, not loss: the range between was never sent
        reference = self._arrivals[pending[0]] // REFERENCE_TICKS
        symbols, deltas = self._statuses(base, reference, pending)
        body = _HEADER.pack(base & 0xFFFF, len(symbols), (reference & 0xFFFFFF) << 8 | self._count)
        self._count = (self._count + 1) & 0xFF
        self._base = base + len(symbols)
        assert self._highest is not None
        oldest = min(self._base, self._highest - REORDER_WINDOW + 1)
        for number in [n for n in self._arrivals if n < oldest]:
            del self._arrivals[number]
        return build_transport_feedback(sender_ssrc, media_ssrc, body + _pack_chunks(symbols) + deltas)

    def _statuses(self, base: int, reference: int, pending: list[int]) -> tuple[list[int], bytes]:
        """The symbols from *base* to the last of *pending* that fits, and the deltas between arrivals."""
        symbols: list[int] = []
        deltas = bytearray()
        at = reference * REFERENCE_TICKS
        for number in pending:
            delta = self._arrivals[number] - at
            absent = number - base - len(symbols)
            if len(symbols) + absent >= MAX_STATUSES or not -0x8000 <= delta <= 0x7FFF:
                break  # the first always fits: its delta is less than one reference step
            at += delta
            symbols += [_ABSENT] * absent
            if 0 <= delta <= 0xFF:
                symbols.append(_SMALL)
                deltas.append(delta)
            else:
                symbols.append(_LARGE)
                deltas += _S16.pack(delta)
        return symbols, bytes(deltas)


def _pack_chunks(symbols: list[int]) -> bytes:
    """*symbols* as packet status chunks (§3.1.2, §3.1.3): runs where they are shorter, else vectors."""
    chunks = bytearray()
    at, size = 0, len(symbols)
    while at < size:
        symbol = symbols[at]
        run = 1
        while at + run < size and symbols[at + run] == symbol:
            run += 1
        part = symbols[at : at + 14]
        if run >= 14 or (run >= 7 and _LARGE in part) or at + run == size:
            chunks += _U16.pack(symbol << 13 | run)
            at += run
        elif _LARGE in part:
            part = part[:7]
            chunks += _U16.pack(0xC000 | sum(s << 12 - 2 * i for i, s in enumerate(part)))
            at += len(part)
        else:
            chunks += _U16.pack(0x8000 | sum(s << 13 - i for i, s in enumerate(part)))
            at += len(part)
    return bytes(chunks)


@dataclass(frozen=True, slots=True)
class ArrivalReport:
    """A decoded feedback packet."""

    base_sequence: int  # 16 bits
    reference_time: int  # in 64 ms of the peer's clock, signed 24 bits
    feedback_count: int  # 8 bits, one more for each feedback: a gap is a lost one
    arrivals: list[tuple[int, int | None]]  # (16-bit number, µs of the peer's clock or None: not arrived)


def parse_transport_feedback(body: bytes) -> ArrivalReport:
    """What a peer reports, from ``rtcp.TransportFeedback.body``.

    Raises:
        RtpError: truncated, a reserved symbol, or about more than ``MAX_PARSED`` packets.
    """
    if len(body) < _HEADER.size:
        raise RtpError("truncated transport feedback")
    base, count, reference_and_count = _HEADER.unpack_from(body)
    if count > MAX_PARSED:
        raise RtpError("transport feedback about too many packets")
    reference = reference_and_count >> 8
    if reference & 0x800000:
        reference -= 0x1000000
    symbols, at = _parse_symbols(body, count)
    ticks = reference * REFERENCE_TICKS
    arrivals: list[tuple[int, int | None]] = []
    for number, symbol in enumerate(symbols, base):
        if symbol == _ABSENT:
            arrivals.append((number & 0xFFFF, None))
            continue
        if at + symbol > len(body):
            raise RtpError("truncated receive deltas")
        ticks += body[at] if symbol == _SMALL else _S16.unpack_from(body, at)[0]
        at += symbol  # a symbol is also the number of bytes of its delta
        arrivals.append((number & 0xFFFF, ticks * 250))
    return ArrivalReport(base, reference, reference_and_count & 0xFF, arrivals)


def _parse_symbols(body: bytes, count: int) -> tuple[list[int], int]:
    """The *count* symbols of the chunks behind the header, and where the deltas begin."""
    symbols: list[int] = []
    at = _HEADER.size
    while len(symbols) < count:
        if at + 2 > len(body):
            raise RtpError("truncated packet status chunks")
        chunk = _U16.unpack_from(body, at)[0]
        at += 2
        if chunk < 0x8000:
            symbols += [chunk >> 13] * min(chunk & 0x1FFF, count - len(symbols))
        elif chunk < 0xC000:
            symbols += [chunk >> shift & 1 for shift in range(13, -1, -1)]
        else:
            symbols += [chunk >> shift & 3 for shift in range(12, -1, -2)]
    del symbols[count:]
    if 3 in symbols:
        raise RtpError("a reserved packet status symbol")
    return symbols, at
