"""One relay link under loss, for each repair policy: what stays lost, what comes late, what it costs.

In: a :class:`Cell` (RTT, loss, burst, policy, seed). Out: a :class:`Result`.
Two real :class:`~relaymesh.protocol.link.Link` objects talk over the emulated
link in virtual time; both directions lose alike, so that ACKs are lost too.

The offer is that of a small conference, 1,000 packets/s and 7.9 Mbit/s: six
video streams of 30 frames/s and 5 packets a frame, two audio streams of
50 packets/s. Packets of a frame leave 0.2 ms apart.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

from relaymesh.bench.wire import Wires
from relaymesh.netsim.link_model import GilbertElliott, LinkConditions, LinkModel
from relaymesh.protocol import frames
from relaymesh.protocol.frames import MediaFrame
from relaymesh.protocol.ids import TrackId
from relaymesh.protocol.link import Link
from relaymesh.protocol.repair import policy_called

RTTS_MS = (10.0, 40.0, 80.0, 160.0, 300.0)
LOSSES = (0.0, 0.001, 0.01, 0.03, 0.05, 0.1)
BURSTS = (1, 3, 8)  # mean length; 1 is random
POLICY_NAMES = ("none", "arq", "fec", "adaptive")
WARM_UP = 3.0  # seconds that are not counted: the link has nothing measured yet
DRAIN = 3.0  # seconds after the last packet
VIDEOS, AUDIOS = 6, 2


@dataclass(frozen=True, slots=True)
class Cell:
    """One run."""

    rtt_ms: float
    loss: float  # fraction, each way
    burst: int  # mean length of a run of losses; 1: each packet for itself
    policy: str
    seconds: float = 20.0  # that are counted
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Result:
    """What a run measured. Delays are beyond the one-way delay of the link."""

    rtt_ms: float
    loss: float
    burst: int
    policy: str
    packets: int  # offered
    lost_on_wire: float  # fraction of all datagrams forth
    residual: float  # fraction of media packets that never came
    residual_audio: float  # the same of audio
    residual_in_time: float  # fraction that never came or came later than 1.5 × RTT + 20 ms
    p50_ms: float
    p99_ms: float
    p999_ms: float
    p99_audio_ms: float
    overhead: float  # repair bytes per media byte, forth
    ack_overhead: float  # bytes of ACKs back per media byte
    cpu_us: float  # process time of both ends and the emulation, per media packet
    duplicates: int  # packets handed up twice; must be 0

    @property
    def bound_ms(self) -> float:
        """The added delay that a good link stays below."""
        return 1.5 * self.rtt_ms + 20.0


def offer(seconds: float) -> Iterator[tuple[float, bool, int]]:
    """(time, audio?, stream) of each packet, in order."""
    times: list[tuple[float, bool, int]] = []
    for stream in range(VIDEOS):
        for index in range(int(seconds * 30)):
            at = (index + stream / VIDEOS) / 30
            times += [(at + 0.0002 * i, False, stream) for i in range(5)]
    for stream in range(AUDIOS):
        times += [((i + 0.3 + stream / AUDIOS) / 50, True, stream) for i in range(int(seconds * 50))]
    return iter(sorted(times))


def run(cell: Cell) -> Result:
    """Measure one cell. Same cell, same result (but the CPU)."""
    started = time.process_time()
    bench = _Bench(cell)
    bench.run()
    return bench.result(time.process_time() - started)


class _Bench:
    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self._wires = Wires(self._handle_frame)
        rng = random.Random(cell.seed)
        self.near = self._make_link(1, 2, rng)
        self.far = self._make_link(2, 1, rng)
        burst = GilbertElliott.from_mean(cell.loss, cell.burst) if cell.loss and cell.burst > 1 else None
        conditions = LinkConditions(delay_ms=cell.rtt_ms / 2, loss=0.0 if burst else cell.loss, burst=burst)
        self._forth = LinkModel(conditions, random.Random(cell.seed * 2 + 1))
        self._wires.join(
            self.near, self.far, self._forth, LinkModel(conditions, random.Random(cell.seed * 2 + 2))
        )
        self._sent_at: list[tuple[float, bool]] = []
        self._came_at: dict[int, float] = {}
        self._duplicates = 0
        self._before: dict[str, float] = {}

    def _make_link(self, own: int, peer: int, rng: random.Random) -> Link:
        link = Link(
            own_index=own, peer_index=peer, probe_interval=0.1, dead_after=5.0, rng=rng,
            repair=policy_called(self.cell.policy),
        )  # fmt: skip
        link.install_key(1, bytes([own] * 16), bytes([peer] * 16), 0.0)
        return link

    def run(self) -> None:
        end = WARM_UP + self.cell.seconds
        payloads = {True: bytes(120), False: bytes(1050)}
        for when, audio, stream in offer(end):
            self._wires.advance(when)
            if when >= WARM_UP and not self._before:
                self._before = self._counters()
            number = len(self._sent_at)
            self._sent_at.append((when, audio))
            frame = MediaFrame(
                TrackId(1, stream, int(audio)), 0, number, 0, payloads[audio], audio=audio,
                priority=0 if audio else 2, hop_limit=16, generation=1, destinations=4,
            )  # fmt: skip
            self._wires.send(self.near, frames.encode_media(frame))
        self._after = self._counters()
        self._wires.advance(end + DRAIN)

    def _counters(self) -> dict[str, float]:
        near, far = self.near.debug_state(), self.far.debug_state()
        repair = near["repair"]
        assert isinstance(repair, dict)
        return {
            "media": float(str(near["media_bytes"])),
            "repair": float(repair["sent_bytes"]),
            "acks": float(str(far["ack_bytes"])),
        }

    def _handle_frame(self, receiver: Link, body: bytes) -> None:
        number = frames.decode_media(body).sequence
        if number in self._came_at:
            self._duplicates += 1
        else:
            self._came_at[number] = self._wires.now

    def result(self, cpu: float) -> Result:
        cell = self.cell
        one_way = cell.rtt_ms / 2
        counted = [
            (audio, (self._came_at[i] - at) * 1e3 - one_way if i in self._came_at else None)
            for i, (at, audio) in enumerate(self._sent_at)
            if at >= WARM_UP
        ]
        delays = sorted(delay for _, delay in counted if delay is not None)
        audio = sorted(delay for is_audio, delay in counted if is_audio and delay is not None)
        audio_all = sum(is_audio for is_audio, _ in counted)
        bound = 1.5 * cell.rtt_ms + 20.0
        spent = {name: self._after[name] - self._before[name] for name in self._before}
        model = self._forth
        return Result(
            rtt_ms=cell.rtt_ms,
            loss=cell.loss,
            burst=cell.burst,
            policy=cell.policy,
            packets=len(counted),
            lost_on_wire=model.lost / max(1, model.lost + model.delivered),
            residual=1 - len(delays) / len(counted),
            residual_audio=1 - len(audio) / audio_all,
            residual_in_time=1 - sum(delay <= bound for delay in delays) / len(counted),
            p50_ms=percentile(delays, 0.5),
            p99_ms=percentile(delays, 0.99),
            p999_ms=percentile(delays, 0.999),
            p99_audio_ms=percentile(audio, 0.99),
            overhead=spent["repair"] / spent["media"],
            ack_overhead=spent["acks"] / spent["media"],
            cpu_us=cpu * 1e6 / len(self._sent_at),
            duplicates=self._duplicates,
        )


def percentile(ordered: list[float], fraction: float) -> float:
    """The value at *fraction* of an ordered list (nearest rank); 0 of an empty one."""
    if not ordered:
        return 0.0
    return max(0.0, round(ordered[min(len(ordered) - 1, int(fraction * len(ordered)))], 3))


def grid(*, quick: bool = False, seconds: float = 20.0, seed: int = 1) -> list[Cell]:
    """The cells of the benchmark; *quick*: few of them, and short."""
    rtts, losses, bursts = (RTTS_MS, LOSSES, BURSTS) if not quick else ((40.0,), (0.0, 0.05), (1, 8))
    return [
        Cell(rtt, loss, burst, policy, min(seconds, 3.0) if quick else seconds, seed)
        for rtt in rtts
        for loss in losses
        for burst in (bursts if loss else bursts[:1])
        for policy in POLICY_NAMES
    ]
