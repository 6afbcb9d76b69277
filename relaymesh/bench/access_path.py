"""Senders with the shipping estimator and pacer, and their receivers, behind one emulated bottleneck.

In: link models, flows with what they offer, ``advance``. Out: each flow's estimate, arrivals and
what the bottleneck's queue did, in virtual time. What a flow offers is asked of its
``offer`` for every frame, so that a flow can follow its estimate, or choose among layers.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from relaymesh.netsim.link_model import LinkModel
from relaymesh.webrtc.bwe import PACKET_OVERHEAD_BYTES
from relaymesh.webrtc.bwe.estimator import BandwidthEstimator
from relaymesh.webrtc.bwe.pacer import Kind, SessionPacer
from relaymesh.webrtc.rtcp import TransportFeedback, parse_rtcp
from relaymesh.webrtc.twcc import TwccReceiver

FPS = 30
PACKET_BYTES = 1200  # of video, at most, on the wire
AUDIO_BYTES = 80  # on the wire: 32 kbit/s with its headers
AUDIO_EVERY = 0.02  # seconds
AUDIO_BPS = AUDIO_BYTES * 8 / AUDIO_EVERY
PADDING_BYTES = 300  # one padding packet on the wire: RTP padding is at most 255 bytes
FEEDBACK_EVERY = 0.1  # seconds: browsers send each 50 – 250 ms
WATCH_EVERY = 0.01  # seconds between two looks at the queue

Offer = Callable[["Flow", float], float]  # the flow, now → bit/s of video on the wire


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet on the wire."""

    sequence: int  # transport-wide, 16 bits
    size_bytes: int
    kind: Kind
    sent_at: float = 0.0
    made_at: float = 0.0


class Path:
    """The bottleneck, the clock, and everything that is due."""

    def __init__(self, forth: LinkModel) -> None:
        self.now = 0.0
        self.forth = forth
        self.queue_ms: list[tuple[float, float]] = []
        self.flows: list[Flow] = []
        self._order = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._watch()

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do *action* at *when*."""
        heapq.heappush(self._due, (max(when, self.now), next(self._order), action))

    def _watch(self) -> None:
        self.queue_ms.append((self.now, self.forth.backlog(self.now) * 1e3))
        self.at(self.now + WATCH_EVERY, self._watch)

    def advance(self, until: float) -> None:
        """Let the time pass."""
        due = self._due
        while due and due[0][0] <= until:
            self.now, _, action = heapq.heappop(due)
            action()
        self.now = until

    def queue(self, start: float, end: float) -> list[float]:
        """The queue in ms at each look between, sorted."""
        return sorted(wait for at, wait in self.queue_ms if start <= at < end)

    def cross_traffic(self, bps: float, start: float, end: float, on_s: float, off_s: float) -> None:
        """Packets of somebody who heeds nothing: *bps* for *on_s*, nothing for *off_s*, and again."""
        gap = PACKET_BYTES * 8 / bps

        def send(at: float) -> None:
            if at >= end:
                return
            self.forth.due(self.now, PACKET_BYTES)
            following = at + gap
            if (following - start) % (on_s + off_s) >= on_s:
                following = start + ((following - start) // (on_s + off_s) + 1) * (on_s + off_s)
            self.at(following, lambda: send(following))

        self.at(start, lambda: send(start))


@dataclass(slots=True)
class FlowSettings:
    """One flow's surroundings."""

    extra_delay: float = 0.0  # seconds each way, besides the bottleneck's
    clock_offset: float = 0.0  # seconds, of the peer's clock
    clock_drift: float = 0.0  # seconds per second
    feedback_every: float = FEEDBACK_EVERY
    audio: bool = True
    frame_spread: float = 0.15  # of a frame's size around the mean, uniform
    start: float = 0.0


@dataclass(slots=True)
class _Seen:
    """Arrivals, by tenths of seconds."""

    bytes_by_tenth: dict[int, int] = field(default_factory=dict)
    delays_ms: list[tuple[float, float, Kind]] = field(default_factory=list)


