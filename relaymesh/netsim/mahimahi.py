"""Delivery traces in the format of mahimahi's ``mm-link``, and the queue that is emptied by one.

A trace is a text file with one time in milliseconds on each line, never
falling: at each of them the link can deliver 1500 bytes, the same time more
than once as often as it stands there. The last time is the trace's length,
after which it starts again. Empty lines and lines that start with `#` are skipped.

Large packets take several opportunities, small ones share one; what nobody
waits for is lost. PURE but for :func:`load_trace`, which reads one file.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

OPPORTUNITY_BYTES = 1500
MAX_TRACE_BYTES = 16 * 1024 * 1024
MAX_TIME_MS = 86_400_000  # a day


class TraceError(ValueError):
    """The text is no delivery trace."""


@dataclass(frozen=True, slots=True)
class DeliveryTrace:
    """When a link can deliver."""

    times_ms: tuple[int, ...]  # never falling; the last is the period and above 0
    name: str = field(default="trace", compare=False)

    def __post_init__(self) -> None:
        times = self.times_ms
        if not times or times[-1] <= 0:
            raise TraceError("a trace must have a time above 0")
        if times[0] < 0 or any(a > b for a, b in pairwise(times)):
            raise TraceError("the times of a trace must not be negative and must not fall")

    def __repr__(self) -> str:
        return f"DeliveryTrace({self.name!r}, {self.mean_rate_bps / 1e6:.3g} Mbit/s)"

    @property
    def period_ms(self) -> int:
        """After this long it starts again."""
        return self.times_ms[-1]

    @property
    def mean_rate_bps(self) -> float:
        """Bits per second over the whole period."""
        return len(self.times_ms) * OPPORTUNITY_BYTES * 8 * 1000 / self.period_ms


class TraceQueue:
    """The queue before a link that delivers by a trace: where in the trace the last packet left off.

    No packets are held: opportunities are numbered over all periods, and the
    bytes that wait are those of the opportunities taken but not yet come.
    """

    __slots__ = ("_index", "_left", "_start", "_trace")

    def __init__(self, trace: DeliveryTrace, start: float) -> None:
        self._trace = trace
        self._start = start  # seconds; the trace's time 0
        self._index = 0  # the opportunity in use, or the next one
        self._left = OPPORTUNITY_BYTES  # bytes it still has

    def leaves(self, now: float, size: int, queue: float) -> float | None:
        """When a packet of *size* bytes that comes at *now* has left; ``None``: the queue is full.

        *queue* bounds what may wait: as many bytes as the trace delivers on average in so many
        seconds, at least one opportunity's. So an outage in the trace fills the queue, but one packet
        alone always waits it out.
        """
        first = self._first_from(now)
        if self._index < first:
            self._index, self._left = first, OPPORTUNITY_BYTES
        waiting = (self._index - first + 1) * OPPORTUNITY_BYTES - self._left
        if waiting > max(queue * self._trace.mean_rate_bps / 8, OPPORTUNITY_BYTES):
            return None
        need = size
        while need > self._left:
            need -= self._left
            self._index, self._left = self._index + 1, OPPORTUNITY_BYTES
        self._left -= need
        return max(now, self._time(self._index))

    def _first_from(self, now: float) -> int:
        """The first opportunity that is not before *now*."""
        times = self._trace.times_ms
        elapsed_ms = round(max(0.0, now - self._start) * 1000, 6)  # a time given as seconds must find itself
        periods, into = divmod(elapsed_ms, self._trace.period_ms)
        return int(periods) * len(times) + bisect_left(times, into)

    def _time(self, index: int) -> float:
        periods, position = divmod(index, len(self._trace.times_ms))
        return self._start + (periods * self._trace.period_ms + self._trace.times_ms[position]) / 1000


def parse_trace(text: str | bytes, name: str = "trace") -> DeliveryTrace:
    """The trace that *text* describes.

    Raises:
        TraceError: it is none; with the line.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("ascii")
        except UnicodeDecodeError:
            raise TraceError(f"{name}: not ASCII text") from None
    times: list[int] = []
    for number, line in enumerate(text.splitlines(), 1):
        word = line.strip()
        if not word or word.startswith("#"):
            continue
        if not (word.isascii() and word.isdigit() and len(word) <= 12 and int(word) <= MAX_TIME_MS):
            raise TraceError(f"{name}:{number}: a time in whole milliseconds is wanted, not {word[:32]!a}")
        if times and int(word) < times[-1]:
            raise TraceError(f"{name}:{number}: {word} comes before {times[-1]}: times must not fall")
        times.append(int(word))
    try:
        return DeliveryTrace(tuple(times), name)
    except TraceError as error:
        raise TraceError(f"{name}: {error}") from None


def load_trace(path: Path | str) -> DeliveryTrace:
    """The trace in the file at *path*, at most 16 MiB.

    Raises:
        TraceError: the file cannot be read or is no trace.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_TRACE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise TraceError(f"{path}: cannot be read: {error}") from None
    if len(data) > MAX_TRACE_BYTES:
        raise TraceError(f"{path}: larger than {MAX_TRACE_BYTES // 1024 // 1024} MiB")
    return parse_trace(data, str(path))
