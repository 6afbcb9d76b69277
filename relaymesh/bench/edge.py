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
from typing import Any

from relaymesh.bench.arrivals import Tally
from relaymesh.bench.edge_feed import Publisher, Sent
from relaymesh.bench.edge_floor import Floor
from relaymesh.bench.edge_players import Feedback, Players
from relaymesh.bench.janus import running_janus
from relaymesh.bench.packet_client import profile_called
from relaymesh.bench.packet_mesh import Mesh, Server, Shape, process_cpu_s, running
from relaymesh.bench.packet_rows import Row
from relaymesh.bench.worker import Worker, working

NODE, FLOOR, JANUS = "node", "floor", "janus"
DRAIN_S = 0.3  # without a packet, before the counters are read
DRAINED_WITHIN_S = 5.0
LEAST_ARRIVED = 0.999  # a row of which less came says so
LEAD_S = 10.0  # with transport-wide feedback: what an estimate needs to rise to these rates
WARM_UP = Row(400, 8)
WARM_UP_S = 2.0

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
    janus: bool = False  # measured besides


@dataclass(frozen=True, slots=True)
class Goal:
    """A process that the feed can go to."""

    pid: int
    method: str  # of the publisher
    argument: Any  # of it: where


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
class Round:
    """One row in one round, by goal: its run, and the CPU seconds a second that it needs when idle."""

    runs: dict[str, Run]
    idle: dict[str, float]

    def cost_us(self, goal: str) -> float:
        """µs of CPU for each packet that arrived."""
        return self.runs[goal].cost_us(self.idle[goal])

    def ratio(self, goal: str) -> float:
        """Of the node's cost to that of *goal*."""
        return self.cost_us(NODE) / max(self.cost_us(goal), 1e-9)


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
    janus_us: float | None = None  # None: not measured
    janus_ratio: float | None = None  # of cost to Janus's, the median of each round's
    janus_arrived: float | None = None

    @property
    def note(self) -> str:
        """What speaks against the row; empty: nothing."""
        notes = []
        if self.arrived < LEAST_ARRIVED:
            notes.append(f"only {self.arrived * 100:.2f} % arrived")
        if self.floor_arrived < LEAST_ARRIVED:
            notes.append(f"only {self.floor_arrived * 100:.2f} % of the floor's")
        if self.janus_arrived is not None and self.janus_arrived < LEAST_ARRIVED:
            notes.append(f"only {self.janus_arrived * 100:.2f} % of Janus's")
        if not self.verified:
            notes.append("what arrived was not whole")
        return ", ".join(notes)


class Edge:
    """A node with its players, a publisher and what is measured beside it, ready to measure."""

    def __init__(self, node: Server, feed: Worker, players: Worker) -> None:
        self.goals = {NODE: Goal(node.pid, "run", NODE)}
        self._node = node
        self._feed = feed
        self._players = players

    def idle(self, seconds: float) -> dict[str, float]:
        """CPU seconds a second of each goal while nothing is published."""
        began, before = time.monotonic(), {name: process_cpu_s(goal.pid) for name, goal in self.goals.items()}
        time.sleep(seconds)
        took = time.monotonic() - began
        self._node.check()
        return {name: (process_cpu_s(goal.pid) - before[name]) / took for name, goal in self.goals.items()}

    def run(self, row: Row, seconds: float, goal: str = NODE) -> Run:
        """Feed one goal. Raises :class:`BenchFailed`."""
        fed = self.goals[goal]
        self._players.ask("begin")
        began, before = time.monotonic(), process_cpu_s(fed.pid)
        sent: Sent = self._feed.ask(fed.method, row, seconds, fed.argument, within=seconds * 3 + 30)
        self._drain()
        spent, took = process_cpu_s(fed.pid) - before, time.monotonic() - began
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
    rounds: dict[Row, list[Round]] = {row: [] for row in rows}
    with ExitStack() as stack:
        edge = set_up(stack, setting, say, alone=False)
        for number in range(setting.rounds):
            say(f"round {number + 1} of {setting.rounds}")
            idle = edge.idle(setting.idle_seconds)
            for row in rows:
                if setting.lead_seconds:
                    edge.run(row, setting.lead_seconds)
                runs = {goal: edge.run(row, setting.seconds, goal) for goal in edge.goals}
                rounds[row].append(Round(runs, idle))
    return [conclude(setting, row, found) for row, found in rounds.items()]


