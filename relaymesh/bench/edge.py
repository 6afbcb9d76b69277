"""What a packet to each of N players costs a real node, beside the least a Python process can do.

In: rows, players, rounds, a protection profile. Out: an :class:`EdgeResult` for each row. The node is a
process as an operator starts it, with real WHIP and WHEP clients on loopback in processes of their own;
counted is the CPU time of the node's process only, less what it needs while all sessions are connected and
nothing is published. The floor program gets the same paced feed in the same round, so that the ratio holds
on a machine that others use too.
"""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from relaymesh.bench.arrivals import Tally
from relaymesh.bench.edge_feed import Publisher, Sent
from relaymesh.bench.edge_floor import Floor
from relaymesh.bench.edge_players import Feedback, Players
from relaymesh.bench.packet_client import profile_called
from relaymesh.bench.packet_mesh import Mesh, Server, Shape, process_cpu_s, running
from relaymesh.bench.packet_rows import Row
from relaymesh.bench.worker import Worker, working

NODE = "edge"
DRAIN_S = 0.3  # without a packet, before the counters are read
DRAINED_WITHIN_S = 5.0
LEAST_ARRIVED = 0.999  # a row of which less came says so
LEAD_S = 10.0  # with transport-wide feedback: what an estimate needs to rise to these rates
WARM_UP = Row(400, 8)
WARM_UP_S = 2.0
BOUND_MS = 5.0  # of the added delay at p99, up to which a rate counts as carried
SATURATION_BURST = 16
FIRST_RATE = 200  # packets a second
MOST_STEPS = 24
FINEST_STEP = 1.08  # between the last rate that was carried and the first that was not

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Setting:
    """What all rows of a run share."""

    players: int = 50
    rounds: int = 7
    seconds: float = 4.0  # of each row and round
    idle_seconds: float = 3.0  # of each round
    lead_seconds: float = 0.0  # of each row and round that do not count: estimates of bandwidth rise
    profile: str = "gcm"  # or cm
    feedback: Feedback = "none"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the feed."""

    cpu_s: float
    seconds: float
    sent: Sent
    tally: Tally

    def cost_us(self, idle: float) -> float:
        """µs of CPU for each packet that arrived; *idle*: CPU seconds a second that do not count."""
        return max(0.0, self.cpu_s - idle * self.seconds) * 1e6 / max(1, self.tally.arrived)


@dataclass(frozen=True, slots=True)
class EdgeResult:
    """One row, medians over the rounds. Costs are CPU time for each packet sent to a player."""

    row: str
    players: int
    profile: str
    feedback: str
    cost_us: float
    floor_us: float
    ratio: float  # of cost to floor, the median of each round's
    idle_ms: float  # CPU a second with all sessions connected and nothing published; subtracted
    arrived: float  # least fraction over the rounds
    floor_arrived: float
    p99_ms: float  # of the time from the publisher to a player
    feed_late_ms: float  # at p99, the worst round: a feed that is late offers other bursts than it says
    verified: bool  # what was opened was whole, in every round

    @property
    def note(self) -> str:
        """What speaks against the row; empty: nothing."""
        notes = []
        if self.arrived < LEAST_ARRIVED:
            notes.append(f"only {self.arrived * 100:.2f} % arrived")
        if self.floor_arrived < LEAST_ARRIVED:
            notes.append(f"only {self.floor_arrived * 100:.2f} % of the floor's")
        if not self.verified:
            notes.append("what arrived was not whole")
        return ", ".join(notes)


@dataclass(frozen=True, slots=True)
class Saturation:
    """The highest rate that was carried: nearly all arrived, p99 within the bound."""

    players: int
    profile: str
    feedback: str
    rate: float  # packets a second of the feed; 0: none was carried
    sent_per_s: float  # to all players
    per_core_s: float  # of those, for each core's worth of CPU that the node used
    cpu: float  # cores
    p99_ms: float
    ended_by: str  # what the next rate did


class Edge:
    """A node with its players, a publisher and the floor program, ready to measure."""

    def __init__(self, setting: Setting, node: Server, feed: Worker, players: Worker, floor: Worker | None):
        self.setting = setting
        self._node = node
        self._feed = feed
        self._players = players
        self._floor = floor

    def idle(self, seconds: float) -> float:
        """CPU seconds a second of the node while nothing is published."""
        began, before = time.monotonic(), self._node.cpu_s()
        time.sleep(seconds)
        return (self._node.cpu_s() - before) / (time.monotonic() - began)

    def run(self, row: Row, seconds: float, goal: str = "node") -> Run:
        """Feed the node or the floor. Raises :class:`BenchFailed`."""
        pid = self._node.pid if goal == "node" or self._floor is None else self._floor.pid
        self._players.ask("begin")
        began, before = time.monotonic(), process_cpu_s(pid)
        sent: Sent = self._feed.ask("run", row, seconds, goal, within=seconds * 3 + 30)
        self._drain()
        spent, took = process_cpu_s(pid) - before, time.monotonic() - began
        tally: Tally = self._players.ask("end")
        self._node.check()
        return Run(spent, took, sent, tally)

    def _drain(self) -> None:
        """Wait until nothing comes any more: a pacer may hold back what was sent."""
        before, deadline = -1, time.monotonic() + DRAINED_WITHIN_S
        while (arrived := self._players.ask("arrived")) != before and time.monotonic() < deadline:
            before = arrived
            time.sleep(DRAIN_S)


def measure(setting: Setting, rows: Sequence[Row], say: Say) -> list[EdgeResult]:
    """Every row, in turn in every round. Raises :class:`BenchFailed`."""
    runs: dict[Row, list[tuple[float, Run, Run]]] = {row: [] for row in rows}
    with ExitStack() as stack:
        edge = _set_up(stack, setting, say, with_floor=True)
        for number in range(setting.rounds):
            say(f"round {number + 1} of {setting.rounds}")
            idle = edge.idle(setting.idle_seconds)
            for row in rows:
                if setting.lead_seconds:
                    edge.run(row, setting.lead_seconds)
                run = edge.run(row, setting.seconds)
                runs[row].append((idle, run, edge.run(row, setting.seconds, "floor")))
    return [conclude(setting, row, found) for row, found in runs.items()]


def conclude(setting: Setting, row: Row, runs: Sequence[tuple[float, Run, Run]]) -> EdgeResult:
    """The medians of (idle CPU seconds a second, the node's run, the floor's run) of each round."""
    costs = [run.cost_us(idle) for idle, run, _ in runs]
    floors = [floor.cost_us(0.0) for _, _, floor in runs]

    def arrived(each: list[Run]) -> float:
        return min(run.tally.arrived / (run.sent.packets * setting.players) for run in each)

    return EdgeResult(
        row=str(row),
        players=setting.players,
        profile=setting.profile,
        feedback=setting.feedback,
        cost_us=statistics.median(costs),
        floor_us=statistics.median(floors),
        ratio=statistics.median(a / max(b, 1e-9) for a, b in zip(costs, floors, strict=True)),
        idle_ms=statistics.median(idle for idle, _, _ in runs) * 1e3,
        arrived=arrived([run for _, run, _ in runs]),
        floor_arrived=arrived([floor for _, _, floor in runs]),
        p99_ms=statistics.median(run.tally.p99_ms for _, run, _ in runs),
        feed_late_ms=max(run.sent.late_p99_ms for _, run, _ in runs),
        verified=all(run.tally.verified and floor.tally.verified for _, run, floor in runs),
    )


def saturate(setting: Setting, say: Say) -> Saturation:
    """Raise the rate until the node does not carry it any more. Raises :class:`BenchFailed`."""
    low, high, rate = 0, 0, FIRST_RATE  # carried, not carried, to try; packets a second
    best: Run | None = None
    ended_by = "no further rate was tried"
    with ExitStack() as stack:
        edge = _set_up(stack, setting, say, with_floor=False)
        idle = edge.idle(setting.idle_seconds)
        for _ in range(MOST_STEPS):
            run = edge.run(Row(rate, SATURATION_BURST), setting.seconds)
            refusal = why_not_carried(run, setting.players)
            say(f"{rate}/s to {setting.players} players: {refusal or 'carried'}")
            if refusal:
                high, ended_by = rate, f"{rate}/s: {refusal}"
                edge.idle(setting.idle_seconds)  # let the queues go
            else:
                low, best = rate, run
            rate = next_rate(low, high)
            if not rate:
                break
    return _saturation(setting, best, idle, ended_by)


def next_rate(low: int, high: int) -> int:
    """The rate to try when *low* was carried and *high* was not (0: none yet); 0: it is known."""
    if not high:
        return low * 2
    if not low:
        return high // 2 if high // 2 >= SATURATION_BURST else 0
    return round((low * high) ** 0.5) if high / low > FINEST_STEP else 0


def _saturation(setting: Setting, run: Run | None, idle: float, ended_by: str) -> Saturation:
    rate = run.sent.packets / run.sent.seconds if run else 0.0
    cpu = (run.cpu_s - idle * run.seconds) / run.sent.seconds if run else 0.0
    return Saturation(
        players=setting.players,
        profile=setting.profile,
        feedback=setting.feedback,
        rate=rate,
        sent_per_s=rate * setting.players,
        per_core_s=rate * setting.players / max(cpu, 1e-9),
        cpu=cpu,
        p99_ms=run.tally.p99_ms if run else 0.0,
        ended_by=ended_by,
    )


def why_not_carried(run: Run, players: int) -> str:
    """What says that this rate is too much; empty: nothing."""
    arrived = run.tally.arrived / (run.sent.packets * players)
    if run.sent.late_p99_ms > BOUND_MS:
        return f"the feed was late: {run.sent.late_p99_ms:.1f} ms at p99"
    if arrived < LEAST_ARRIVED:
        return f"{arrived * 100:.2f} % arrived"
    if run.tally.p99_ms > BOUND_MS:
        return f"p99 {run.tally.p99_ms:.1f} ms"
    return ""


def _set_up(stack: ExitStack, setting: Setting, say: Say, *, with_floor: bool) -> Edge:
    """All processes, connected and warm; they end with *stack*."""
    say("starting a controller and a node")
    mesh: Mesh = stack.enter_context(running(Shape((NODE,))))
    players = stack.enter_context(working("players", Players, setting.profile, setting.feedback))
    feed = stack.enter_context(working("publisher", Publisher, setting.profile, setting.feedback == "twcc"))
    feed.ask("connect", mesh.http(NODE))
    feed.ask("run", WARM_UP, 0.2, "node")
    say(f"{setting.players} players join")
    players.ask("join", mesh.http(NODE), setting.players, within=10.0 + setting.players)
    floor = None
    if with_floor:
        profile = profile_called(setting.profile)
        size = profile.key_bytes + profile.salt_bytes
        feed_key, *keys = (secrets.token_bytes(size) for _ in range(setting.players + 1))
        floor = stack.enter_context(working("floor", Floor, setting.profile, feed_key))
        feed.ask("aim", floor.ask("serve", keys, players.ask("listen", keys)), feed_key)
    edge = Edge(setting, mesh.servers[NODE], feed, players, floor)
    for goal in ("node", "floor")[: 1 + with_floor]:
        edge.run(WARM_UP, WARM_UP_S, goal)
    return edge
