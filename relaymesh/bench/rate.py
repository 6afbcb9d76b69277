"""A relay link whose path gets narrow: what is left out, what is lost, how long packets wait.

Two runs, both of real :class:`~relaymesh.protocol.link.Link` objects in virtual time:

* **brown-out**: the path carries more than is offered, then half of it, then enough again;
* **fairness**: two links share one bottleneck, and offer more than it carries, the second from later on.

The offer is that of a conference with temporal layers (L1T3): of each video the base
layer is 40 % of the bytes, the others 25 and 35 %; audio is 50 packets a second.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from relaymesh.bench.link import percentile
from relaymesh.bench.wire import Wires
from relaymesh.netsim.link_model import LinkConditions, LinkModel
from relaymesh.protocol import frames
from relaymesh.protocol.frames import MediaFrame
from relaymesh.protocol.ids import TrackId
from relaymesh.protocol.link import Link

VIDEOS, AUDIOS = 8, 4
FPS = 30
LAYERS = (0, 2, 1, 2)  # temporal layer of each picture of a group
PACKETS = {0: 6, 1: 4, 2: 3}  # of a picture, by layer; T0 : T1 : T2 = 40 : 27 : 33 % of the bytes
VIDEO_BYTES, AUDIO_BYTES = 1050, 120
NARROW_AT, WIDE_AT, END = 10.0, 25.0, 40.0  # seconds
STEP = 0.1  # seconds of the series
MEDIA_ROUTED_BYTES = 66  # of a datagram, besides the payload


@dataclass(frozen=True, slots=True)
class Brownout:
    """What a brown-out did. Loss is of packets that were not left out on purpose."""

    rtt_ms: float
    seed: int
    offered_mbps: float
    narrow_mbps: float
    audio_loss: float
    base_loss: float
    queue_p99_ms: float  # of all packets while it was narrow, after two seconds
    queue_back_s: float  # from the narrowing until the path's queue was below 50 ms for a second
    recovered_s: float  # from the widening until 90 % of the offer arrived again
    used_narrow: float  # fraction of the narrow path that was used
    unexplained_loss: float  # of enhancement packets: neither arrived nor told by a SKIP
    series: tuple[tuple[float, float, float, float], ...] = field(repr=False, default=())
    # seconds, offered Mbit/s, arrived Mbit/s, path queue ms


@dataclass(frozen=True, slots=True)
class Fairness:
    """Two links in one bottleneck."""

    rtt_ms: tuple[float, float]
    carried_mbps: float
    shares: tuple[float, float]  # Mbit/s each, over the last quarter
    index: float  # Jain's: 1 when equal, 0.5 when one has all
    queue_p95_ms: float
    base_loss: float


@dataclass(frozen=True, slots=True)
class MediaOffer:
    """One packet to be sent."""

    at: float  # seconds
    stream: int
    audio: bool
    layer: int
    end: bool


def offer(start: float, end: float, first: int = 0, videos: int = VIDEOS) -> Iterator[MediaOffer]:
    """All packets of the streams from number *first* on, in order."""
    found: list[MediaOffer] = []
    for stream in range(first, first + videos):
        for index in range(int((end - start) * FPS)):
            at = start + (index + (stream - first) / videos) / FPS
            layer = LAYERS[index % len(LAYERS)]
            count = PACKETS[layer]
            found += [MediaOffer(at + 0.0002 * i, stream, False, layer, i == count - 1) for i in range(count)]
    for stream in range(first, first + AUDIOS):
        for index in range(int((end - start) * 50)):
            found.append(MediaOffer(start + (index + stream / AUDIOS % 1) / 50, stream, True, 0, True))
    return iter(sorted(found, key=lambda packet: packet.at))


def offered_mbps(videos: int = VIDEOS) -> float:
    """What the offer takes on the wire."""
    packets = sum(PACKETS[layer] for layer in LAYERS) / len(LAYERS) * FPS * videos
    video = packets * (VIDEO_BYTES + MEDIA_ROUTED_BYTES)
    return (video + AUDIOS * 50 * (AUDIO_BYTES + MEDIA_ROUTED_BYTES)) * 8 / 1e6


class _Traffic:
    """What was sent, arrived and was told to be left out, over all links of a run."""

    def __init__(self) -> None:
        self.wires = Wires(self._handle_frame)
        self.sent: dict[tuple[int, bool, int], MediaOffer] = {}
        self.came: dict[tuple[int, bool, int], float] = {}
        self.bytes_by: dict[Link, dict[int, int]] = defaultdict(Counter)
        self.skipped: set[tuple[int, bool, int]] = set()
        self._numbers: Counter[tuple[int, bool]] = Counter()
        self._pictures: Counter[tuple[int, bool]] = Counter()  # complete ones

    def send(self, link: Link, packet: MediaOffer) -> None:
        stream = packet.stream, packet.audio
        number = self._numbers[stream]
        self._numbers[stream] += 1
        self.sent[(*stream, number)] = packet
        frame = MediaFrame(
            TrackId(1, packet.stream, int(packet.audio)), 0, number, self._pictures[stream] * 3000,
            bytes(AUDIO_BYTES if packet.audio else VIDEO_BYTES), audio=packet.audio, marker=packet.end,
            priority=0 if packet.audio else 3 if packet.layer else 2, temporal=packet.layer,
            entry=packet.layer > 0, hop_limit=16, generation=1, destinations=4,
        )  # fmt: skip
        self._pictures[stream] += packet.end
        self.wires.send(link, frames.encode_media(frame))

    def _handle_frame(self, receiver: Link, body: bytes) -> None:
        now = self.wires.now
        self.bytes_by[receiver][int(now / STEP)] += len(body) + MEDIA_ROUTED_BYTES - 35
        if len(body) < 50:
            skip = frames.decode_skip(body)
            for number in range(skip.first, skip.first + skip.packets):
                self.skipped.add((skip.track_id.participant, bool(skip.track_id.track), number))
            return
        media = frames.decode_media(body)
        self.came[media.track_id.participant, media.audio, media.sequence] = now

    def loss(self, *, audio: bool, layers: tuple[int, ...]) -> float:
        """Fraction of these packets that did not arrive, and that nobody left out."""
        of = [key for key, p in self.sent.items() if p.audio == audio and p.layer in layers]
        return sum(key not in self.came and key not in self.skipped for key in of) / len(of)

    def mbps(self, link: Link, step: int) -> float:
        return self.bytes_by[link][step] * 8 / 1e6 / STEP


def _link(own: int, peer: int, rng: random.Random) -> Link:
    link = Link(own_index=own, peer_index=peer, probe_interval=0.1, dead_after=5.0, rng=rng)
    link.install_key(1, bytes([own] * 16), bytes([peer] * 16), 0.0)
    return link


RTTS_MS = (10.0, 40.0, 80.0, 160.0)
SHARED_RTTS_MS = ((60.0, 60.0), (20.0, 120.0))
WIDE_SHARE, QUEUE_MS = 1.3, 400.0  # × the offer; of the path
_Queue = dict[int, float]  # step → ms


def brownout(rtt_ms: float = 60.0, *, seed: int = 1, loss: float = 0.0, share: float = 0.5) -> Brownout:
    """The path falls to *share* of what is offered, and recovers. *loss*: fraction at random besides."""
    traffic, rng = _Traffic(), random.Random(seed)
    near, far = _link(1, 2, rng), _link(2, 1, rng)
    wide, narrow = (
        LinkConditions(
            delay_ms=rtt_ms / 2, loss=loss, rate_bps=offered_mbps() * 1e6 * times, queue_ms=QUEUE_MS
        )
        for times in (WIDE_SHARE, share)
    )
    forth = LinkModel(wide, random.Random(seed * 2 + 1))
    back = LinkModel(LinkConditions(delay_ms=rtt_ms / 2, loss=loss), random.Random(seed * 2 + 2))
    wires = traffic.wires
    wires.join(near, far, forth, back)
    wires.at(NARROW_AT, lambda: forth.adopt(NARROW_AT, narrow))
    wires.at(WIDE_AT, lambda: forth.adopt(WIDE_AT, wide))
    queue: _Queue = {}

    def watch() -> None:
        queue[int(wires.now / STEP + 0.5)] = forth.backlog(wires.now) * 1e3
        wires.at(wires.now + STEP, watch)

    wires.at(0.0, watch)
    for packet in offer(0.0, END):
        wires.advance(packet.at)
        traffic.send(near, packet)
    wires.advance(END + 2.0)
    return _judge(traffic, far, queue, rtt_ms=rtt_ms, seed=seed, share=share)


def _judge(
    traffic: _Traffic, far: Link, queue: _Queue, *, rtt_ms: float, seed: int, share: float
) -> Brownout:
    steps = range(int(END / STEP))
    arrived = {step: traffic.mbps(far, step) for step in steps}
    narrow = [step for step in steps if NARROW_AT <= step * STEP < WIDE_AT]
    settled = [step for step in narrow if step * STEP >= NARROW_AT + 2.0]
    within = int(1.0 / STEP)
    back = next(
        (step for step in narrow if all(queue[t] <= 50.0 for t in range(step, step + within))), narrow[-1]
    )
    recovered = next(
        (
            step
            for step in range(int(WIDE_AT / STEP), len(steps) - within)
            if sum(arrived[t] for t in range(step, step + within)) / within >= 0.9 * offered_mbps()
        ),
        len(steps),
    )
    return Brownout(
        rtt_ms=rtt_ms,
        seed=seed,
        offered_mbps=round(offered_mbps(), 3),
        narrow_mbps=round(offered_mbps() * share, 3),
        audio_loss=traffic.loss(audio=True, layers=(0,)),
        base_loss=traffic.loss(audio=False, layers=(0,)),
        queue_p99_ms=percentile(sorted(queue[s] for s in settled), 0.99),
        queue_back_s=round(back * STEP - NARROW_AT, 2),
        recovered_s=round(recovered * STEP - WIDE_AT, 2),
        used_narrow=sum(arrived[s] for s in settled) / len(settled) / (offered_mbps() * share),
        unexplained_loss=traffic.loss(audio=False, layers=(1, 2)),
        series=tuple((s * STEP, offered_mbps(), arrived[s], queue[s]) for s in steps),
    )


def fairness(
    rtts_ms: tuple[float, float] = (60.0, 60.0), *, seed: int = 1, seconds: float = 90.0
) -> Fairness:
    """Two links share a bottleneck that carries 60 % of what both offer; the second begins later."""
    traffic, rng = _Traffic(), random.Random(seed)
    carried = offered_mbps() * 2 * 0.6
    shared = LinkModel(
        LinkConditions(delay_ms=rtts_ms[0] / 2, rate_bps=carried * 1e6, queue_ms=400.0), random.Random(seed)
    )
    links = []
    for index, rtt in enumerate(rtts_ms):
        near, far = _link(10 + index, 20 + index, rng), _link(20 + index, 10 + index, rng)
        back = LinkModel(LinkConditions(delay_ms=rtt - rtts_ms[0] / 2), random.Random(seed + 5 + index))
        traffic.wires.join(near, far, shared, back)
        links.append((near, far))
    late = seconds / 6
    packets = [(p, links[0][0]) for p in offer(0.0, seconds)]
    packets += [(p, links[1][0]) for p in offer(late, seconds, first=100)]
    waits: list[float] = []
    for packet, link in sorted(packets, key=lambda entry: entry[0].at):
        traffic.wires.advance(packet.at)
        if packet.audio and packet.at > late + 5.0:
            waits.append(shared.backlog(packet.at) * 1e3)
        traffic.send(link, packet)
    traffic.wires.advance(seconds + 2.0)
    last = range(int(seconds * 0.75 / STEP), int(seconds / STEP))
    one, other = (sum(traffic.mbps(far, s) for s in last) / len(last) for _, far in links)
    return Fairness(
        rtt_ms=rtts_ms,
        carried_mbps=round(carried, 3),
        shares=(round(one, 3), round(other, 3)),
        index=(one + other) ** 2 / (2 * (one * one + other * other)),
        queue_p95_ms=percentile(sorted(waits), 0.95),
        base_loss=traffic.loss(audio=False, layers=(0,)),
    )
