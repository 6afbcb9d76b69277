"""Measurements of a player: frames, lost and repeated ones, gaps, latency.

In: stamps of decoded pictures with the time they were decoded. Out: one :class:`Seen`. A pure
accumulator of bounded size: it fetches no clock and knows no codec.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass

from relaymesh.client.picture import Stamp

GAP_MS = 200.0  # five frames at 25 per second: what a person calls a freeze
_REMEMBERED = 512  # frame numbers kept to tell a repeated frame from a late one
_KEPT_LATENCIES = 20_000
_KEPT_GAPS = 1_000


@dataclass(frozen=True, slots=True)
class Latency:
    """From drawing to decoding, in milliseconds, by the wall clocks of both ends; true on one host only."""

    min_ms: float
    p50_ms: float
    p95_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class Seen:
    """Counts of what arrived so far."""

    frames_decoded: int
    frames_unreadable: int  # decoded, but without a stamp that its checksum confirms
    frames_distinct: int  # different frame numbers
    frames_lost: int  # frame numbers that are missing between the first and the last
    frames_repeated: int
    frames_reordered: int
    first_number: int | None
    last_number: int | None
    first_frame_ms: float | None  # from asking to play to the first decoded picture
    latency: Latency | None
    gaps_over_200ms: int
    gaps_ms: tuple[float, ...]  # the gaps, the oldest left out beyond a thousand
    longest_gap_ms: float
    audio_frames: int

    def as_dict(self) -> dict[str, object]:
        """The same as plain values."""
        return asdict(self)


class Watch:
    """Counts what a player decodes. Times are seconds of a monotonic clock; *asked* is when it asked to
    play.
    """

    def __init__(self, asked: float) -> None:
        self._asked = asked
        self._decoded = self._unreadable = self._distinct = self._repeated = self._reordered = self._audio = 0
        self._spanned = 0  # frame numbers that earlier runs of the publisher spanned
        self._first: int | None = None
        self._origin: int | None = None  # first number of the publisher's present run
        self._highest = -1
        self._recent: deque[int] = deque(maxlen=_REMEMBERED)
        self._first_at: float | None = None
        self._last_at: float | None = None
        self._longest_gap_ms = 0.0
        self._gap_count = 0
        self._gaps: deque[float] = deque(maxlen=_KEPT_GAPS)
        self._latencies: deque[float] = deque(maxlen=_KEPT_LATENCIES)

    def handle_request(self, now: float) -> None:
        """The player asks (again). Until something arrived, the first picture is measured from here."""
        if self._first_at is None:
            self._asked = now

    def handle_picture(self, stamp: Stamp | None, now: float, clock_ms: float) -> None:
        """A picture was decoded at *now*, when the wall clock showed *clock_ms*."""
        self._decoded += 1
        if self._first_at is None:
            self._first_at = now
        if self._last_at is not None:
            gap_ms = (now - self._last_at) * 1000
            self._longest_gap_ms = max(self._longest_gap_ms, gap_ms)
            if gap_ms > GAP_MS:
                self._gap_count += 1
                self._gaps.append(round(gap_ms, 1))
        self._last_at = now
        if stamp is None:
            self._unreadable += 1
            return
        self._latencies.append(clock_ms - stamp.clock_ms)
        self._count(stamp.frame_number)

    def handle_audio(self) -> None:
        """An audio frame was decoded."""
        self._audio += 1

    def seen(self) -> Seen:
        """Everything so far."""
        span = self._spanned + self._run_span()
        first_ms = None if self._first_at is None else round((self._first_at - self._asked) * 1000, 1)
        return Seen(
            frames_decoded=self._decoded,
            frames_unreadable=self._unreadable,
            frames_distinct=self._distinct,
            # Unreadable pictures did arrive; which ones they were is not known.
            frames_lost=max(0, span - self._distinct - self._unreadable),
            frames_repeated=self._repeated,
            frames_reordered=self._reordered,
            first_number=self._first,
            last_number=self._highest if self._highest >= 0 else None,
            first_frame_ms=first_ms,
            latency=_latency(self._latencies),
            gaps_over_200ms=self._gap_count,
            gaps_ms=tuple(self._gaps),
            longest_gap_ms=round(self._longest_gap_ms, 1),
            audio_frames=self._audio,
        )

    def _run_span(self) -> int:
        return 0 if self._origin is None else self._highest - self._origin + 1

    def _count(self, number: int) -> None:
        if self._first is None:
            self._first = number
        if self._origin is None or number < self._highest - _REMEMBERED:
            # The first frame, or the publisher started again and counts from the beginning.
            self._spanned += self._run_span()
            self._origin = self._highest = number
            self._recent.clear()
        elif number in self._recent:
            self._repeated += 1
            return
        elif number < self._highest:
            self._reordered += 1
            self._origin = min(self._origin, number)
        self._highest = max(self._highest, number)
        self._recent.append(number)
        self._distinct += 1


def _latency(values: deque[float]) -> Latency | None:
    if not values:
        return None
    ordered = sorted(values)
    last = len(ordered) - 1
    return Latency(
        round(ordered[0], 1),
        round(ordered[last // 2], 1),
        round(ordered[last * 95 // 100], 1),
        round(ordered[last], 1),
    )
