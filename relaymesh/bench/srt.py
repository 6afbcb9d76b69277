"""Our relay link beside the real ``srt-live-transmit``, over the same emulated link, in real time.

In: cells, systems, seconds and a seed. Out: one :class:`~relaymesh.bench.srt_measure.SrtResult`
for each system and cell. Every run has two namespaces of its own, joined by a fresh
emulator whose losses come from the same seed, and the same constant sender; only
what stands between the sender and the receiver differs. All but the emulator, the sender
and the receiver run as any process does.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from relaymesh.bench import srt_relay, srt_traffic
from relaymesh.bench.srt_cells import RELAYMESH, Cell, System
from relaymesh.bench.srt_measure import Offer, Spent, SrtResult, conclude, difference
from relaymesh.netsim.emulate.cleanup import RunState, new_run
from relaymesh.netsim.emulate.emulator import Counters, WireSpec
from relaymesh.netsim.emulate.namespaces import NotAllowed
from relaymesh.netsim.emulate.plan import Host, address_at
from relaymesh.netsim.emulate.processes import Child, ChildDied, Command, end_all
from relaymesh.netsim.emulate.runner import EmulationFailed, Place, why_invalid
from relaymesh.netsim.emulate.world import EmulatorDied, World
from relaymesh.netsim.link_model import UDP_OVERHEAD_BYTES

PROGRAM = "srt-live-transmit"
HOW_TO_INSTALL = f"{PROGRAM} is not installed; on Debian and Ubuntu: apt-get install srt-tools"
NEAR, FAR = "near", "far"
NEAR_ADDRESS, FAR_ADDRESS = address_at(1), address_at(2)
WIRE_PORT, IN_PORT, OUT_PORT = 7500, 7600, 7601
RATE = 1000  # packets a second, and 9.6 Mbit/s: the class of a small conference, as in `bench link`
PAYLOAD_BYTES = 1200  # of a WebRTC video packet; SRT's live mode carries up to 1316
STARTING_S = 2.5  # until all processes run
WARM_UP_S = 4.0  # of traffic that is not counted: SRT connects, our link measures
DRAIN_S = 1.0  # beyond SRT's latency and one RTT
SRT_HEADER_BYTES = 16  # draft-sharabayko-srt, section 3


Reading = tuple[dict[tuple[str, str], Counters], float]  # what passed each wire, CPU seconds of the system


@dataclass(frozen=True, slots=True)
class Pair:
    """Two hosts and the emulated link between them."""

    cell: Cell
    seed: int

    @property
    def hosts(self) -> tuple[Host, ...]:
        """One namespace for each side."""
        return Host(NEAR, (NEAR_ADDRESS,)), Host(FAR, (FAR_ADDRESS,))

    def wires(self) -> list[WireSpec]:
        """Forth and back; the same seed loses the same n-th packets."""
        conditions = self.cell.conditions
        return [
            WireSpec(NEAR_ADDRESS, FAR_ADDRESS, conditions, f"{self.seed}:{NEAR}:{FAR}"),
            WireSpec(FAR_ADDRESS, NEAR_ADDRESS, conditions, f"{self.seed}:{FAR}:{NEAR}"),
        ]


def why_no_srt() -> str | None:
    """Why SRT cannot be run here, in one line; ``None`` when it can."""
    return None if shutil.which(PROGRAM) else HOW_TO_INSTALL


def commands(system: System, cell: Cell) -> tuple[Command, Command]:
    """What carries the payloads, on the near and on the far side."""
    tap, sink = f"{srt_traffic.LOOPBACK}:{IN_PORT}", f"{srt_traffic.LOOPBACK}:{OUT_PORT}"
    if system is RELAYMESH:
        near, far = f"{NEAR_ADDRESS}:{WIRE_PORT}", f"{FAR_ADDRESS}:{WIRE_PORT}"
        environment = {srt_relay.KEYS: f"{secrets.token_hex(16)},{secrets.token_hex(16)}"}
        ends = (("1", "2", near, far, tap, sink), ("2", "1", far, near, tap, sink))
        names = ("link-near", "link-far")
        both = [Command(n, a, environment, srt_relay.PROGRAM) for n, a in zip(names, ends, strict=True)]
        return both[0], both[1]
    latency = f"latency={system.latency_ms(cell)}"
    there = f"srt://{FAR_ADDRESS}:{WIRE_PORT}"
    return (
        Command("srt-near", (f"udp://{tap}", f"{there}?mode=caller&{latency}"), program=(PROGRAM,)),
        Command("srt-far", (f"{there}?mode=listener&{latency}", f"udp://{sink}"), program=(PROGRAM,)),
    )


def run(
    cell: Cell, system: System, place: Place, *, seconds: float, seed: int, logs: Path | None = None
) -> SrtResult:
    """Measure *system* over *cell*; the processes' logs are kept in a folder under *logs*.

    Raises:
        EmulationFailed: it did not come to a result.
    """
    state = new_run(place.root)
    state.scenario = f"bench srt {cell}"
    state.own_user_namespace = place.own_user_namespace
    warm_up = round(WARM_UP_S * RATE)
    offer = Offer(RATE, PAYLOAD_BYTES, warm_up, round(seconds * RATE))
    try:
        with closing(World(Pair(cell, seed), state)) as world:
            return trio.run(_Run(cell, system, offer, world, state).run)
    except (OSError, ChildDied, EmulatorDied, NotAllowed) as error:
        raise EmulationFailed(f"{system.name} over {cell}: {error}") from None
    finally:
        if logs is not None:
            goal = logs / f"{cell}-{system.name}".replace(":", "-")
            goal.mkdir(parents=True, exist_ok=True)
            for log in state.folder.glob("*.log"):
                shutil.copyfile(log, goal / log.name)
        state.remove()


class _Run:
    """One run, from the start of its processes to its result."""

    def __init__(self, cell: Cell, system: System, offer: Offer, world: World, state: RunState) -> None:
        self.cell = cell
        self.system = system
        self.offer = offer
        self.world = world
        self.state = state
        tag, self.start = secrets.randbits(62), time.monotonic() + STARTING_S
        near, far = (world.namespaces[name] for name in (NEAR, FAR))
        ours, theirs = commands(system, cell)
        self.received, self.sent = state.folder / "received", state.folder / "sent"
        receive = (str(OUT_PORT), str(tag), str(self.received))
        numbers = (IN_PORT, tag, offer.rate, offer.payload_bytes, offer.first + offer.count, self.start)
        send = (*map(str, numbers), str(self.sent))
        self.receiver = Child(Command("receiver", receive, program=srt_traffic.RECEIVE_PROGRAM), far, state)
        self.sender = Child(Command("sender", send, program=srt_traffic.SEND_PROGRAM), near, state)
        self.ends = [Child(theirs, far, state), Child(ours, near, state)]

    async def run(self) -> SrtResult:
        """The result. Raises :class:`ChildDied`, ``OSError``, :class:`EmulatorDied`."""
        children = [self.receiver, *self.ends, self.sender]
        try:
            for child in children:
                child.start()
            self.world.tell_children()
            await self._watch(self.start)
            for child in (self.receiver, self.sender):
                child.go_first()  # the measure, not what is measured
            begin = self.start + self.offer.first / self.offer.rate
            await self._watch(begin)
            self.world.begin_measuring()
            before = self._reading()
            self.sender.wanted = (
                False  # it ends by itself; what it leaves behind says whether it did its work
            )
            await self._watch(begin + self.offer.count / self.offer.rate)
            after, stats = self._reading(), self.world.stats()
            latency_ms = self.system.latency_ms(self.cell) or 0
            await self._watch(time.monotonic() + DRAIN_S + (latency_ms + self.cell.rtt_ms) / 1e3)
        finally:
            with trio.CancelScope(shield=True):
                await end_all(children)
        return self._conclude(before, after, stats)

    async def _watch(self, until: float) -> None:
        """Wait; a process that ends meanwhile ends the run."""
        while (left := until - time.monotonic()) > 0:
            await trio.sleep(min(left, 0.2))
            for child in (self.receiver, self.sender, *self.ends):
                child.check()

    def _reading(self) -> Reading:
        wires: dict[tuple[str, str], Counters] = self.world.stats()["wires"]
        return wires, sum(cpu_seconds(self.state.children[child.name].number) for child in self.ends)

    def _conclude(self, before: Reading, after: Reading, stats: dict[str, Any]) -> SrtResult:
        if not self.received.exists() or not self.sent.exists():
            raise ChildDied("the sender or the receiver did not come to an end")
        arrivals = srt_traffic.read_arrivals(self.received)
        if not arrivals:
            said = " ".join(child.log.read_text(errors="replace").strip()[-300:] for child in self.ends)
            raise ChildDied(f"nothing arrived at all. {said}")
        ways = ((NEAR_ADDRESS, FAR_ADDRESS), (FAR_ADDRESS, NEAR_ADDRESS))
        forth, back = (difference(after[0].get(way), before[0].get(way)) for way in ways)
        own = srt_relay.header_bytes() if self.system is RELAYMESH else SRT_HEADER_BYTES
        return conclude(
            self.cell,
            self.system,
            self.offer,
            arrivals,
            Spent(forth, back, after[1] - before[1], own + UDP_OVERHEAD_BYTES),
            emulator_late_ms=stats["lateness_ms"]["p99"],
            sender_late_ms=json.loads(self.sent.read_text())["late_p99_ms"],
            invalid=why_invalid(stats, self.world.fifo) or "",
        )


def cpu_seconds(process: int) -> float:
    """User and system time of *process*, all its threads, so far. Raises ``OSError``: it is gone."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # proc(5): fields 14 and 15


def run_all(
    cells: list[Cell], systems: list[System], place: Place, *, seconds: float, seed: int, logs: Path | None
) -> Iterator[SrtResult]:
    """Every system over every cell, one after the other."""
    for cell in cells:
        for system in systems:
            yield run(cell, system, place, seconds=seconds, seed=seed, logs=logs)
