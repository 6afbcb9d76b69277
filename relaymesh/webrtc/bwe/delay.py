"""Overuse of a path, seen from one-way delays: the delay-based half of Google Congestion Control.

In: when packets were sent (our clock) and arrived (the peer's; only differences count).
Out: whether the path is over-, under- or normally used, and the delay that a standing queue adds.

Two signals. The *trend* is libwebrtc's: packets sent within 5 ms are a group, the change of
delay from group to group is accumulated and smoothed, its slope over 20 groups is compared
with a threshold that adapts to the path's own jitter (Carlucci et al., "Analysis and Design
of the Google Congestion Control for WebRTC", MMSys 2016; draft-ietf-rmcat-gcc-02 §5.3 – 5.4).
The *standing queue* is ours: the least delay of the last :data:`STANDING` seconds above the
recent minimum. The trend is blind to a queue that no longer grows, as two flows
make one; a queue that stands above :data:`MAX_STANDING_MS` is overuse as well.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from math import inf

GROUP_MS = 5.0  # packets sent within are one group (draft §5.2: burst_time)
CLOCK_JUMP_MS = 3000.0  # between two groups' delays: the peer's clock was set, or it slept (libwebrtc)
MAX_REORDERED = 3  # groups in a row that arrive before the one they follow (libwebrtc)
TREND_WINDOW = 20  # groups under the line (libwebrtc)
SMOOTHING = 0.9  # of the accumulated delay (libwebrtc)
GAIN = 4.0  # trend × min(groups, 60) × gain is compared with the threshold (libwebrtc)
MAX_GROUPS_COUNTED = 60
THRESHOLD_MS = 12.5  # at first (draft §5.4: del_var_th)
THRESHOLD_RANGE_MS = (6.0, 600.0)  # draft §5.4
THRESHOLD_SKIP_MS = 15.0  # a spike so far above the threshold does not move it (draft §5.4)
K_UP, K_DOWN = 0.0087, 0.039  # gains of the threshold per ms (libwebrtc; MMSys 2016 §4)
OVERUSE_MS = 10.0  # for which the trend must be above the threshold (draft §5.4: overuse_time_th)
STANDING = 0.25  # seconds
MAX_STANDING_MS = 28.0  # half of what is to be kept at p95 (60 ms), and above the jitter of most radio paths
SOON = 0.08  # seconds for which twice as long a queue is overuse already, without a trend
# A queue is more than the packets sent explain, if the path is as fast as it is taken to be, beyond so
# many times what they do, and so many ms: then a trend is believed, …
EXCESS, EXCESS_MS = 1.5, 25.0
GREAT_EXCESS, GREAT_EXCESS_MS = 2.0, 40.0  # … and from here on two packets in a row are overuse, without one
MIN_QUEUE_MS = 5.0  # without so much above the recent minimum a trend is jitter
# One packet is no queue: on a line of 150 kbit/s, audio that follows a frame of 1,200 bytes is 64 ms late
# each time, and a path that is far from full seemed overused twice a second.
PACKET_BITS, MAX_PACKET_MS = 1200 * 8, 100.0
BASE_SPAN, BASE_BUCKETS = 2.0, 10  # the minimum is that of the last 20 s: 100 ppm of drift are 2 ms
FUTILE = 3  # reductions that did not shrink a standing queue: it is the path's own delay now
SHRUNK = 0.8  # × what it was


class Usage(enum.Enum):
    """What the delays say of the path."""

    NORMAL = "normal"
    UNDER = "under"
    OVER = "over"


@dataclass(slots=True)
class _Group:
    first_sent: float  # ms
    last_sent: float  # ms
    arrived: float  # ms, the latest of its packets
    least_delay: float  # ms, peer's clock minus ours


class DelayDetector:
    """The trend of the delays and the queue above their minimum."""

    def __init__(self) -> None:
        self.usage = Usage.NORMAL
        self.threshold_ms = THRESHOLD_MS
        self.queue_ms = 0.0  # the standing queue
        self._min_queue_ms = MIN_QUEUE_MS
        self.clock_jumps = 0
        self._base: deque[tuple[float, float]] = deque(maxlen=BASE_BUCKETS)  # (start in s, least delay in ms)
        self._futile = 0
        self._queue_then = 0.0  # ms, at the last reduction
        self._reset()

    def _reset(self) -> None:
        """Begin anew, as after a jump of the peer's clock."""
        self._current: _Group | None = None
        self._previous: _Group | None = None
        self._reordered = 0
        self._delay_ms = self._smoothed_ms = 0.0  # accumulated since the beginning
        self._points: deque[tuple[float, float]] = deque(
            maxlen=TREND_WINDOW
        )  # (arrival in ms, smoothed delay)
        self._groups = 0
        self._over_ms: float | None = None
        self._over_count = 0
        self._trend = self._slope = 0.0  # ms per ms: the one judged last, and the newest
        self._threshold_at: float | None = None
        self._origin: float | None = None
        self._recent: deque[tuple[float, float]] = deque()  # (sent in s, delay in ms)
        self._packets: deque[tuple[float, float]] = deque(maxlen=2)  # (delay, expected queue), ms
        self.queued_since: float | None = None  # peer's clock, s: since then every packet found a queue
        self._base.clear()
        self._least_ms = inf  # of the base
        self.usage = Usage.NORMAL
        self.stands = False  # a queue too long that does not get shorter: the last group found it
        self.queue_ms = 0.0

    def skip(self) -> None:
        """What follows does not follow in time: no difference is taken across the gap."""
        self._current = self._previous = None
        self.queued_since = None

    def add(self, sent_at: float, arrived_at: float, expected: float = 0.0) -> None:
        """A packet's times in seconds, in the order of sending.

        *expected*: seconds of queue that those sent before it make at the rate the path is taken to carry.
        """
        sent, arrived = sent_at * 1e3, arrived_at * 1e3
        self._packets.append((arrived - sent, expected * 1e3))
        self._add_to_group(sent, arrived)
        if self._is_sudden():
            self.usage = Usage.OVER

    def glance(self, sent_at: float, arrived_at: float, expected: float) -> None:
        """As :meth:`add`, of a packet in a probe's queue: only one far longer than the probe makes counts."""
        self._packets.append(((arrived_at - sent_at) * 1e3, expected * 1e3))
        self.usage = Usage.OVER if self._is_sudden() else Usage.NORMAL

    def _add_to_group(self, sent: float, arrived: float) -> None:
        group = self._current
        if group is None:
            self._current = _Group(sent, sent, arrived, arrived - sent)
            return
        if sent < group.first_sent:
            return  # of a group that is complete
        if self._belongs(group, sent, arrived):
            group.last_sent = max(group.last_sent, sent)
            group.arrived = max(group.arrived, arrived)
            group.least_delay = min(group.least_delay, arrived - sent)
            return
        previous, self._previous = self._previous, group
        self._current = _Group(sent, sent, arrived, arrived - sent)
        self._note_delay(group)
        if previous is not None:
            self._compare(previous, group)

    @staticmethod
    def _belongs(group: _Group, sent: float, arrived: float) -> bool:
        """Sent together, or come together after a pause of the path (draft §5.2)."""
        if sent - group.first_sent <= GROUP_MS:
            return True
        gap = arrived - group.arrived
        return (
            0.0 <= gap <= GROUP_MS
            and gap - (sent - group.last_sent) < 0.0
            and arrived - group.arrived < 100.0
        )

    def _compare(self, previous: _Group, group: _Group) -> None:
        sent = group.last_sent - previous.last_sent
        arrived = group.arrived - previous.arrived
        if abs(arrived - sent) > CLOCK_JUMP_MS:
            self.clock_jumps += 1
            self._reset()
            return
        if arrived < 0.0:
            self._reordered += 1
            if self._reordered >= MAX_REORDERED:
                self._reset()
            return
        self._reordered = 0
        self._fit(arrived - sent, group.arrived)
        self._detect(sent, group.arrived)

    def _fit(self, change_ms: float, arrived: float) -> None:
        """One more point, and the slope of the line through all."""
        if self._origin is None:
            self._origin = arrived
        self._groups = min(self._groups + 1, 1000)
        self._delay_ms += change_ms
        self._smoothed_ms = SMOOTHING * self._smoothed_ms + (1 - SMOOTHING) * self._delay_ms
        self._points.append((arrived - self._origin, self._smoothed_ms))
        if len(self._points) < TREND_WINDOW:
            return
        count = len(self._points)
        mean_x = sum(x for x, _ in self._points) / count
        mean_y = sum(y for _, y in self._points) / count
        over = sum((x - mean_x) * (y - mean_y) for x, y in self._points)
        under = sum((x - mean_x) ** 2 for x, _ in self._points)
        self._slope = over / under if under else self._trend

    def _detect(self, sent_ms: float, arrived: float) -> None:
        trend = self._slope
        if self._groups < 2:
            self.usage = Usage.NORMAL
            return
        weighed = min(self._groups, MAX_GROUPS_COUNTED) * trend * GAIN
        if weighed > self.threshold_ms:
            self._over_ms = sent_ms / 2 if self._over_ms is None else self._over_ms + sent_ms
            self._over_count += 1
            if self._over_ms > OVERUSE_MS and self._over_count > 1 and trend >= self._trend:
                self._over_ms, self._over_count = 0.0, 0
                self.usage = Usage.OVER if self._latest_queue_ms() >= self._min_queue_ms else Usage.NORMAL
        else:
            self._over_ms, self._over_count = None, 0
            self.usage = Usage.UNDER if weighed < -self.threshold_ms else Usage.NORMAL
        self._trend = trend
        self._adapt(weighed, arrived)
        self.stands = self._stands()
        if self.stands:
            self.usage = Usage.OVER

    def _adapt(self, weighed: float, arrived: float) -> None:
        """The threshold follows the trend: slowly up, so that TCP beside us does not starve us."""
        last, self._threshold_at = self._threshold_at, arrived
        size = abs(weighed)
        if last is None or size > self.threshold_ms + THRESHOLD_SKIP_MS:
            return
        gain = K_DOWN if size < self.threshold_ms else K_UP
        self.threshold_ms += gain * (size - self.threshold_ms) * min(arrived - last, 100.0)
        low, high = THRESHOLD_RANGE_MS
        self.threshold_ms = min(high, max(low, self.threshold_ms))

    def _note_delay(self, group: _Group) -> None:
        at, delay = group.last_sent / 1e3, group.least_delay
        if not self._base or at >= self._base[-1][0] + BASE_SPAN:
            self._base.append((at, delay))
            self._least_ms = min(least for _, least in self._base)
        elif delay < self._base[-1][1]:
            self._base[-1] = (self._base[-1][0], delay)
            self._least_ms = min(self._least_ms, delay)
        recent = self._recent
        recent.append((at, delay))
        while recent[0][0] < at - STANDING:
            recent.popleft()
        self.queue_ms = min(d for _, d in recent) - self._least_ms
        if self._latest_queue_ms() < self._min_queue_ms:
            self.queued_since = None
        elif self.queued_since is None:
            self.queued_since = group.arrived / 1e3

    def _latest_queue_ms(self) -> float:
        return self._recent[-1][1] - self._least_ms

    @property
    def is_empty(self) -> bool:
        """Whether the newest packet found no queue to speak of."""
        return bool(self._recent) and self._latest_queue_ms() < MIN_QUEUE_MS

    def _exceeds(self, back: int, times: float, more_ms: float) -> bool:
        """Whether the packet *back* from the newest one found so much more of a queue than expected."""
        delay, expected = self._packets[-back]
        return delay - self._least_ms > times * expected + more_ms

    @property
    def is_unexplained(self) -> bool:
        """Whether the newest packet found a longer queue than those before it make at the rate assumed."""
        return bool(self._packets) and self._exceeds(1, EXCESS, EXCESS_MS)

    def _is_sudden(self) -> bool:
        """A queue far longer than explained, twice, and not because all came at once after a pause.

        Of packets, not of groups: those of one picture tell the rate of a path that has got narrow.
        """
        packets = self._packets
        return (
            len(packets) > 1
            and packets[-2][0] <= packets[-1][0] < self._least_ms + CLOCK_JUMP_MS
            and all(self._exceeds(back, GREAT_EXCESS, GREAT_EXCESS_MS) for back in (1, 2))
        )

    def _stands(self) -> bool:
        """A queue too long that does not get shorter."""
        recent = self._recent
        newest, span = recent[-1][0], recent[-1][0] - recent[0][0]
        if recent[-1][1] < recent[0][1] - 1.0:
            return False
        if span >= STANDING * 0.6 and self.queue_ms > MAX_STANDING_MS:
            return True
        soon = min(delay for at, delay in recent if at >= newest - SOON) - self._least_ms
        return span >= SOON and soon > 2.0 * MAX_STANDING_MS

    def set_rate(self, bps: float) -> None:
        """The path is taken to carry *bps*: what one packet takes of it is not a queue."""
        self._min_queue_ms = max(MIN_QUEUE_MS, min(MAX_PACKET_MS, PACKET_BITS / bps * 1e3))

    def on_reduced(self) -> None:
        """The rate was reduced for overuse; a standing queue that this never shrinks is none."""
        if self.queue_ms <= MAX_STANDING_MS:
            self._futile = 0
            return
        shrunk = self.queue_ms < self._queue_then * SHRUNK
        self._futile = 0 if shrunk or not self._futile else self._futile
        self._futile += 1
        self._queue_then = self.queue_ms
        if self._futile > FUTILE:
            self._futile = 0
            least = min(delay for _, delay in self._recent)
            at = self._base[-1][0]
            self._base.clear()
            self._base.append((at, least))
            self._least_ms = least
            self.queue_ms = 0.0

    def debug_state(self) -> dict[str, object]:
        return {
            "usage": self.usage.value,
            "trend": round(self._trend, 5),
            "threshold_ms": round(self.threshold_ms, 2),
            "queue_ms": round(self.queue_ms, 1),
            "clock_jumps": self.clock_jumps,
        }
