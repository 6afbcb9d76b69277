"""What one relay hop costs a packet: publisher → node → transit node → node → player, on loopback.

In: rows, rounds. Out: a :class:`HopResult` for each row. Counted is the CPU time of the transit node's
process alone, less what it needs while nothing is published, for each packet that it passed on. Beside it,
in the same rounds, a ``srt-live-transmit`` that does the same from SRT to SRT, less its own idle CPU, where
it is installed.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from relaymesh.bench.edge import DRAIN_S, LEAST_ARRIVED, NODE, WARM_UP, WARM_UP_S, Edge, Run
from relaymesh.bench.edge_feed import Publisher
from relaymesh.bench.edge_players import Players
from relaymesh.bench.packet_client import open_socket
from relaymesh.bench.packet_mesh import BenchFailed, Mesh, Shape, process_cpu_s, running
from relaymesh.bench.packet_rows import Row
from relaymesh.bench.srt import PROGRAM as SRT
from relaymesh.bench.worker import Worker, working
from relaymesh.demo.plan import HOST
from relaymesh.demo.ports import free_ports

FIRST, TRANSIT, LAST = "ingress", "transit", "egress"
SHAPE = Shape((FIRST, TRANSIT, LAST), ((FIRST, TRANSIT), (TRANSIT, LAST)))
IDLE_S = 3.0  # of each round
SRT_STARTING_S = 2.0  # listeners first; a caller that finds none tries again only later
SRT_LATENCY_MS = 20  # its least, and nothing is lost on loopback

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class HopResult:
    """One row, medians over the rounds."""

    row: str
    cost_us: float  # CPU of the transit node for each packet it passed on
    srt_us: float | None  # CPU of srt-live-transmit for the same; None: not measured
    ratio: float | None  # of cost to SRT's, the median of each round's
    idle_ms: float  # CPU a second of the transit node with nothing published; subtracted
    arrived: float  # least fraction that reached the player
    p99_ms: float  # from the publisher to the player

    @property
    def note(self) -> str:
        """What speaks against the row; empty: nothing."""
        if self.arrived < LEAST_ARRIVED:
            return f"only {self.arrived * 100:.2f} % arrived"
        return ""


def has_srt() -> bool:
    """Whether there is an srt-live-transmit to compare with."""
    return shutil.which(SRT) is not None


def measure(rows: Sequence[Row], *, rounds: int, seconds: float, say: Say) -> list[HopResult]:
    """Every row, in turn in every round. Raises :class:`BenchFailed`."""
    runs: dict[Row, list[tuple[float, Run, int, float | None]]] = {row: [] for row in rows}
    with ExitStack() as stack:
        say("starting a controller and three nodes")
        mesh = stack.enter_context(running(SHAPE))
        players = stack.enter_context(working("player", Players, "gcm", "none"))
        feed = stack.enter_context(working("publisher", Publisher, "gcm", False))
        transit = mesh.servers[TRANSIT]
        feed.ask("connect", mesh.http(FIRST))
        feed.ask("run", WARM_UP, 0.2, NODE)
        mesh.wait_for(lambda: _joined(mesh, players), "the player joins")
        edge = Edge(transit, feed, players)
        edge.run(WARM_UP, WARM_UP_S)
        srt = stack.enter_context(_srt_chain()) if has_srt() else None
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            srt_before = srt.cpu_s() if srt is not None else 0.0
            idle = edge.idle(IDLE_S)[NODE]
            srt_idle = (srt.cpu_s() - srt_before) / IDLE_S if srt is not None else 0.0
            for row in rows:
                before = _passed_on(mesh)
                run = edge.run(row, seconds)
                passed = _passed_on(mesh) - before
                theirs = srt.cost_us(feed, row, seconds, srt_idle) if srt is not None else None
                runs[row].append((idle, run, passed, theirs))
    return [conclude(row, found) for row, found in runs.items()]


def conclude(row: Row, runs: Sequence[tuple[float, Run, int, float | None]]) -> HopResult:
    """The medians of (idle CPU seconds a second, the run, packets passed on, SRT's µs) of each round."""
    costs = [max(0.0, run.cpu_s - idle * run.seconds) * 1e6 / max(1, passed) for idle, run, passed, _ in runs]
    theirs = [found[3] for found in runs if found[3] is not None]
    ratios = [
        cost / max(found[3], 1e-9) for cost, found in zip(costs, runs, strict=True) if found[3] is not None
    ]
    return HopResult(
        row=str(row),
        cost_us=statistics.median(costs),
        srt_us=statistics.median(theirs) if theirs else None,
        ratio=statistics.median(ratios) if ratios else None,
        idle_ms=statistics.median(found[0] for found in runs) * 1e3,
        arrived=min(run.tally.arrived / run.sent.packets for _, run, _, _ in runs),
        p99_ms=statistics.median(run.tally.p99_ms for _, run, _, _ in runs),
    )


def _joined(mesh: Mesh, players: Worker) -> bool:
    """The publication is known at the last node some time after it is at the first."""
    try:
        players.ask("join", mesh.http(LAST), 1)
    except BenchFailed:
        players.ask("leave")
        return False
    return True


def _passed_on(mesh: Mesh) -> int:
    status = mesh.status(TRANSIT)
    if status is None:
        raise BenchFailed(f"{TRANSIT} does not tell its status")
    return int(status["forwarded"]["packets"])


# --- SRT -------------------------------------------------------------------------------------------


class _SrtChain:
    """UDP → SRT → the measured SRT → SRT → UDP, three processes."""

    def __init__(self, transit: subprocess.Popen[bytes], inlet: tuple[str, int], outlet: int) -> None:
        self._transit = transit
        self._inlet = inlet
        self._sink = open_socket(outlet)

    def cpu_s(self) -> float:
        """CPU time of the process in the middle. Raises :class:`BenchFailed`: it has ended."""
        if self._transit.poll() is not None:
            raise BenchFailed(f"{SRT} ended with exit code {self._transit.returncode}")
        return process_cpu_s(self._transit.pid)

    def cost_us(self, feed: Worker, row: Row, seconds: float, idle: float) -> float:
        """µs of CPU for each packet that came out; *idle*: CPU seconds a second that do not count.

        Raises:
            BenchFailed: it carries nothing.
        """
        self._drain()
        began, before = time.monotonic(), self.cpu_s()
        feed.tell("run_plain", row, seconds, self._inlet)
        deadline = time.monotonic() + seconds + DRAIN_S
        came = 0
        while time.monotonic() < deadline:
            time.sleep(0.005)
            came += self._drain()
        feed.answer()
        spent = self.cpu_s() - before - idle * (time.monotonic() - began)
        if not came:
            raise BenchFailed(f"nothing came through {SRT}")
        return max(0.0, spent) * 1e6 / came

    def _drain(self) -> int:
        came = 0
        while True:
            try:
                self._sink.recv(1)
                came += 1
            except BlockingIOError:
                return came

    def close(self) -> None:
        """Let go of the socket."""
        self._sink.close()


@contextmanager
def _srt_chain() -> Iterator[_SrtChain]:
    ports = free_ports(4)
    inlet, first, second, outlet = (next(ports) for _ in range(4))
    latency = f"latency={SRT_LATENCY_MS}"
    ways = (  # the last first: who calls wants somebody to listen
        (f"srt://{HOST}:{second}?mode=listener&{latency}", f"udp://{HOST}:{outlet}"),
        (f"srt://{HOST}:{first}?mode=listener&{latency}", f"srt://{HOST}:{second}?mode=caller&{latency}"),
        (f"udp://{HOST}:{inlet}", f"srt://{HOST}:{first}?mode=caller&{latency}"),
    )
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for way in ways:
            processes.append(
                subprocess.Popen(
                    [SRT, *way],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )
            time.sleep(SRT_STARTING_S / len(ways))
        chain = _SrtChain(processes[1], (HOST, inlet), outlet)
        try:
            yield chain
        finally:
            chain.close()
    finally:
        for process in processes:
            process.kill()  # it has nothing to keep, and waits for its buffers on SIGTERM
            process.wait()
