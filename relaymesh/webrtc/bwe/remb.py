"""What REMB says, as bit/s on the wire of everything a session sends.

In: the sources of the session, every packet sent, REMB. Out: one rate, which the estimate may not exceed.

A REMB is "the maximum total media bit rate (ignoring all packet overhead)" of the sources it names
(draft-alvestrand-rmcat-remb-03 §2.2), while estimates and layers' rates count whole packets. So it is scaled
by what these sources' packets were on the wire in the last second, and what all other sources sent is
added. A receiver may have an estimator for each of its tracks (aiortc does): what they say of distinct
sources is added up.
"""

from __future__ import annotations

from dataclasses import dataclass

from relaymesh.webrtc.bwe.sent import SentRate
from relaymesh.webrtc.rtcp import Remb

KEPT = 10.0  # seconds; it is sent each second
MAX_OVERHEAD = 3.0  # × the media: the smallest packets of voice


@dataclass(slots=True)
class _Source:
    """What one track sent, retransmissions and padding too."""

    media: SentRate
    wire: SentRate


@dataclass(frozen=True, slots=True)
class _Said:
    sources: frozenset[int]  # by media SSRC
    bps: int  # of media
    until: float


class RembReader:
    """The sources of one session, and what the peer said of them."""

    def __init__(self) -> None:
        self.foreign = 0  # REMBs that named no source of ours
        self._owners: dict[int, int] = {}  # SSRC → the media SSRC of the same track
        self._sources: dict[int, _Source] = {}
        self._said: list[_Said] = []  # about distinct sources, so never more than there are of these

    def add_source(self, ssrc: int, rtx_ssrc: int | None) -> None:
        """A track of ours; its retransmissions count with it."""
        self._sources[ssrc] = _Source(SentRate(), SentRate())
        self._owners[ssrc] = ssrc
        if rtx_ssrc is not None:
            self._owners[rtx_ssrc] = ssrc

    def on_sent(self, ssrc: int, media_bytes: int, size_bytes: int, now: float) -> None:
        """A packet left: its payload and padding, and all of it on the wire."""
        source = self._sources[self._owners[ssrc]]
        source.media.add(media_bytes, now)
        source.wire.add(size_bytes, now)

    def read(self, remb: Remb, now: float) -> float | None:
        """Bit/s that the peer takes of all that is sent; ``None`` where it names nothing of ours.

        One that names no source at all is about every one.
        """
        named = frozenset(self._owners[ssrc] for ssrc in remb.ssrcs if ssrc in self._owners)
        if not remb.ssrcs:
            named = frozenset(self._sources)
        if not named:
            self.foreign += 1
            return None
        self._said = [said for said in self._said if said.until > now and not said.sources & named]
        self._said.append(_Said(named, remb.bitrate, now + KEPT))
        covered = frozenset[int]().union(*(said.sources for said in self._said))
        others = sum(source.wire.bps(now) for ssrc, source in self._sources.items() if ssrc not in covered)
        return sum(said.bps * self._overhead(said.sources, now) for said in self._said) + others

    def _overhead(self, sources: frozenset[int], now: float) -> float:
        """Bytes on the wire for each of media; 1 while nothing is sent."""
        media = sum(self._sources[ssrc].media.bps(now) for ssrc in sources)
        wire = sum(self._sources[ssrc].wire.bps(now) for ssrc in sources)
        return min(MAX_OVERHEAD, wire / media) if media > 0.0 else 1.0

    def debug_state(self) -> dict[str, object]:
        return {
            "said_bps": {",".join(map(str, sorted(said.sources))): said.bps for said in self._said},
            "foreign": self.foreign,
        }
