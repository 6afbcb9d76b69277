"""Packets that were sent with a transport-wide sequence number, until their fate is known.

In: each packet's number (16 bits), size and time of sending; decoded feedback. Out: for
each packet of a feedback when it was sent and when it arrived, at most once lost and
once arrived. Numbers and the peer's clock are unwrapped here. Claims about packets that
were not sent, or that are settled, are counted and give nothing. Knows no rates.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from relaymesh.webrtc.twcc import ArrivalReport

MAX_PACKETS = 8192  # kept at most: 6 s of 15 Mbit/s
MAX_AGE = 10.0  # seconds; feedback about older ones would say nothing of the path now
# The reference time has 24 bits of 64 ms (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).
_CLOCK_TURN_US = (1 << 24) * 64_000


class _Sent(msgspec.Struct, frozen=True, gc=False):
    at: float  # seconds
    size_bytes: int
    probe: int | None  # the cluster it belongs to
    lost: bool  # was reported as not arrived


class PacketResult(msgspec.Struct, frozen=True, gc=False):
    """The fate of one packet."""

    sequence: int  # unwrapped
    sent_at: float  # seconds, our clock
    size_bytes: int
    probe: int | None
    arrived_at: float | None  # seconds, the peer's clock; None: not arrived
    was_lost: bool  # an earlier feedback had it as lost


@dataclass(frozen=True, slots=True)
class FeedbackBatch:
    """All that one feedback told."""

    results: list[PacketResult]  # in the order of sending
    unreported_bytes: int  # sent before them and in no feedback: the feedback in between was lost


class SendHistory:
    """The packets under way of one session; bounded in number and age."""

    def __init__(self) -> None:
        self.unmatched = 0  # claims about packets that are not here: never sent, settled, or too old
        self._packets: dict[int, _Sent] = {}  # by unwrapped number
        self._highest: int | None = None
        self._oldest = 0  # nothing below is kept
        self._covered: int | None = None  # the first number that no feedback has been about
        self._peer_us: int | None = None  # of the newest feedback: as it came …
        self._peer_unwrapped_us = 0  # … and unwrapped

    def __len__(self) -> int:
        return len(self._packets)

    def on_sent(self, sequence: int, size_bytes: int, now: float, probe: int | None = None) -> None:
        """A packet left with *sequence* (16 bits).

        Raises:
            ValueError: the number does not follow the last one; the caller's fault.
        """
        highest = self._highest
        if highest is None:
            extended = sequence & 0xFFFF
            self._oldest = self._covered = extended
        else:
            step = (sequence - highest) & 0xFFFF
            if not 0 < step < 0x8000:
                raise ValueError(f"transport-wide number {sequence} does not follow {highest & 0xFFFF}")
            extended = highest + step
        self._highest = extended
        self._packets[extended] = _Sent(now, size_bytes, probe, False)
        if extended - self._oldest >= MAX_PACKETS:
            self._forget(extended - MAX_PACKETS + 1)
        elif not extended & 0x3F:
            self._forget_old(now)

    def _forget(self, oldest: int) -> None:
        for number in range(self._oldest, oldest):
            self._packets.pop(number, None)
        self._oldest = max(self._oldest, oldest)

    def _forget_old(self, now: float) -> None:
        while self._oldest <= (self._highest or 0):
            sent = self._packets.get(self._oldest)
            if sent is not None and sent.at >= now - MAX_AGE:
                break
            self._packets.pop(self._oldest, None)
            self._oldest += 1

    def match(self, report: ArrivalReport) -> FeedbackBatch:
        """The fate of packets that *report* tells and nobody told before."""
        highest = self._highest
        if highest is None:
            self.unmatched += len(report.arrivals)
            return FeedbackBatch([], 0)
        results: list[PacketResult] = []
        for number, arrived_us in report.arrivals:
            extended = highest - ((highest - number) & 0xFFFF)
            sent = self._packets.get(extended)
            if sent is None or (sent.lost and arrived_us is None):
                self.unmatched += 1
                continue
            if arrived_us is None:
                self._packets[extended] = _Sent(sent.at, sent.size_bytes, sent.probe, True)
                arrived = None
            else:
                del self._packets[extended]
                arrived = self._unwrap(arrived_us)
            results.append(PacketResult(extended, sent.at, sent.size_bytes, sent.probe, arrived, sent.lost))
        return FeedbackBatch(results, self._cover(results))

    def _cover(self, results: list[PacketResult]) -> int:
        """Advance what feedback has been about; the bytes it jumped over."""
        if not results:
            return 0
        assert self._covered is not None, "a result is of a packet that was sent"
        start = max(self._covered, self._oldest)
        first = min(result.sequence for result in results)
        skipped = sum(self._packets[n].size_bytes for n in range(start, first) if n in self._packets)
        self._covered = max(self._covered, max(result.sequence for result in results) + 1)
        return skipped

    def _unwrap(self, arrived_us: int) -> float:
        """The peer's time in seconds, without the turns of its 24 bits."""
        if self._peer_us is None:
            self._peer_unwrapped_us = arrived_us
        else:
            half = _CLOCK_TURN_US // 2
            self._peer_unwrapped_us += (arrived_us - self._peer_us + half) % _CLOCK_TURN_US - half
        self._peer_us = arrived_us
        return self._peer_unwrapped_us / 1e6

    def debug_state(self) -> dict[str, object]:
        return {"packets": len(self._packets), "highest": self._highest, "unmatched": self.unmatched}