def conclude(setting: Setting, row: Row, rounds: Sequence[Round]) -> EdgeResult:
    """The medians of all rounds of one row."""

    def cost_us(goal: str) -> float:
        return statistics.median(one.cost_us(goal) for one in rounds)

    def ratio(goal: str) -> float:
        return statistics.median(one.ratio(goal) for one in rounds)

    def arrived(goal: str) -> float:
        runs = [one.runs[goal] for one in rounds]
        return min(run.tally.arrived / (run.sent.packets * setting.players) for run in runs)

    nodes = [one.runs[NODE] for one in rounds]
    has_janus = JANUS in rounds[0].runs
    return EdgeResult(
        row=str(row),
        players=setting.players,
        profile=setting.profile,
        feedback=setting.feedback,
        cost_us=cost_us(NODE),
        floor_us=cost_us(FLOOR),
        ratio=ratio(FLOOR),
        idle_ms=statistics.median(one.idle[NODE] for one in rounds) * 1e3,
        arrived=arrived(NODE),
        floor_arrived=arrived(FLOOR),
        p99_ms=statistics.median(run.tally.p99_ms for run in nodes),
        feed_late_ms=max(run.sent.late_p99_ms for run in nodes),
        verified=all(run.tally.verified for one in rounds for run in one.runs.values()),
        janus_us=cost_us(JANUS) if has_janus else None,
        janus_ratio=ratio(JANUS) if has_janus else None,
        janus_arrived=arrived(JANUS) if has_janus else None,
    )


def set_up(stack: ExitStack, setting: Setting, say: Say, *, alone: bool) -> Edge:
    """All processes, connected and warm; they end with *stack*. *alone*: nothing beside the node."""
    say("starting a controller and a node")
    mesh: Mesh = stack.enter_context(running(Shape((NODE,))))
    players = stack.enter_context(working("players", Players, setting.profile, setting.feedback))
    feed = stack.enter_context(working("publisher", Publisher, setting.profile, setting.feedback == "twcc"))
    feed.ask("connect", mesh.http(NODE))
    feed.ask("run", WARM_UP, 0.2, NODE)
    say(f"{setting.players} players join")
    within = 10.0 + setting.players
    players.ask("join", mesh.http(NODE), setting.players, within=within)
    edge = Edge(mesh.servers[NODE], feed, players)
    if not alone:
        edge.goals[FLOOR] = _start_floor(stack, setting, feed, players)
    if not alone and setting.janus:
        say(f"{setting.players} viewers join Janus")
        janus = stack.enter_context(running_janus())
        players.ask("watch_janus", janus.api, setting.players, within=within)
        edge.goals[JANUS] = Goal(janus.server.pid, "run_plain", janus.feed)
    for goal in edge.goals:
        edge.run(WARM_UP, WARM_UP_S, goal)
    return edge


def _start_floor(stack: ExitStack, setting: Setting, feed: Worker, players: Worker) -> Goal:
    profile = profile_called(setting.profile)
    size = profile.key_bytes + profile.salt_bytes
    feed_key, *keys = (secrets.token_bytes(size) for _ in range(setting.players + 1))
    floor = stack.enter_context(working("floor", Floor, setting.profile, feed_key))
    feed.ask("aim", floor.ask("serve", keys, players.ask("listen", keys)), feed_key)
    return Goal(floor.pid, "run", FLOOR)
