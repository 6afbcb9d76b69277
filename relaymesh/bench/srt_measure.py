"""The arithmetic of the comparison with SRT.

In: what the receiver noted, the emulator's counters at both ends of the counted
time, the processes' CPU. Out: a :class:`SrtResult`. Runs nothing, and knows no clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from relaymesh.bench.link import percentile
from relaymesh.bench.srt_cells import Cell, System, recommended_latency_ms
from relaymesh.bench.srt_traffic import Arrival
from relaymesh.netsim.emulate.emulator import Counters

GRACE_MS = 20.0  # beyond a bound a packet is not late yet: SRT hands over some milliseconds after its latency
SENDER_LATE_MS = 5.0  # at p99: a sender that is later does not offer what it says


@dataclass(frozen=True, slots=True)
class Offer:
    """What is sent: the same to every system."""

    rate: int  # packets a second
    payload_bytes: int
    first: int  # index of the first packet that counts
    count: int  # packets that count

    @property
    def counted(self) -> range:
        """The indices that count."""
        return range(self.first, self.first + self.count)


@dataclass(frozen=True, slots=True)
class Spent:
    """What the counted time took."""

    forth: Counters  # of the emulated wire towards the receiver, in the counted time
    back: Counters
    cpu_s: float  # of the system's processes on both sides
    header_bytes: int  # around each payload, IP and UDP among them, without any repair


@dataclass(frozen=True, slots=True)
class SrtResult:
    """One system over one link. Delays are beyond the one-way delay of the link."""

    rtt_ms: float
    loss: float
    burst: float
    system: str
    latency_ms: int | None  # of SRT
    packets: int  # offered
    lost_on_wire: float  # fraction of the large packets forth
    residual: float  # fraction that never came
    late: float  # fraction that never came, or came later than SRT's recommended latency and 20 ms
    late_bound: float  # … or came later than 1.5 × RTT + 20 ms, and 20 ms
    p50_ms: float
    p99_ms: float
    p999_ms: float
    overhead: float  # bytes on the wire forth and back per payload byte, less 1
    overhead_repair: float  # the same without the headers of each packet: repair, acknowledgements, probes
    cpu_us: float  # of the processes on both sides, per packet
    duplicates: int
    emulator_late_ms: float  # at p99
    sender_late_ms: float  # at p99
    invalid: str = ""  # why it says nothing; empty: nothing speaks against it


def difference(after: Counters | None, before: Counters | None) -> Counters:
    """What passed between two readings; ``None``: nothing had passed."""
    nothing = (0,) * len(Counters._fields)
    return Counters(*(a - b for a, b in zip(after or nothing, before or nothing, strict=True)))


def conclude(
    cell: Cell,
    system: System,
    offer: Offer,
    arrivals: Iterable[Arrival],
    spent: Spent,
    *,
    emulator_late_ms: float = 0.0,
    sender_late_ms: float = 0.0,
    invalid: str = "",
) -> SrtResult:
    """The result of one run."""
    delays_by_index, duplicates = _delays_ms(offer, arrivals, cell.rtt_ms / 2)
    delays = sorted(delays_by_index.values())
    allowed_ms = recommended_latency_ms(cell.rtt_ms, cell.loss) + GRACE_MS
    payload = offer.count * offer.payload_bytes
    overhead = (spent.forth.bytes_in + spent.back.bytes_in) / payload - 1
    if not invalid and sender_late_ms > SENDER_LATE_MS:
        invalid = f"the sender was late: {sender_late_ms:.1f} ms at p99, more than {SENDER_LATE_MS:g} ms"
    return SrtResult(
        rtt_ms=cell.rtt_ms,
        loss=cell.loss,
        burst=cell.burst,
        system=system.name,
        latency_ms=system.latency_ms(cell),
        packets=offer.count,
        lost_on_wire=spent.forth.media_lost / max(1, spent.forth.media),
        residual=1 - len(delays) / offer.count,
        late=1 - sum(delay <= allowed_ms for delay in delays) / offer.count,
        late_bound=1 - sum(delay <= cell.bound_ms + GRACE_MS for delay in delays) / offer.count,
        p50_ms=percentile(delays, 0.5),
        p99_ms=percentile(delays, 0.99),
        p999_ms=percentile(delays, 0.999),
        overhead=overhead,
        overhead_repair=overhead - spent.header_bytes / offer.payload_bytes,
        cpu_us=spent.cpu_s * 1e6 / offer.count,
        duplicates=duplicates,
        emulator_late_ms=emulator_late_ms,
        sender_late_ms=sender_late_ms,
        invalid=invalid,
    )


def _delays_ms(offer: Offer, arrivals: Iterable[Arrival], one_way_ms: float) -> tuple[dict[int, float], int]:
    """Added delay by index of the packets that count, and how many of them came twice."""
    delays: dict[int, float] = {}
    duplicates = 0
    for index, sent_at, came_at in arrivals:
        if index not in offer.counted:
            continue
        if index in delays:
            duplicates += 1
        else:
            delays[index] = (came_at - sent_at) * 1e3 - one_way_ms
    return delays, duplicates


# --- what the comparison is to show --------------------------------------------------------------------

FEWEST_LOST = 1e-4  # residual loss that is as good as none: a few packets of a run


def checks(results: Iterable[SrtResult]) -> dict[str, bool]:
    """By name: what holds of our link beside SRT at its recommended latency."""
    by_cell: dict[tuple[float, float, float], dict[str, SrtResult]] = {}
    for result in results:
        by_cell.setdefault((result.rtt_ms, result.loss, result.burst), {})[result.system] = result
    found: dict[str, bool] = {}
    for (rtt_ms, loss, burst), of in by_cell.items():
        ours, theirs = of.get("relaymesh"), of.get("srt")
        if ours is None or theirs is None:
            continue
        cell = str(Cell(rtt_ms, loss, burst))
        found[f"{cell}: p99 added delay below SRT's"] = ours.p99_ms < theirs.p99_ms
        found[f"{cell}: residual loss not above SRT's"] = ours.residual <= max(theirs.residual, FEWEST_LOST)
        found[f"{cell}: loses or delays no more than SRT within SRT's latency"] = ours.late <= max(
            theirs.late, FEWEST_LOST
        )
    return found