class Flow:
    """A sender, its receiver, and the feedback between them."""

    def __init__(
        self,
        path: Path,
        back: LinkModel,
        offer: Offer,
        settings: FlowSettings,
        seed: int,
        estimator: BandwidthEstimator | None = None,
    ) -> None:
        self.path, self.settings = path, settings
        self.estimator = estimator or BandwidthEstimator(now=settings.start)
        self.pacer: SessionPacer[Packet] = SessionPacer(self.estimator.estimate_bps, settings.start)
        self.estimates: list[tuple[float, float]] = []
        self.seen = _Seen()
        self._offer, self._back = offer, back
        self._rng = random.Random(seed)
        self._receiver = TwccReceiver()
        self._sequence = self._rng.randrange(0x10000)
        self._wake: float | None = None
        self._recent: deque[int] = deque(maxlen=64)
        path.flows.append(self)
        path.at(settings.start, self._video)
        if settings.audio:
            path.at(settings.start, self._audio)
        path.at(settings.start + settings.feedback_every, self._feed_back)

    # --- the sender

    def _video(self) -> None:
        now = self.path.now
        self.estimates.append((now, self.estimator.estimate_bps))
        spread = self.settings.frame_spread
        size = int(self._offer(self, now) / 8 / FPS * (1.0 + self._rng.uniform(-spread, spread)))
        if size > 0:
            count = -(-size // PACKET_BYTES)
            for _ in range(count):
                self.pacer.enqueue(
                    Packet(0, size // count, Kind.VIDEO, made_at=now), size // count, Kind.VIDEO, now
                )
        self.path.at(now + 1 / FPS, self._video)
        self._drive()

    def _audio(self) -> None:
        now = self.path.now
        self.pacer.enqueue(Packet(0, AUDIO_BYTES, Kind.AUDIO, made_at=now), AUDIO_BYTES, Kind.AUDIO, now)
        self.path.at(now + AUDIO_EVERY, self._audio)
        self._drive()

    def _drive(self) -> None:
        """One turn, as a session makes it."""
        now, estimator, pacer = self.path.now, self.estimator, self.pacer
        estimator.handle_timeout(now)
        pacer.set_estimate(estimator.estimate_bps, now)
        cluster = estimator.poll_probe(now)
        if cluster is not None:
            pacer.begin_probe(cluster, now)
        for packet in pacer.poll(now):
            self._send(packet.size_bytes, packet.kind, packet.made_at)
        due = pacer.poll_probe(now)
        while due > 0:
            size = max(PACKET_OVERHEAD_BYTES + 24, min(due, PADDING_BYTES))
            self._send(size, Kind.PADDING, now)
            pacer.on_probe_sent(size, now)
            due -= size
        times = [t for t in (estimator.next_timeout(), pacer.next_timeout()) if t is not None]
        wake = max(min(times), now + 0.0005) if times else None
        if wake is not None and (self._wake is None or wake < self._wake or self._wake <= now):
            self._wake = wake
            self.path.at(wake, self._on_wake)

    def _on_wake(self) -> None:
        if self._wake is not None and self._wake <= self.path.now:
            self._wake = None
            self._drive()

    def _send(self, size: int, kind: Kind, made_at: float) -> None:
        now, sequence = self.path.now, self._sequence
        self._sequence = (sequence + 1) & 0xFFFF
        self.estimator.on_sent(sequence, size, now, self.pacer.probe)
        packet = Packet(sequence, size, kind, now, made_at)
        for when in self.path.forth.due(now, size):
            self.path.at(when + self.settings.extra_delay, lambda: self._arrive(packet))

    # --- the receiver

    def _arrive(self, packet: Packet) -> None:
        self._receiver.record(packet.sequence, self._peer_time(self.path.now))
        self._count(packet)

    def _count(self, packet: Packet) -> None:
        now = self.path.now
        tenth = int(now * 10)
        by_tenth = self.seen.bytes_by_tenth
        by_tenth[tenth] = by_tenth.get(tenth, 0) + packet.size_bytes
        self.seen.delays_ms.append((now, (now - packet.made_at) * 1e3, packet.kind))

    def _peer_time(self, now: float) -> float:
        return now * (1.0 + self.settings.clock_drift) + self.settings.clock_offset

    def _feed_back(self) -> None:
        now = self.path.now
        while (data := self._receiver.feedback(1, 2)) is not None:
            (feedback,) = parse_rtcp(data)
            assert isinstance(feedback, TransportFeedback)
            for when in self._back.due(now, len(data) + PACKET_OVERHEAD_BYTES):
                self.path.at(when + self.settings.extra_delay, lambda f=feedback: self._hear(f))  # type: ignore[misc]
        self.path.at(now + self.settings.feedback_every, self._feed_back)

    def _hear(self, feedback: TransportFeedback) -> None:
        self.estimator.handle_feedback(feedback, self.path.now)
        self._drive()

    # --- figures

    def mbps(self, start: float, end: float) -> float:
        """What arrived."""
        tenths = range(round(start * 10), round(end * 10))
        return sum(self.seen.bytes_by_tenth.get(t, 0) for t in tenths) * 8 / 1e6 / (end - start)


def follow_estimate(most_bps: float = 8e6) -> Offer:
    """Offer of an encoder that follows its estimate up to *most_bps*, audio set aside."""

    def offer(flow: Flow, now: float) -> float:
        flow.estimator.set_wanted(most_bps, now)
        audio = AUDIO_BPS if flow.settings.audio else 0.0
        return max(0.0, min(most_bps, flow.estimator.estimate_bps) - audio)

    return offer
