"""What one socket of a packet benchmark received in one run, and the sum over all of them.

In: RTP packets, plain where they were opened, and when they came. Out: a :class:`Tally`. It knows no socket.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

from relaymesh.bench.packet_rows import read_stamp
from relaymesh.webrtc.errors import RtpError
from relaymesh.webrtc.rtp import parse_rtp


@dataclass(frozen=True, slots=True)
class Tally:
    """What came in one run, over all sockets."""

    arrived: int  # packets of the feed, over all players
    other: int  # further RTP packets: probes, retransmissions
    watched: int  # packets of the feed that were opened and looked into
    gaps: int  # of those: times that the next one did not follow the last, in number or in index
    refused: int  # of those: that could not be opened or read
    p50_ms: float  # from sending to arrival at the socket, of those
    p99_ms: float

    @property
    def verified(self) -> bool:
        """Whether some were opened, all could be read, and none was missing between them."""
        return self.watched > 0 and self.gaps == 0 and self.refused == 0


class Arrivals:
    """Counters of one socket."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin a run."""
        self.media = self.other = self.watched = self.gaps = self.refused = 0
        self.delays = array("d")  # seconds
        self._last: tuple[int, int] | None = None  # sequence number, index

    def look_into(self, packet: bytes, came_at: float) -> None:
        """A plain RTP packet of the feed that came at *came_at*, seconds since 1970."""
        try:
            rtp = parse_rtp(packet)
        except RtpError:
            self.refused += 1
            return
        stamp = read_stamp(rtp.payload)
        if stamp is None:
            self.refused += 1
            return
        index, sent_at = stamp
        if self._last is not None:
            sequence, before = self._last
            if rtp.sequence != (sequence + 1) & 0xFFFF or index != before + 1:
                self.gaps += 1
        self._last = rtp.sequence, index
        self.watched += 1
        self.delays.append(came_at - sent_at)


def tally(sockets: Iterable[Arrivals]) -> Tally:
    """The sum of *sockets*."""
    all_of_them = list(sockets)
    delays = sorted(delay for one in all_of_them for delay in one.delays)

    def percentile_ms(fraction: float) -> float:
        return delays[min(len(delays) - 1, int(fraction * len(delays)))] * 1e3 if delays else 0.0

    return Tally(
        arrived=sum(one.media for one in all_of_them),
        other=sum(one.other for one in all_of_them),
        watched=sum(one.watched for one in all_of_them),
        gaps=sum(one.gaps for one in all_of_them),
        refused=sum(one.refused for one in all_of_them),
        p50_ms=percentile_ms(0.5),
        p99_ms=percentile_ms(0.99),
    )
